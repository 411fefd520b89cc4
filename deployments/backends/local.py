"""Engines as processes of this machine, on loopback, known by identity: pid, start tick, and a tag on the command line.

Everything a later process needs lies in root/<name>/: lock, key (0600), health; run.json, peak and exit.json (by the
shim), engine.log, and remove_asked once it has to go. The process table, not these files, says what runs.
"""

import asyncio
import contextlib
import fcntl
import http.client
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil

from deployments.backends import local_shim
from deployments.backends.base import Observation, Seen
from deployments.errors import BackendError
from deployments.launch import LaunchSpec

SHIM = Path(local_shim.__file__)
HEALTH_TIMEOUT_S = 1.0
APPEARS_WITHIN_S = 3.0
KILL_ENGINE_AFTER_S, KILL_ALL_AFTER_S = 5.0, 7.0
TAIL = 256 * 1024
# An engine gets no secret of the portal's: its environment is these, and what its spec says.
KEPT_ENV = frozenset({"PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES"})


class LocalBackend:
    def __init__(self, *, instance: str, root: str) -> None:
        self._instance = instance
        self._root = Path(root)

    def ensure(self, spec: LaunchSpec) -> None:
        """One engine per name, however many callers and however often: the folder's lock and what lies in it decide."""
        folder = self._root / spec.name
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            with _locked(folder):
                if _was_started(folder) or (folder / "remove_asked").exists() or self._processes(spec.name):
                    return
                _write_secret(folder / "key", spec.key)
                (folder / "health").write_text(spec.health_path, encoding="utf-8")
                self._spawn(spec, folder)
        except OSError as error:
            raise BackendError(f"The engine could not be started: {error}") from error

    def observe(self, name: str) -> Observation:
        found = self._look(name)
        if not isinstance(found, _Answering):
            return found
        return found.observation(is_healthy=_healthy(found.port, found.health_path))

    def observe_all(self, names: Iterable[str]) -> Mapping[str, Observation]:
        found = {name: self._look(name) for name in names}
        asked = {name: one for name, one in found.items() if isinstance(one, _Answering)}
        healthy = asyncio.run(_healthy_ones(asked)) if asked else {}
        return {
            name: one.observation(is_healthy=healthy[name]) if isinstance(one, _Answering) else one
            for name, one in found.items()
        }

    def _look(self, name: str) -> "Observation | _Answering":
        """What its files and the process table say; whether one that lives is healthy has to be asked."""
        folder = self._root / name
        ended = _read(folder / "exit.json")
        if ended:
            return _exited(ended)
        run = _read(folder / "run.json")
        if run is None:
            known = folder.exists()  # what was never asked for has left no folder, and no process either
            return Observation(Seen.STARTING if known and self._processes(name) else Seen.ABSENT)
        if not self._alive(run):
            # It may have ended while we looked; else the shim was killed, and its last tick is the last sign of life.
            ended = _read(folder / "exit.json")
            if ended is None:
                _end_what_is_left(run["shim"]["pid"])
            return _exited(ended) if ended else _lost(folder, run)
        health, started_at = _text(folder / "health"), _moment(run["started_at"])
        return _Answering(run["port"], health, started_at, run["began"], _peak(folder))

    def remove(self, name: str) -> None:
        """SIGTERM first; an engine still there some seconds later is killed, then its shim. Returns at once."""
        folder = self._root / name
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with _locked(folder):
            asked = folder / "remove_asked"
            first = not asked.exists()
            if first:
                asked.touch()
        waited_s = time.time() - asked.stat().st_mtime
        for found in self._processes(name):
            with contextlib.suppress(psutil.Error):
                if waited_s > (KILL_ALL_AFTER_S if found.is_shim else KILL_ENGINE_AFTER_S):
                    found.process.kill()
                elif first or found.is_shim:
                    found.process.terminate()

    def running(self) -> Iterable[str]:
        return sorted({found.name for found in self._tagged()})

    def log(self, name: str, *, lines: int) -> list[str]:
        try:
            with (self._root / name / "engine.log").open("rb") as file:
                size = file.seek(0, os.SEEK_END)
                begin = max(0, size - TAIL)
                file.seek(begin)
                found = self._without_key(name, file.read()).decode(errors="replace").splitlines()
        except FileNotFoundError:
            return []
        return found[1 if begin else 0 :][-lines:]

    def log_span(self, name: str) -> tuple[int, int]:
        end, size = self._log_end(name)
        aside = _size(self._root / name / "engine.log.1")
        return end - size - aside, end

    def log_bytes(self, name: str, *, begin: int, end: int) -> bytes:
        last, size = self._log_end(name)
        turn = last - size
        before = _slice(
            self._root / name / "engine.log.1", begin=begin - turn, end=min(end, turn) - turn, from_end=True
        )
        now = _slice(self._root / name / "engine.log", begin=max(begin, turn) - turn, end=end - turn)
        return self._without_key(name, before + now)

    def memory(self, name: str) -> int | None:
        run = _read(self._root / name / "run.json")
        if run is None or (self._root / name / "exit.json").exists() or not self._is(run["engine"]):
            return None
        with contextlib.suppress(psutil.Error):
            return int(psutil.Process(run["engine"]["pid"]).memory_info().rss)
        return None

    def kept(self) -> Mapping[str, datetime]:
        found: dict[str, datetime] = {}
        for folder in self._root.glob("r-*"):
            with contextlib.suppress(OSError):
                found[folder.name] = max(_moment(path.stat().st_mtime) for path in (folder, *folder.iterdir()))
        return found

    def forget(self, name: str) -> None:
        if self._processes(name):
            return
        shutil.rmtree(self._root / name, ignore_errors=True)

    def _without_key(self, name: str, output: bytes) -> bytes:
        """As long as before, so that positions stay what they are."""
        with contextlib.suppress(OSError):
            key = (self._root / name / "key").read_bytes().strip()
            return output.replace(key, b"*" * len(key)) if key else output
        return output

    def _log_end(self, name: str) -> tuple[int, int]:
        """How many bytes the engine has written in all, and how many of them stand in engine.log."""
        size = _size(self._root / name / "engine.log")
        at = _read(self._root / name / "log_at")
        return (at["bytes"] if at else 0) + size, size

    def _spawn(self, spec: LaunchSpec, folder: Path) -> None:
        tag = f"--tag={self._instance}:{spec.name}"
        env = {key: value for key, value in os.environ.items() if key in KEPT_ENV} | dict(spec.env)
        try:
            subprocess.run(  # noqa: S603 - our own shim, which leaves a detached child of its own and returns
                [sys.executable, "-S", "-E", str(SHIM), tag, str(folder), *spec.argv],
                check=True,
                timeout=10,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        except subprocess.SubprocessError as error:
            raise BackendError(f"The engine's process could not be started: {error}") from error
        end = time.monotonic() + APPEARS_WITHIN_S
        while not _was_started(folder) and time.monotonic() < end:
            time.sleep(0.01)

    def _alive(self, run: dict[str, Any]) -> bool:
        """The engine or its shim is there: same boot, same pid, same start tick, our tag."""
        return run["boot"] == local_shim.boot_id() and any(self._is(run[part]) for part in ("engine", "shim"))

    def _is(self, identity: dict[str, Any]) -> bool:
        pid, ticks = identity["pid"], identity["ticks"]
        try:
            process = psutil.Process(pid)
            tagged = any(part.startswith(f"--tag={self._instance}:") for part in process.cmdline())
            return tagged and ticks == local_shim.start_ticks(pid) and process.status() != psutil.STATUS_ZOMBIE
        except psutil.Error:
            return False

    def _processes(self, name: str) -> list["_Found"]:
        return [found for found in self._tagged() if found.name == name]

    def _tagged(self) -> Iterator["_Found"]:
        """Every process whose command line carries this portal's tag: shims and engines."""
        prefix = f"--tag={self._instance}:"
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                command = process.cmdline()
                tag = next((part for part in command if part.startswith(prefix)), None)
                if tag and process.status() != psutil.STATUS_ZOMBIE:
                    yield _Found(tag.removeprefix(prefix), process, is_shim=str(SHIM) in command)


@dataclass(frozen=True, slots=True)
class _Answering:
    """A live engine, on its way to an Observation."""

    port: int
    health_path: str
    started_at: datetime
    began: float
    peak_bytes: int | None

    def observation(self, *, is_healthy: bool) -> Observation:
        alive_at = self.started_at + timedelta(seconds=time.monotonic() - self.began)
        seen = Seen.READY if is_healthy else Seen.STARTING
        address = f"http://127.0.0.1:{self.port}"
        return Observation(seen, address, started_at=self.started_at, alive_at=alive_at, peak_bytes=self.peak_bytes)


@dataclass(frozen=True, slots=True)
class _Found:
    name: str
    process: psutil.Process
    is_shim: bool


def _was_started(folder: Path) -> bool:
    return (folder / "run.json").exists() or (folder / "exit.json").exists()


def _exited(ended: dict[str, Any]) -> Observation:
    return Observation(
        Seen.EXITED,
        started_at=_moment(ended["started_at"]),
        exited_at=_moment(ended["exited_at"]),
        exit_code=ended["code"],
        asked=ended["asked"],
        peak_bytes=ended.get("peak"),
    )


def _lost(folder: Path, run: dict[str, Any]) -> Observation:
    """Nobody wrote down its end: the shim was killed (and the engine with it), or the machine went down."""
    started_at = _moment(run["started_at"])
    last_tick = _moment((folder / "run.json").stat().st_mtime)
    return Observation(
        Seen.EXITED,
        started_at=started_at,
        exited_at=max(started_at, last_tick),
        asked=run["boot"] != local_shim.boot_id(),
        peak_bytes=_peak(folder),
    )


def _end_what_is_left(shim: int) -> None:
    """An engine dies with its shim; a process that the engine started does not. The shim led a session of its own, and
    its number is nobody else's while one of that session lives."""
    with contextlib.suppress(psutil.NoSuchProcess):
        if psutil.Process(shim).status() != psutil.STATUS_ZOMBIE:
            return
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if os.getsid(process.pid) == shim:
                process.kill()


def _peak(folder: Path) -> int | None:
    try:
        return int(_text(folder / "peak"))
    except (FileNotFoundError, ValueError):
        return None


def _healthy(port: int, path: str) -> bool:
    asking = http.client.HTTPConnection("127.0.0.1", port, timeout=HEALTH_TIMEOUT_S)
    try:
        asking.request("GET", path)
        return asking.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        asking.close()


async def _healthy_ones(asked: "Mapping[str, _Answering]") -> dict[str, bool]:
    answers = await asyncio.gather(*(_is_healthy(one.port, one.health_path) for one in asked.values()))
    return dict(zip(asked, answers, strict=True))


async def _is_healthy(port: int, path: str) -> bool:
    """Only the status line is read."""
    try:
        async with asyncio.timeout(HEALTH_TIMEOUT_S):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                writer.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode())
                words = (await reader.readline()).split()
            finally:
                writer.close()
    except (OSError, TimeoutError, ValueError):
        return False
    return len(words) > 1 and words[1] == b"200"


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    with (folder / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _write_secret(path: Path, text: str) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _slice(path: Path, *, begin: int, end: int, from_end: bool = False) -> bytes:
    """Bytes of a file by position, or none if it lacks them; `from_end`: positions are negative, 0 is its end."""
    shift = _size(path) if from_end else 0
    begin, end = max(0, begin + shift), end + shift
    if end <= begin:
        return b""
    try:
        with path.open("rb") as file:
            file.seek(begin)
            return file.read(end - begin)
    except FileNotFoundError:
        return b""


def _read(path: Path) -> dict[str, Any] | None:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
