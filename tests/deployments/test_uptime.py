"""Uptime is billed once, minute by minute while the engine runs and to its real exit, whatever is repeated."""

import itertools
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db.models import Sum

from billing import pricing
from billing.models import LedgerEntry, UsageEvent
from deployments import operations, uptime
from deployments.backends import Observation, Seen
from deployments.models import Deployment, Replica
from tests.factories.accounts import TeamFactory
from tests.factories.deployments import smollm2

pytestmark = pytest.mark.django_db

START = datetime(2026, 11, 30, 23, 57, 41, 123456, tzinfo=UTC)


@pytest.fixture
def starting() -> Replica:
    model, hardware = smollm2()
    made = operations.deploy(TeamFactory(), model=model, hardware=hardware, actor="test")
    return Replica.objects.create(deployment=made)


@pytest.fixture
def replica(starting: Replica) -> Replica:
    """Ready at its very start: all its time is on one meter."""
    starting.ready_at = START
    starting.save()
    return starting


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


def test_an_engine_that_never_started_costs_nothing(starting: Replica) -> None:
    uptime.close(starting, Observation(Seen.ABSENT), crashed=False, detail="")
    assert billed() == 0
    assert starting.exited_at


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


def meters() -> dict[str, tuple[Decimal, Decimal]]:
    rows = LedgerEntry.objects.values_list("meter").annotate(quantity=Sum("quantity"), amount=Sum("amount"))
    return {meter: (quantity, amount) for meter, quantity, amount in rows}


def test_the_time_of_starting_is_a_meter_of_its_own_billed_once_it_has_succeeded(starting: Replica) -> None:
    uptime.note(starting, running(100))
    assert meters() == {}, "nobody knows yet whether it succeeds"
    assert uptime.ready(starting, START + timedelta(seconds=130))
    assert not uptime.ready(starting, START + timedelta(seconds=140))
    uptime.note(starting, running(200))
    uptime.close(starting, exited(215), crashed=False, detail="")
    price = Decimal("0.00001")
    assert meters() == {"compute.starting": (130, 130 * price), "compute.seconds": (85, 85 * price)}
    assert billed() == 215


def test_a_start_that_failed_is_metered_and_costs_nothing(starting: Replica) -> None:
    uptime.note(starting, running(100))
    uptime.close(starting, exited(110.5), crashed=True, detail="")
    assert meters() == {"compute.starting.failed": (Decimal("110.5"), 0)}


def test_starting_has_a_price_of_its_own_if_one_is_set(starting: Replica) -> None:
    for meter, amount in (("compute.starting", "0.000004"), ("compute.starting.failed", "0.000001")):
        pricing.set_price(
            "compute:cpu-small", meter=meter, amount=Decimal(amount), valid_from=START - timedelta(days=1),
            source="test", source_date=START.date(),
        )  # fmt: skip
    failed = Replica.objects.create(deployment=starting.deployment, ordinal=1)
    for one in (starting, failed):
        uptime.note(one, running(1))
    uptime.ready(starting, START + timedelta(seconds=10))
    uptime.close(starting, exited(10), crashed=False, detail="")
    uptime.close(failed, exited(10), crashed=True, detail="")
    assert meters() == {
        "compute.starting": (10, Decimal("0.00004")), "compute.starting.failed": (10, Decimal("0.00001"))
    }  # fmt: skip


def test_many_replicas_are_billed_in_as_many_queries_as_one(replica: Replica, django_assert_num_queries: Any) -> None:
    others = [
        Replica.objects.create(deployment=replica.deployment, ordinal=n, ready_at=START, started_at=START)
        for n in range(1, 20)
    ]
    uptime.note(replica, running(1))
    Replica.objects.update(prices=replica.prices, address="http://127.0.0.1:1")
    everyone = list(Replica.objects.select_related("deployment"))
    with django_assert_num_queries(7):  # lock, post, write billed_until, and two savepoints
        uptime.note_all([(one, running(100)) for one in everyone])
    assert billed() == len(everyone) * Decimal("78.876544") == (1 + len(others)) * Decimal("78.876544")


def test_a_month_is_billed_only_when_its_seconds_are_what_its_replicas_lived(replica: Replica) -> None:
    team = replica.deployment.team
    november = datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC)
    december = november[1], datetime(2027, 1, 1, tzinfo=UTC)
    uptime.note(replica, running(100))
    (behind,) = uptime.differences([team.pk], *november)[team.pk]
    assert replica.name in behind
    uptime.note(replica, running(200))
    assert uptime.differences([team.pk], *november) == {}
    uptime.close(replica, exited(420.5), crashed=False, detail="")
    assert uptime.differences([team.pk], *november) == uptime.differences([team.pk], *december) == {}
    Replica.objects.filter(pk=replica.pk).update(exited_at=START + timedelta(seconds=421))
    assert "421" not in str(uptime.differences([team.pk], *november))
    (wrong,) = uptime.differences([team.pk], *december)[team.pk]
    assert "are billed" in wrong
