"""Uptime is billed once, minute by minute while the engine runs and to its real exit, whatever is repeated."""

import itertools
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from django.db.models import Sum

from billing.models import LedgerEntry, UsageEvent
from deployments import operations, uptime
from deployments.backends import Observation, Seen
from deployments.models import Deployment, Replica
from tests.factories.accounts import TeamFactory
from tests.factories.deployments import smollm2

pytestmark = pytest.mark.django_db

START = datetime(2026, 11, 30, 23, 57, 41, 123456, tzinfo=UTC)


@pytest.fixture
def replica() -> Replica:
    model, hardware = smollm2()
    made = operations.deploy(TeamFactory(), model=model, hardware=hardware, actor="test")
    return Replica.objects.create(deployment=made)


def running(seconds: float) -> Observation:
    return Observation(Seen.READY, "http://127.0.0.1:1", started_at=START, alive_at=START + timedelta(seconds=seconds))


def exited(seconds: float) -> Observation:
    return Observation(Seen.EXITED, started_at=START, exited_at=START + timedelta(seconds=seconds))


def billed() -> Decimal:
    return LedgerEntry.objects.aggregate(total=Sum("quantity"))["total"] or Decimal(0)


def test_only_full_minutes_are_billed_while_it_runs(replica: Replica) -> None:
    uptime.note(replica, running(10))
    assert billed() == 0
    uptime.note(replica, running(100))
    assert billed() == Decimal("78.876544")  # 23:57:41.123456 to 23:59:00
    assert replica.billed_until == datetime(2026, 11, 30, 23, 59, tzinfo=UTC)


def test_the_slices_add_up_to_the_uptime_across_a_months_end(replica: Replica) -> None:
    for seconds in (5, 30, 61, 61, 200, 420.5):
        uptime.note(replica, running(seconds))
    uptime.close(replica, exited(431.000001), crashed=False, detail="")
    uptime.close(replica, exited(999), crashed=True, detail="again")
    assert billed() == Decimal("431.000001")
    assert replica.exited_at == START + timedelta(seconds=431.000001)
    assert not replica.crashed
    events = list(UsageEvent.objects.order_by("started_at"))
    assert events[0].started_at == START
    assert all(before.ended_at == after.started_at for before, after in itertools.pairwise(events))
    assert LedgerEntry.objects.aggregate(cost=Sum("amount"))["cost"] == Decimal("431.000001") * Decimal("0.00001")


def test_a_worker_that_saw_less_than_another_has_billed_adds_nothing(replica: Replica) -> None:
    stale = Replica.objects.get(pk=replica.pk)
    uptime.note(replica, running(200))
    uptime.note(stale, running(100))
    assert billed() == Decimal("198.876544")
    uptime.close(stale, exited(201), crashed=False, detail="")
    assert billed() == Decimal("201")


def test_an_exit_that_is_known_only_roughly_is_never_before_what_was_billed(replica: Replica) -> None:
    uptime.note(replica, running(200))
    uptime.close(replica, exited(150), crashed=True, detail="")
    assert replica.exited_at == replica.billed_until
    assert billed() == Decimal("198.876544")


def test_an_engine_that_never_started_costs_nothing(replica: Replica) -> None:
    uptime.close(replica, Observation(Seen.ABSENT), crashed=False, detail="")
    assert billed() == 0
    assert replica.exited_at


def test_the_key_and_the_address_are_forgotten_with_the_engine(replica: Replica) -> None:
    uptime.note(replica, running(1))
    assert replica.address
    uptime.close(replica, exited(2), crashed=False, detail="")
    replica.refresh_from_db()
    assert (replica.address, replica.sealed_key) == ("", "")


def test_the_price_at_its_start_is_the_price_of_all_its_life(replica: Replica) -> None:
    uptime.note(replica, running(200))
    uptime.close(replica, exited(300), crashed=False, detail="")
    assert set(LedgerEntry.objects.values_list("unit_price", flat=True)) == {Decimal("0.00001")}
    assert Deployment.objects.get().replicas.get().billed_until == START + timedelta(seconds=300)
