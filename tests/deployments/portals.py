"""A portal's deployments for tests: its own engines, told from all others by its tag, none of them left at the end."""

import contextlib
import os
import signal
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deployments import operations, reconcile
from deployments.backends import backends
from deployments.lifecycle import Status
from deployments.models import Deployment, Replica
from tests.deployments.processes import end_everything, pid_of, tagged
from tests.factories.accounts import TeamFactory
from tests.factories.deployments import smollm2


@dataclass
class Portal:
    """Deploys small engines, steps them, and hurts them."""

    instance: str
    root: Path

    def deploy(self, name: str, **wish: Any) -> Deployment:
        model, hardware = smollm2()
        team = wish.pop("team", None) or TeamFactory()
        return operations.deploy(team, model=model, hardware=hardware, actor="test", name=name, **wish)

    def awake(self, name: str, **wish: Any) -> Deployment:
        return self.until(self.deploy(name, **{"min_replicas": 1} | wish), Status.READY)

    def until(self, row: Deployment, status: Status, *, seconds: float = 20) -> Deployment:
        """Step until it is in that state and nothing moves any more but what waits."""
        end = time.monotonic() + seconds
        while row.status != status:
            assert time.monotonic() < end, f"{row.status}: {row.reason} {row.detail}"
            self.step(row)
        return row

    def step(self, row: Deployment) -> Deployment:
        row.refresh_from_db()
        reconcile.step(row)
        row.refresh_from_db()
        time.sleep(0.01)
        return row

    def settle(self, row: Deployment, *, seconds: float = 20) -> Deployment:
        """Follow it until nothing is to come soon."""
        assert not reconcile.follow(row.pk, seconds=seconds)
        row.refresh_from_db()
        return row

    def behave(self, *extra: str) -> None:
        """How engines that are started from now on behave: words for small_engine.py."""
        self.root.mkdir(parents=True, exist_ok=True)
        (self.root / "behaviour").write_text(" ".join(extra))

    def live(self, row: Deployment) -> list[Replica]:
        return list(row.replicas.filter(exited_at=None).order_by("ordinal"))

    def kill(self, row: Deployment, number: signal.Signals = signal.SIGABRT) -> None:
        """End its first engine, and wait until the backend lists it no more."""
        name = self.live(row)[0].name
        os.kill(pid_of(self.root, name, "engine"), number)
        end = time.monotonic() + 10
        while name in backends["local"].running():
            assert time.monotonic() < end
            time.sleep(0.01)

    def engines(self) -> set[str]:
        """The names of the engines that run, by the process table."""
        prefix = f"--tag={self.instance}:"
        parts = (part for process in tagged(self.instance) for part in process.info["cmdline"] or [])
        return {part.removeprefix(prefix) for part in parts if part.startswith(prefix)}


@contextlib.contextmanager
def portal(settings: Any, root: Path, *, backend: str) -> Iterator[Portal]:
    settings.INSTANCE_ID = uuid.uuid4().hex
    settings.DEPLOYMENT_BACKENDS = {"local": {"BACKEND": backend, "OPTIONS": {"root": str(root)}}}
    backends.settings = backends.configure_settings(None)
    _forget_backend()
    try:
        yield Portal(settings.INSTANCE_ID, root)
    finally:
        end_everything(settings.INSTANCE_ID)
        _forget_backend()


def _forget_backend() -> None:
    with contextlib.suppress(AttributeError):
        del backends["local"]
