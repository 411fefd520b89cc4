"""Holds one engine process: starts it, writes down what it is, and writes down when and how it ended.

Run by path with no Django and no site-packages, detached from whoever asked. The engine dies with its shim
(Linux), so that nothing is left if the shim is killed.

    python -S -E local_shim.py --tag INSTANCE:NAME FOLDER ARGV...
"""

import ctypes
import json
import os
import signal
import socket
import subprocess
import sys
import time

PR_SET_PDEATHSIG = 1
GRACE_S = 3.0


def main() -> int:
    tag, folder, argv = sys.argv[2], sys.argv[3], sys.argv[4:]
    os.chdir(folder)
    stopping: list[float] = []
    port = free_port()
    filled = [part.replace("{port}", str(port)).replace("{key_file}", os.path.join(folder, "key")) for part in argv]
    with open("engine.log", "ab", buffering=0) as log:
        engine = subprocess.Popen(  # noqa: S603
            [*filled, f"--tag={tag}"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            preexec_fn=die_with_parent,
            close_fds=True,
        )

    def stop(_number: int, _frame: object) -> None:
        stopping.append(time.monotonic())
        engine.terminate()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    write("run.json", {"shim_pid": os.getpid(), "engine_pid": engine.pid, "port": port, "started_at": time.time()})
    while (code := wait(engine)) is None:
        if stopping and time.monotonic() - stopping[0] > GRACE_S:
            engine.kill()
    write("exit.json", {"code": code, "exited_at": time.time(), "asked": bool(stopping)})
    return 0


def wait(engine: "subprocess.Popen[bytes]") -> "int | None":
    try:
        return engine.wait(0.5)
    except subprocess.TimeoutExpired:
        return None


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def die_with_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def write(name: str, content: dict[str, object]) -> None:
    """Whole or not at all."""
    with open(name + ".new", "w") as file:
        json.dump(content, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(name + ".new", name)


if __name__ == "__main__":
    sys.exit(main())
