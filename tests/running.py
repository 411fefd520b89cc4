"""A whole portal, started as a stranger would start it, for tests that need all of it."""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest

from portal.embedded import ROOT, free_port, smollm2_gguf
from tests.fakes import hub
from tests.fakes.hub import TestHub

OURS = {"DATABASE_URL", "REDIS_URL", "SECRET_KEY", "API_KEY_PEPPER", "FIELD_KEY", "INSTANCE_ID", "PUBLIC_URL", "HOST"}
OURS |= {"EMBEDDED", "PYTHONDONTWRITEBYTECODE", "TEST_DATABASE_NAME", "DJANGO_SETTINGS_MODULE"}
UP_WITHIN_S = 120.0
STOPS_WITHIN_S = 10.0


class RunningPortal:
    """One copy of the portal with a DATA_DIR and a PORT of its own. Its login is read off what `up` printed."""

    def __init__(self, data_dir: Path, *, port: int = 0, env: dict[str, str] | None = None) -> None:
        self.data_dir = data_dir
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.email = self.password = self.key = ""
        self.output = ""
        self._extra = env or {}
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> float:
        """Start and wait until it says that it runs; the seconds that took."""
        began = time.monotonic()
        command = [sys.executable, "-m", "portal.up"]
        self._process = subprocess.Popen(
            command, cwd=ROOT, env=self.env(), text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        assert self._process.stdout
        self.output = ""
        for line in self._process.stdout:
            self.output += line
            assert time.monotonic() - began < UP_WITHIN_S, self.output
            if "Ctrl-C stops everything" in line:
                break
        else:
            pytest.fail(f"the portal did not start:\n{self.output}")
        self._read_login()
        return time.monotonic() - began

    def stop(self, number: signal.Signals = signal.SIGINT) -> float:
        """Stop it and check what was promised: status 0, in time, and nothing left. The seconds that took."""
        assert self._process
        began = time.monotonic()
        self._process.send_signal(number)
        rest, _ = self._process.communicate(timeout=30)
        took = time.monotonic() - began
        self.output += rest
        assert self._process.returncode == 0, self.output
        assert took < STOPS_WITHIN_S, f"stopping took {took:.1f} s"
        assert self.left() == [], "processes are left"
        self._process = None
        return took

    def restart(self) -> None:
        self.stop()
        self.start()

    def manage(self, *arguments: str, typed: str = "") -> str:
        """What `manage.py ...` prints, run as the README says; an error is the test's error."""
        done = subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=ROOT,
            env=self.env(),
            check=False,
            input=typed,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def pids(self, name: str) -> list[int]:
        """The process of web, worker, beat, redis or postgres."""
        found = re.search(r'"pid": (\d+)', (self.data_dir / "run" / f"{name}.json").read_text())
        return [int(found[1])] if found and psutil.pid_exists(int(found[1])) else []

    def kill(self, name: str, number: signal.Signals = signal.SIGKILL) -> None:
        for pid in self.pids(name):
            os.kill(pid, number)

    def kill_supervisor(self) -> None:
        assert self._process
        self._process.kill()
        self._process.wait()
        assert self._process.stdout
        self._process.stdout.close()
        self._process = None

    def db(self) -> "psycopg.Connection[Any]":
        line = next(x for x in (self.data_dir / "env").read_text().splitlines() if x.startswith("DATABASE_URL="))
        return psycopg.connect(line.partition("=")[2], autocommit=True)

    def left(self) -> list[str]:
        """Every live process that carries this portal's DATA_DIR or tag in its command line or environment."""
        instance = (self.data_dir / "instance").read_text().strip()
        needles = (str(self.data_dir), instance)
        found = []
        for process in psutil.process_iter():
            try:
                text = " ".join(process.cmdline()) + " ".join(process.environ().values())
                if any(needle in text for needle in needles) and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(f"{process.pid} {' '.join(process.cmdline())[:200]}")
            except psutil.Error:
                continue
        return found

    def env(self) -> dict[str, str]:
        env = {name: value for name, value in os.environ.items() if name not in OURS}
        env["SMOLLM2_GGUF"] = env.get("SMOLLM2_GGUF") or smollm2_gguf()
        return env | {"DATA_DIR": str(self.data_dir), "PORT": str(self.port)} | self._extra

    def end(self) -> None:
        """For a fixture's end: stop what still runs, whatever the test did."""
        if self._process and self._process.poll() is None:
            self.stop(signal.SIGTERM)

    def _read_login(self) -> None:
        for name, attribute in (("Login", "email"), ("Password", "password"), ("API key", "key")):
            if found := re.search(rf"^  {name}: +(\S+)$", self.output, re.MULTILINE):
                setattr(self, attribute, found[1])


@pytest.fixture(scope="session")
def portals_hub() -> Iterator[TestHub]:
    """The Hub that the running portal imports from."""
    with hub.running() as found:
        yield found


@pytest.fixture(scope="session")
def running_portal(portals_hub: TestHub) -> Iterator[RunningPortal]:
    """One portal for all tests of an xdist group, which one worker runs: they use it, or break it and have it mend."""
    folder = Path(tempfile.mkdtemp(prefix="modelport-run-"))
    portal = RunningPortal(folder, env={"HUB_URL": portals_hub.url})
    try:
        portal.start()
        yield portal
        portal.end()
    finally:
        portal.end()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def own_portal() -> Iterator[RunningPortal]:
    """A portal that is not started yet, for a test that starts, stops or breaks it."""
    folder = Path(tempfile.mkdtemp(prefix="modelport-own-"))
    portal = RunningPortal(folder)
    try:
        yield portal
    finally:
        portal.end()
        shutil.rmtree(folder, ignore_errors=True)
