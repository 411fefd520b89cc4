"""Workers and engines that die, hang, are deaf or come again, at the worst moments: afterwards nothing runs that should
not, nothing is stuck, and the bill is the uptime."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from django.db import connection, connections

from billing.metering import Slice
from billing.models import LedgerEntry
from deployments import operations, reconcile, updating
from deployments.backends import backends
from deployments.lifecycle import Status
from deployments.models import Deployment, Replica
from tests.deployments.portals import Portal, portal
from tests.deployments.processes import pid_of

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def small_portal(settings: Any, tmp_path: Path) -> Iterator[Portal]:
    with portal(settings, tmp_path / "engines", backend="tests.deployments.small_backend.SmallBackend") as found:
        yield found


def in_a_worker(work: Callable[[], None], *, killed_in: str) -> None:
    """Run it in a process of its own, which is ended by SIGKILL right after that method of the backend was called."""
    connections.close_all()
    pid = os.fork()
    if pid == 0:
        backend = backends["local"]
        method = getattr(backend, killed_in)

        def once(*given: Any) -> None:
            method(*given)
            os.kill(os.getpid(), signal.SIGKILL)

        setattr(backend, killed_in, once)
        work()
        os._exit(1)
    _, status = os.waitpid(pid, 0)
    assert os.WIFSIGNALED(status), "the worker was to be killed, and was not"


def everything_fits(found: Portal) -> None:
    """Each engine has a live row, each live row an engine; and what has ended is billed to the microsecond."""
    live = {replica.name for replica in Replica.objects.filter(exited_at=None)}
    assert found.engines() == live
    ended = Replica.objects.filter(exited_at__isnull=False, started_at__isnull=False)
    if not live:
        lived = sum(Slice(one.started_at, one.exited_at).seconds for one in ended)
        assert sum(LedgerEntry.objects.values_list("quantity", flat=True)) == lived


def test_a_worker_killed_between_spawn_and_row_loses_no_engine_and_starts_no_second(small_portal: Portal) -> None:
    row = small_portal.deploy("a", min_replicas=1)
    in_a_worker(lambda: reconcile.step(Deployment.objects.get()), killed_in="ensure")
    assert len(small_portal.engines()) == 1
    assert Replica.objects.get().started_at is None
    assert small_portal.settle(row).status == Status.READY
    everything_fits(small_portal)
    assert row.replicas.count() == 1


def test_a_worker_killed_in_a_teardown_leaves_it_to_the_next(small_portal: Portal) -> None:
    row = small_portal.awake("a")
    operations.stop(row, actor="t")
    in_a_worker(lambda: [small_portal.step(row) for _ in range(50)] and None, killed_in="remove")
    row.refresh_from_db()
    assert row.status == Status.STOPPING, "gone is not said before the backend says it"
    assert small_portal.settle(row).status == Status.STOPPED
    everything_fits(small_portal)


def test_a_worker_killed_while_it_tries_an_update_leaves_one_version_that_answers(small_portal: Portal) -> None:
    row = small_portal.awake("a")

    updating.update(row, actor="t", options={"slots": 2})
    in_a_worker(lambda: reconcile.step(Deployment.objects.get()), killed_in="ensure")
    assert small_portal.settle(row).status == Status.READY
    assert row.version.number == 2
    everything_fits(small_portal)


def test_one_launch_delivered_three_times_at_once_makes_one_engine(small_portal: Portal) -> None:
    row = small_portal.deploy("a", min_replicas=1)
    at_once = threading.Barrier(3)

    def deliver(_: int) -> None:
        try:
            at_once.wait()
            reconcile.follow(row.pk, seconds=10)
        finally:
            connection.close()

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(deliver, range(3)))
    assert small_portal.settle(row).status == Status.READY
    assert row.replicas.count() == 1
    everything_fits(small_portal)


def test_three_that_step_without_a_lock_make_one_engine_all_the_same(small_portal: Portal) -> None:
    row = small_portal.deploy("a", min_replicas=1)

    def deliver(_: int) -> None:
        try:
            for _ in range(10):
                reconcile.step(Deployment.objects.get(pk=row.pk))
        finally:
            connection.close()

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(deliver, range(3)))
    assert small_portal.settle(row).status == Status.READY
    assert len(small_portal.live(row)) == 1
    everything_fits(small_portal)


def test_deleted_while_starting_and_made_again_while_stopping(small_portal: Portal) -> None:
    small_portal.behave("--load-s", "30", "--deaf")
    first = small_portal.deploy("a", min_replicas=1)
    small_portal.step(first)
    assert first.status == Status.STARTING
    operations.stop(first, actor="t")
    small_portal.step(first)
    assert first.status == Status.STOPPING
    small_portal.settle(first)
    small_portal.behave()
    second = small_portal.awake("a", team=first.team)
    assert first.status == Status.STOPPED
    assert second.status == Status.READY
    everything_fits(small_portal)


def test_an_engine_that_hangs_in_its_teardown_is_killed(small_portal: Portal) -> None:
    row = small_portal.awake("a")
    os.kill(pid_of(small_portal.root, small_portal.live(row)[0].name, "engine"), signal.SIGSTOP)
    operations.stop(row, actor="t")
    assert small_portal.settle(row).status == Status.STOPPED
    everything_fits(small_portal)


def test_engines_whose_rows_are_gone_are_ended_and_rows_whose_engines_are_gone_are_healed(small_portal: Portal) -> None:
    row, other = small_portal.awake("a"), small_portal.awake("b")
    Replica.objects.filter(deployment=other).delete()
    small_portal.kill(row, signal.SIGKILL)
    for _ in range(3):
        reconcile.sweep()
        Deployment.objects.update(next_try_at=None)
        for one in (row, other):
            small_portal.settle(one)
    reconcile.sweep()
    assert {row.status, other.status} == {Status.READY}
    assert len(small_portal.live(other)) == 1
    everything_fits(small_portal)
