"""Deploy, scale, update, go back, kill, expire and stop in any order: whatever came before, once all has settled, the
engines that run are those that have rows, nothing is past its deadline, and the bill is the uptime."""

import contextlib
import os
import signal
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone
from hypothesis import HealthCheck, settings, strategies
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from billing.metering import Slice
from billing.models import LedgerEntry
from catalog.models import Hardware
from deployments import loads, operations, reconcile, updating
from deployments.errors import NotNow
from deployments.lifecycle import Status
from deployments.models import Deployment, Replica
from tests.deployments.portals import Portal, portal
from tests.deployments.processes import pid_of
from tests.factories.accounts import TeamFactory

EXAMPLES = int(os.environ.get("ANY_ORDER_EXAMPLES", "8"))
MOST_AT_ONCE = 2
BEHAVIOURS = ([], ["--refuse"], ["--says", "something_broke"], ["--exit-after-s", "0.05"])
SIGNALS = (signal.SIGKILL, signal.SIGABRT, signal.SIGTERM)
some = strategies.integers(min_value=0, max_value=MOST_AT_ONCE - 1)


@pytest.mark.django_db(transaction=True)
def test_whatever_is_done_in_any_order_engines_are_rows_and_slices_are_uptime(settings: Any, tmp_path: Path) -> None:
    with portal(settings, tmp_path / "engines", backend="tests.deployments.small_backend.SmallBackend") as found:
        run_state_machine_as_test(lambda: AnyOrder(found), settings=_QUICK)


_QUICK = settings(
    max_examples=EXAMPLES,
    stateful_step_count=14,
    deadline=None,
    database=None,
    print_blob=True,
    suppress_health_check=list(HealthCheck),
)


class AnyOrder(RuleBasedStateMachine):
    """Each life of it has a team of its own; at its end all is stopped, and the books are compared."""

    def __init__(self, found: Portal) -> None:
        super().__init__()
        self.portal, self.team, self.made = found, TeamFactory(), 0
        found.behave()
        Hardware.objects.update(capacity=None)

    @property
    def rows(self) -> list[Deployment]:
        return list(Deployment.objects.of(self.team).unsettled().order_by("created_at"))

    def chosen(self, number: int) -> Iterator[Deployment]:
        yield from self.rows[number : number + 1]

    @rule(least=strategies.integers(0, 2), more=strategies.integers(0, 2))
    def deploy(self, least: int, more: int) -> None:
        if len(self.rows) >= MOST_AT_ONCE:
            return
        self.made += 1
        self.portal.deploy(
            f"d{self.made}", team=self.team, min_replicas=least, max_replicas=max(1, least + more), target_concurrency=2
        )

    @rule(number=some, calls=strategies.integers(0, 6), waiting=strategies.integers(0, 4))
    def load(self, number: int, calls: int, waiting: int) -> None:
        for row in self.chosen(number):
            names = [replica.name for replica in self.portal.live(row)]
            loads.report("g", calls=dict.fromkeys(names[:1], calls), waiting={row.pk: waiting}, routed=[])

    @rule(number=some, slots=strategies.integers(1, 4), behaviour=strategies.sampled_from(BEHAVIOURS))
    def update(self, number: int, slots: int, behaviour: list[str]) -> None:
        self.portal.behave(*behaviour)
        for row in self.chosen(number):
            with contextlib.suppress(NotNow):
                updating.update(row, actor="t", options={"slots": slots})

    @rule(number=some)
    def roll_back(self, number: int) -> None:
        for row in self.chosen(number):
            with contextlib.suppress(NotNow):
                updating.rollback(row, actor="t")

    @rule(number=some, sent=strategies.sampled_from(SIGNALS), part=strategies.sampled_from(["engine", "shim"]))
    def kill(self, number: int, sent: signal.Signals, part: str) -> None:
        for row in self.chosen(number):
            for replica in self.portal.live(row)[:1]:
                with contextlib.suppress(OSError):
                    os.kill(pid_of(self.portal.root, replica.name, part), sent)

    @rule(number=some)
    def stop(self, number: int) -> None:
        for row in self.chosen(number):
            operations.stop(row, actor="t")

    @rule(number=some)
    def call_or_start_again(self, number: int) -> None:
        self.portal.behave()
        for row in self.chosen(number):
            operations.wake(row.pk)
            operations.retry(row, actor="t")

    @rule(room=strategies.sampled_from([None, 0, 1, 2]))
    def have_room(self, room: int | None) -> None:
        Hardware.objects.update(capacity=room)

    @rule(number=some)
    def let_it_idle(self, number: int) -> None:
        long_ago = timezone.now() - timedelta(hours=1)
        loads.leave("g")
        for row in self.chosen(number):
            Deployment.objects.filter(pk=row.pk).update(status_since=long_ago, last_call_at=None)

    @rule(number=some)
    def let_its_deadline_pass(self, number: int) -> None:
        for row in self.chosen(number):
            Deployment.objects.filter(pk=row.pk, deadline_at__isnull=False).update(deadline_at=timezone.now())

    @rule(number=some)
    def one_step(self, number: int) -> None:
        for row in self.chosen(number):
            reconcile.step(row)

    @rule()
    def settle(self) -> None:
        """Let workers do what there is to do, until what runs is what should."""
        for _ in range(60):
            Deployment.objects.update(next_try_at=None)
            moving = reconcile.sweep()
            for pk in moving:
                reconcile.follow(pk, seconds=1)
            if not moving and not (problem := self._problem()):
                return
        raise AssertionError((problem, [(row.status, row.reason, row.detail) for row in self.rows]))

    def _problem(self) -> str:
        """An engine may just have ended by itself: then the next sweep sees it, and this is asked again."""
        live = {replica.name for replica in Replica.objects.filter(exited_at=None)}
        if self.portal.engines() != live:
            return f"engines are not rows: {self.portal.engines()} {live}"
        late = Deployment.objects.of(self.team).filter(deadline_at__lt=timezone.now())
        return f"past its deadline: {list(late.values_list('status', 'reason'))}" if late.exists() else ""

    @invariant()
    def places_are_within_bounds(self) -> None:
        for row in self.rows:
            live = self.portal.live(row)
            assert len({replica.ordinal for replica in live}) == len(live)
            serving = [replica for replica in live if replica.ready_at and not replica.remove_asked_at]
            assert row.status in {Status.READY, Status.UPDATING, Status.STARTING} or not serving or row.stop_asked_at

    def teardown(self) -> None:
        loads.leave("g")
        Hardware.objects.update(capacity=None)
        for row in self.rows:
            operations.stop(row, actor="t")
        self.settle()
        assert self.rows == []
        assert self.portal.engines() == set()
        ended = Replica.objects.filter(deployment__team=self.team, started_at__isnull=False)
        lived = sum(Slice(one.started_at, one.exited_at).seconds for one in ended)
        assert sum(LedgerEntry.objects.filter(team=self.team).values_list("quantity", flat=True)) == lived
