"""Several replicas of real processes: up with the load, down when they are drained, in turn where there is no room."""

from datetime import timedelta

import pytest
from django.utils import timezone

from accounts.models import Team
from billing.metering import Slice
from billing.models import LedgerEntry
from catalog.models import Hardware
from deployments import loads, operations, reconcile, status
from deployments.lifecycle import Reason, Status
from deployments.models import Deployment
from deployments.scaling import STABLE_FOR
from tests.deployments.portals import Portal
from tests.factories.accounts import TeamFactory

pytestmark = pytest.mark.django_db(transaction=True)


def loaded(row: Deployment, portal: Portal, *calls: int, waiting: int = 0) -> None:
    """A gateway says so many calls are in flight at each replica."""
    names = [replica.name for replica in portal.live(row)]
    held = dict(zip(names, calls, strict=False))
    loads.report("gateway-1", calls=held, waiting={row.pk: waiting}, routed=[])


def test_it_grows_with_the_load_and_shrinks_once_drained(small_portal: Portal) -> None:
    row = small_portal.awake("a", max_replicas=3, target_concurrency=2)
    loaded(row, small_portal, 5)
    small_portal.settle(row)
    assert [(one.ordinal, bool(one.ready_at)) for one in small_portal.live(row)] == [(0, True), (1, True), (2, True)]
    assert len(small_portal.engines()) == 3
    loaded(row, small_portal, 1, 1, 1)
    small_portal.settle(row)
    assert row.surplus_since
    assert len(small_portal.live(row)) == 3, "not before it has been enough for a while"
    Deployment.objects.update(surplus_since=timezone.now() - STABLE_FOR)
    small_portal.step(row)
    going = [one for one in small_portal.live(row) if one.remove_asked_at]
    assert [one.ordinal for one in going] == [2]
    small_portal.step(row)
    assert len(small_portal.engines()) == 3, "its call goes on"
    loaded(row, small_portal, 1, 1, 0)
    small_portal.settle(row)
    assert len(small_portal.engines()) == 2
    assert row.status == Status.READY


def test_it_does_not_fall_asleep_with_a_call_in_flight(small_portal: Portal) -> None:
    row = small_portal.awake("a", min_replicas=0, idle_window_s=30)
    long_ago = timezone.now() - timedelta(minutes=5)
    Deployment.objects.update(status_since=long_ago, last_call_at=long_ago)
    loaded(row, small_portal, 1)
    assert small_portal.settle(row).status == Status.READY
    loaded(row, small_portal, 0)
    assert small_portal.settle(row).status == Status.ASLEEP
    assert small_portal.engines() == set()


def test_the_report_of_a_dead_gateway_counts_for_nothing(small_portal: Portal) -> None:
    row = small_portal.awake("a", max_replicas=3, target_concurrency=1)
    loaded(row, small_portal, 3)
    loads.GatewayReport.objects.update(at=timezone.now() - loads.FRESH_FOR)
    small_portal.settle(row)
    assert len(small_portal.live(row)) == 1


def test_without_room_they_wait_their_turn_and_are_served_first_come_first_served(small_portal: Portal) -> None:
    team: Team = TeamFactory()
    first = small_portal.awake("first", team=team)
    Hardware.objects.update(capacity=1)
    second, third = small_portal.deploy("second", team=team), small_portal.deploy("third", team=team)
    for row in (second, third):
        small_portal.settle(row)
        assert (row.status, row.reason) == (Status.PENDING, Reason.NO_CAPACITY)
    assert [status.of(row).queue_position for row in (first, second, third)] == [None, 1, 2]
    reconcile.sweep()
    assert len(small_portal.engines()) == 1, "nobody jumps the queue"
    operations.stop(first, actor="test")
    small_portal.settle(first)
    small_portal.settle(third)
    assert third.status == Status.PENDING, "who came second is served second"
    assert small_portal.settle(second).status == Status.READY
    assert status.of(third).queue_position == 1
    operations.stop(second, actor="test")
    small_portal.settle(second)
    assert reconcile.sweep() == [third.pk], "the sweep serves who is next"
    assert small_portal.settle(third).status == Status.READY


def test_who_waits_for_room_past_its_deadline_fails_by_that_name(small_portal: Portal) -> None:
    small_portal.awake("first")
    Hardware.objects.update(capacity=1)
    row = small_portal.settle(small_portal.deploy("second"))
    Deployment.objects.filter(pk=row.pk).update(deadline_at=timezone.now())
    small_portal.until(row, Status.FAILED)
    assert (row.reason, row.queued_at) == (Reason.NO_CAPACITY, None)
    assert status.of(row).cost_so_far == 0


def test_a_sleeper_that_finds_no_room_sleeps_on(small_portal: Portal) -> None:
    row = small_portal.awake("a", min_replicas=0)
    Deployment.objects.update(status_since=timezone.now() - timedelta(hours=1))
    small_portal.settle(row)
    Hardware.objects.update(capacity=0)
    operations.wake(row.pk)
    small_portal.settle(row)
    assert (row.status, row.reason) == (Status.WAKING, Reason.NO_CAPACITY)
    Deployment.objects.update(deadline_at=timezone.now())
    small_portal.until(row, Status.ASLEEP)
    assert row.reason == Reason.NO_CAPACITY


def test_one_of_several_that_dies_is_replaced_while_the_others_answer(small_portal: Portal) -> None:
    row = small_portal.awake("a", min_replicas=2, max_replicas=2)
    small_portal.settle(row)
    small_portal.kill(row)
    small_portal.step(row)
    assert row.status == Status.READY
    assert len(small_portal.live(row)) == 1
    Deployment.objects.update(next_try_at=timezone.now())
    small_portal.settle(row)
    assert [one.ordinal for one in small_portal.live(row)] == [0, 1]


def test_the_bill_of_several_replicas_is_the_sum_of_their_uptimes(small_portal: Portal) -> None:
    row = small_portal.awake("a", min_replicas=3, max_replicas=3)
    small_portal.settle(row)
    operations.stop(row, actor="test")
    small_portal.settle(row)
    assert row.status == Status.STOPPED
    lived = [Slice(one.started_at, one.exited_at).seconds for one in row.replicas.all()]
    billed = LedgerEntry.objects.filter(team=row.team)
    assert sum(billed.values_list("quantity", flat=True)) == sum(lived)
    assert set(billed.values_list("meter", flat=True)) == {"compute.starting", "compute.seconds"}


def test_an_engine_that_can_not_be_ended_in_time_is_said_so_and_never_called_gone(small_portal: Portal) -> None:
    small_portal.behave("--deaf")
    row = small_portal.awake("a")
    operations.stop(row, actor="test")
    small_portal.step(row)
    Deployment.objects.update(deadline_at=timezone.now())
    small_portal.step(row)
    assert (row.status, row.reason) == (Status.STOPPING, Reason.STOP_TIMEOUT)
    assert small_portal.live(row)[0].name in row.detail
    small_portal.settle(row)
    assert row.status == Status.STOPPED
    assert small_portal.engines() == set()
