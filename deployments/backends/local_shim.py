"""Holds one engine process: starts it, writes down what it is, and writes down when and how it ended.

Run by path, without Django or any package, and detached: it is nobody's child, so no worker's death touches it. The
engine dies with its shim (Linux), so nothing is left if the shim itself is killed.

    python -S -E local_shim.py --tag=INSTANCE:NAME FOLDER ARGV...

In FOLDER: run.json once the engine is started, its mtime renewed every second; exit.json once it has ended; engine.log,
before it engine.log.1, and in log_at how many bytes of output came before engine.log's first.
SIGTERM is passed on to the engine, which is killed if it is still there three seconds later.
"""

import contextlib
import ctypes
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time

PR_SET_PDEATHSIG = 1
GRACE_S = 3.0
TICK_S = 1.0
LARGEST_LOG = 4 * 1024 * 1024


def main() -> int:
    tag, folder, argv = sys.argv[1].split("=", 1)[1], sys.argv[2], sys.argv[3:]
    os.chdir(folder)
    detach()
    woken, asked_at = wake_on_signals()
    port = free_port()
    values = {"{port}": str(port), "{key_file}": os.path.join(folder, "key"), "{tag}": tag}
    began, started_at = time.monotonic(), time.time()
    try:
        engine = start([fill(part, values) for part in argv])
    except OSError as error:
        with open("engine.log", "a", encoding="utf-8") as log:
            log.write(f"the engine could not be started: {error}\n")
        write("exit.json", {"code": 127, "started_at": started_at, "exited_at": started_at, "asked": False})
        return 1
    who = {"shim": identity(os.getpid()), "engine": identity(engine.pid), "boot": boot_id()}
    write("run.json", {**who, "port": port, "started_at": started_at, "began": began})
    code = hold(engine, woken, asked_at)
    # The clock may have been stepped meanwhile: the length of a life is told by the monotonic one.
    exited_at = started_at + (time.monotonic() - began)
    asked = bool(asked_at) or code == -signal.SIGTERM
    write("exit.json", {"code": code, "started_at": started_at, "exited_at": exited_at, "asked": asked})
    forget_key()
    return 0


def hold(engine: "subprocess.Popen[bytes]", woken: int, asked_at: "list[float]") -> int:
    """Until the engine has ended; its exit code, or minus the signal that ended it."""
    while (code := engine.poll()) is None:
        if asked_at:
            engine.kill() if time.monotonic() - asked_at[0] > GRACE_S else engine.terminate()
        select.select([woken], [], [], 0.1 if asked_at else TICK_S)
        drain(woken)
        os.utime("run.json")
        keep_log_small()
    return code


def detach() -> None:
    """Leave the caller's session. The caller's child ends here, at once; its child goes on."""
    if os.fork():
        os._exit(0)
    os.setsid()


def wake_on_signals() -> "tuple[int, list[float]]":
    """A descriptor that becomes readable when the engine ends or SIGTERM comes, and when SIGTERM first came."""
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    os.set_blocking(writing, False)
    signal.set_wakeup_fd(writing)
    asked_at: list[float] = []

    def ask(_number: int, _frame: object) -> None:
        if not asked_at:
            asked_at.append(time.monotonic())

    signal.signal(signal.SIGTERM, ask)
    signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    return reading, asked_at


def drain(descriptor: int) -> None:
    with contextlib.suppress(BlockingIOError):
        os.read(descriptor, 4096)


def start(argv: "list[str]") -> "subprocess.Popen[bytes]":
    shim = os.getpid()

    def die_with_shim() -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        if sys.platform == "linux":
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != shim:
                os._exit(1)

    with open("engine.log", "ab", buffering=0) as log:
        return subprocess.Popen(  # noqa: S603
            argv,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            preexec_fn=die_with_shim,  # noqa: PLW1509 the shim has one thread
            close_fds=True,
        )


def identity(pid: int) -> "dict[str, object]":
    """A pid is used again; a pid with the tick it started at is not (within one boot; Linux)."""
    return {"pid": pid, "ticks": start_ticks(pid)}


def start_ticks(pid: int) -> "int | None":
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            return int(file.read().rpartition(")")[2].split()[19])
    except OSError:
        return None


def boot_id() -> str:
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""


def free_port() -> int:
    """Free on loopback, and below the range from which the kernel lends ports to outgoing connections."""
    while True:
        port = 20_000 + int.from_bytes(os.urandom(4), "big") % 12_000
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


def fill(part: str, values: "dict[str, str]") -> str:
    for name, value in values.items():
        part = part.replace(name, value)
    return part


def keep_log_small() -> None:
    """The engine appends to one open file; what is full is copied aside and emptied."""
    if os.path.getsize("engine.log") <= LARGEST_LOG:
        return
    # On a full disk the old lines are what can be spared.
    with contextlib.suppress(OSError), open("engine.log", "rb") as full, open("engine.log.1", "wb") as aside:
        aside.write(full.read())
    begins = log_begins() + os.path.getsize("engine.log")
    os.truncate("engine.log", 0)
    with contextlib.suppress(OSError):
        write("log_at", {"bytes": begins})


def log_begins() -> int:
    try:
        with open("log_at", encoding="utf-8") as file:
            return int(json.load(file)["bytes"])
    except FileNotFoundError:
        return 0


def forget_key() -> None:
    """The key is of no use any more; what is kept of the engine must not hold it, should it have been written there."""
    with open("key", "rb") as file:
        key = file.read().strip()
    os.unlink("key")
    for name in ("engine.log", "engine.log.1"):
        with contextlib.suppress(OSError), open(name, "r+b") as log:
            text = log.read()
            if key and key in text:
                log.seek(0)
                log.write(text.replace(key, b"*" * len(key)))


def write(name: str, content: "dict[str, object]") -> None:
    """Whole or not at all."""
    with open(name + ".new", "w", encoding="utf-8") as file:
        json.dump(content, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(name + ".new", name)


if __name__ == "__main__":
    sys.exit(main())
