"""Engines as processes of this machine, on loopback, known by identity: a tag on the command line, pid, start time.

Everything a later process needs lies in root/<name>/: key (0600), run.json and exit.json (written by the shim),
engine.log. The process table, not those files, says what runs.
"""

import contextlib
import fcntl
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import psutil

from deployments.backends.base import Observation, Seen
from deployments.errors import BackendError
from deployments.launch import LaunchSpec

SHIM = Path(__file__).with_name("local_shim.py")
HEALTH_TIMEOUT_S = 1.0
APPEARS_WITHIN_S = 3.0
KILL_AFTER_S = 4.0


class LocalBackend:
    def __init__(self, *, instance: str, root: str) -> None:
        self._instance = instance
        self._root = Path(root)

    def ensure(self, spec: LaunchSpec) -> None:
        """One engine per name, however many callers and however often: the folder's lock and its run.json decide."""
        folder = self._folder(spec.name)
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with _locked(folder / "lock"):
            if (folder / "run.json").exists() or self._processes(spec.name):
                return
            _write_secret(folder / "key", spec.key)
            (folder / "health").write_text(spec.health_path)
            self._spawn(spec, folder)

    def observe(self, name: str) -> Observation:
        folder = self._folder(name)
        run = _read(folder / "run.json")
        processes = self._processes(name)
        if run is None:
            return Observation(Seen.STARTING if processes else Seen.ABSENT)
        started_at = _moment(run["started_at"])
        ended = _read(folder / "exit.json")
        if not processes:
            return self._exited(folder, started_at, _read(folder / "exit.json") or ended)
        address = f"http://127.0.0.1:{run['port']}"
        healthy = _healthy(address + _text(folder / "health", "/health"))
        return Observation(Seen.READY if healthy else Seen.STARTING, address, started_at)

    def remove(self, name: str) -> None:
        """SIGTERM first; what is still there some seconds later is killed. Returns at once."""
        folder = self._folder(name)
        asked = folder / "remove_asked"
        processes = self._processes(name)
        if not processes:
            return
        late = asked.exists() and time.time() - asked.stat().st_mtime > KILL_AFTER_S
        if not asked.exists():
            folder.mkdir(parents=True, exist_ok=True)
            asked.touch()
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill() if late else process.terminate()

    def running(self) -> Iterable[str]:
        return sorted({name for name, _ in self._tagged()})

    def log(self, name: str, *, lines: int) -> list[str]:
        path = self._folder(name) / "engine.log"
        if not path.exists():
            return []
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - 256 * lines))
            return file.read().decode(errors="replace").splitlines()[-lines:]

    def _spawn(self, spec: LaunchSpec, folder: Path) -> None:
        command = [sys.executable, "-S", "-E", str(SHIM), "--tag", f"{self._instance}:{spec.name}", str(folder)]
        env = {key: value for key, value in os.environ.items() if key in KEPT_ENV} | dict(spec.env)
        try:
            # A process of its own in between, gone at once: the shim is nobody's child and no worker must reap it.
            subprocess.run(  # noqa: S603 - our own shim
                [sys.executable, "-S", "-E", "-c", DETACH, *command, *spec.argv],
                check=True,
                timeout=10,
                env=env,
                close_fds=True,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        except (OSError, subprocess.SubprocessError) as error:
            raise BackendError(f"The engine's process could not be started: {error}") from error
        end = time.monotonic() + APPEARS_WITHIN_S
        while not (folder / "run.json").exists() and time.monotonic() < end:
            time.sleep(0.02)

    def _exited(self, folder: Path, started_at: datetime, ended: dict[str, Any] | None) -> Observation:
        if ended:
            return Observation(
                Seen.EXITED, started_at=started_at, exited_at=_moment(ended["exited_at"]), exit_code=ended["code"]
            )
        # The shim was killed and the engine died with it: the log's last line is the last sign of life.
        log = folder / "engine.log"
        last = _moment(log.stat().st_mtime) if log.exists() else started_at
        return Observation(Seen.EXITED, started_at=started_at, exited_at=max(last, started_at), exit_code=None)

    def _processes(self, name: str) -> list[psutil.Process]:
        return [process for found, process in self._tagged() if found == name]

    def _tagged(self) -> Iterator[tuple[str, psutil.Process]]:
        """Every process whose command line carries this portal's tag: shims and engines."""
        prefix = f"{self._instance}:"
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                command = process.cmdline()
                if process.status() == psutil.STATUS_ZOMBIE:
                    continue
                if tag := _tag_of(command):
                    if tag.startswith(prefix):
                        yield tag.removeprefix(prefix), process

    def _folder(self, name: str) -> Path:
        return self._root / name


KEPT_ENV = {"PATH", "HOME", "LANG", "TMPDIR", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES"}
DETACH = "import os,sys\nif os.fork(): os._exit(0)\nos.setsid()\nos.execv(sys.argv[1], sys.argv[1:])\n"


def _tag_of(command: list[str]) -> str:
    for position, part in enumerate(command):
        if part.startswith("--tag="):
            return part.removeprefix("--tag=")
        if part == "--tag" and position + 1 < len(command) and str(SHIM) in command:
            return command[position + 1]
    return ""


def _healthy(address: str) -> bool:
    try:
        return httpx.get(address, timeout=HEALTH_TIMEOUT_S).status_code == httpx.codes.OK
    except httpx.HTTPError:
        return False


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _write_secret(path: Path, text: str) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)


def _read(path: Path) -> dict[str, Any] | None:
    try:
        return dict(json.loads(path.read_text()))
    except (FileNotFoundError, ValueError):
        return None


def _text(path: Path, default: str) -> str:
    return path.read_text() if path.exists() else default


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
