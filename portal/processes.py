"""Programs that a supervisor runs: each in a process group of its own, logged, recorded, restarted, stopped in time."""

import contextlib
import ctypes
import json
import os
import pwd
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
LIVED_LONG_S = 30.0
LONGEST_PAUSE_S = 10.0


@dataclass(frozen=True, slots=True)
class Program:
    """What to run. `stop_signal` asks it to end in good order; `user` is a name to run it as (root only)."""

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str] = field(repr=False)
    cwd: Path = Path("/")
    stop_signal: signal.Signals = signal.SIGTERM
    user: str = ""
    before: Callable[[], None] = lambda: None


@dataclass(slots=True)
class _Running:
    program: Program
    process: "subprocess.Popen[bytes]"
    since: float
    pause_s: float = 0.0
    again_at: float = 0.0


class Supervisor:
    """Runs programs, starts again those that die, and stops them. To be used from one thread alone."""

    def __init__(self, *, log_dir: Path, run_dir: Path) -> None:
        self.log_dir = log_dir
        self.run_dir = run_dir
        self._running: dict[str, _Running] = {}

    def start(self, program: Program) -> None:
        program.before()
        process = self._spawn(program)
        self._running[program.name] = _Running(program, process, since=time.monotonic())

    def log(self, name: str) -> Path:
        return self.log_dir / f"{name}.log"

    def is_running(self, name: str) -> bool:
        return name in self._running and self._running[name].process.poll() is None

    def tend(self) -> None:
        """Reap what has ended, whoever started it, and start again the programs that should run."""
        reap({running.process.pid: running.process for running in self._running.values()})
        now = time.monotonic()
        for running in self._running.values():
            if running.process.poll() is None:
                continue
            if not running.again_at:
                lived_long = now - running.since > LIVED_LONG_S
                running.pause_s = (
                    0.1 if lived_long or not running.pause_s else min(running.pause_s * 2, LONGEST_PAUSE_S)
                )
                running.again_at = now + running.pause_s
            if now >= running.again_at:
                self._start_again(running)

    def stop(self, names: Iterable[str], *, within_s: float) -> None:
        """Ask these to end, all at once; those still there after `within_s` are killed with their whole group."""
        chosen = [self._running.pop(name) for name in names if name in self._running]
        for running in chosen:
            _signal(running.process, running.program.stop_signal)
        end = time.monotonic() + within_s
        for running in chosen:
            with contextlib.suppress(subprocess.TimeoutExpired):
                running.process.wait(max(0.0, end - time.monotonic()))
            _kill_group(running.process)
            running.process.wait()
            self._record_path(running.program.name).unlink(missing_ok=True)

    def stop_leftovers(self, *, within_s: float = 5.0) -> None:
        """Stop what an earlier supervisor recorded here and left behind when it was killed."""
        left = [found for path in self.run_dir.glob("*.json") if (found := _recorded(path))]
        end_all(left, within_s=within_s)
        for path in self.run_dir.glob("*.json"):
            path.unlink(missing_ok=True)

    def _start_again(self, running: _Running) -> None:
        _kill_group(running.process)
        running.program.before()
        running.process = self._spawn(running.program)
        running.since = time.monotonic()
        running.again_at = 0.0

    def _spawn(self, program: Program) -> "subprocess.Popen[bytes]":
        with self.log(program.name).open("ab") as log:
            process = subprocess.Popen(  # noqa: S603
                program.argv,
                env=dict(program.env),
                cwd=program.cwd,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                process_group=0,
                preexec_fn=_dies_with_parent(program.stop_signal),  # noqa: PLW1509 the supervisor has one thread
                **as_user(program.user),
            )
        with contextlib.suppress(psutil.Error):
            record = {"pid": process.pid, "started": psutil.Process(process.pid).create_time()}
            self._record_path(program.name).write_text(json.dumps(record))
        return process

    def _record_path(self, name: str) -> Path:
        return self.run_dir / f"{name}.json"


def adopt_orphans() -> None:
    """Make this process the parent of every descendant whose own parent ends (Linux; elsewhere nothing happens)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def reap(known: Mapping[int, "subprocess.Popen[bytes]"]) -> None:
    """Collect ended children: the known ones through their Popen, adopted ones directly."""
    while True:
        try:
            ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return
        if ended is None:
            return
        if ended.si_pid in known:
            known[ended.si_pid].poll()
        else:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(ended.si_pid, os.WNOHANG)


def end_all(processes: Sequence[psutil.Process], *, within_s: float) -> None:
    """SIGTERM (SIGINT for PostgreSQL, whose SIGTERM waits for its clients), then SIGKILL for those that stay."""
    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.send_signal(signal.SIGINT if process.name() == "postgres" else signal.SIGTERM)
    _, alive = psutil.wait_procs(processes, timeout=within_s)
    for process in alive:
        with contextlib.suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(alive, timeout=2)


def tagged(tag: str) -> list[psutil.Process]:
    """Live processes with an argument that begins with `tag`."""
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        words = process.info["cmdline"] or []
        if any(word.startswith(tag) for word in words) and process.info["status"] != psutil.STATUS_ZOMBIE:
            found.append(process)
    return found


def as_user(name: str) -> dict[str, Any]:
    """Popen's arguments to run as this user, with no group of ours kept; none for an empty name."""
    if not name:
        return {}
    entry = pwd.getpwnam(name)
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


def _dies_with_parent(number: signal.Signals) -> Callable[[], None] | None:
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl

    def ask() -> None:
        prctl(PR_SET_PDEATHSIG, int(number), 0, 0, 0)

    return ask


def _recorded(path: Path) -> psutil.Process | None:
    try:
        record = json.loads(path.read_text())
        process = psutil.Process(record["pid"])
        same = abs(process.create_time() - record["started"]) < 2
    except (OSError, ValueError, KeyError, TypeError, psutil.Error):
        return None
    return process if same else None


def _signal(process: "subprocess.Popen[bytes]", number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(number)


def _kill_group(process: "subprocess.Popen[bytes]") -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
