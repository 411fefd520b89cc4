"""A hard budget that is spent: what runs goes to sleep in time, nothing starts, and calls are told why."""

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.utils import timezone

from accounts.models import Team
from billing.errors import BudgetSpent
from billing.models import Budget, Spend
from billing.periods import month_at
from catalog.models import Weights
from deployments import looking, operations
from deployments.backends import Observation, Seen
from deployments.lifecycle import Reason, Status
from deployments.models import Deployment, Replica
from deployments.planning import End, GiveUpUpdate, Move, View, plan
from tests.factories.accounts import TeamFactory
from tests.factories.deployments import smollm2

pytestmark = pytest.mark.django_db
PRICES = {"compute.seconds": "0.001"}


def deployment(team: Team, status: str, **given: Any) -> tuple[Deployment, Replica]:
    model, hardware = smollm2()
    row = Deployment.objects.create(
        team=team, name="chat", model=model, hardware=hardware, weights=Weights.objects.get(), engine="llama_cpp",
        backend="local", status=status, **given,
    )  # fmt: skip
    now = timezone.now()
    return row, Replica.objects.create(deployment=row, started_at=now, ready_at=now, prices=PRICES)


def seen(row: Deployment, replica: Replica, *, may_spend: bool) -> View:
    now = {replica.name: Observation(Seen.READY)}
    return View(row, (replica,), now, timezone.now(), may_spend=may_spend)


@pytest.mark.parametrize(
    ("status", "to"),
    [("ready", "asleep"), ("waking", "asleep"), ("starting", "failed"), ("pending", "failed")],
)
def test_what_runs_goes_to_sleep_and_what_starts_does_not(status: str, to: str) -> None:
    row, replica = deployment(TeamFactory(), status)
    actions = plan(seen(row, replica, may_spend=False))
    assert actions == [Move(Status(to), Reason.BUDGET_SPENT), End(replica)]
    assert Move(Status(to), Reason.BUDGET_SPENT) not in plan(seen(row, replica, may_spend=True))


def test_an_update_is_given_up_and_a_wish_to_stop_goes_first() -> None:
    row, replica = deployment(TeamFactory(), "updating")
    assert plan(seen(row, replica, may_spend=False)) == [GiveUpUpdate(Reason.BUDGET_SPENT, "")]
    row.stop_asked_at = timezone.now()
    assert plan(seen(row, replica, may_spend=False)) == [Move(Status.STOPPING, Reason.STOP_ASKED)]


def test_one_that_is_kept_awake_wakes_by_itself_once_there_is_room_again() -> None:
    row, replica = deployment(TeamFactory(), "asleep", reason=Reason.BUDGET_SPENT, min_replicas=1)
    replica.delete()
    view = View(row, (), {}, timezone.now(), may_spend=True)
    assert plan(view) == [Move(Status.WAKING, Reason.BUDGET_AGAIN)]
    assert row in Deployment.objects.astir()
    row.min_replicas = 0
    assert plan(View(row, (), {}, timezone.now())) == []


@pytest.mark.parametrize(("spent", "may"), [("0.50", True), ("0.83", False), ("1.00", False)])
def test_it_is_looked_at_before_the_cap_is_passed_and_not_after(spent: str, may: bool) -> None:
    """Three minutes of this replica cost 0.18."""
    team = TeamFactory()
    row, replica = deployment(team, "ready")
    Budget.objects.create(team=team, usd=1)
    month = month_at(timezone.now(), team.time_zone).first
    Spend.objects.create(team=team, month=month, settled=Decimal(spent))
    views, _ = looking.look_at_all()
    assert [view.may_spend for view in views if view.row == row] == [may]
    assert replica.started_at is not None


def test_a_call_does_not_wake_a_sleeper_that_may_not_spend() -> None:
    team = TeamFactory()
    row, replica = deployment(team, "asleep")
    replica.delete()
    Budget.objects.create(
        team=team, scope="deployment", subject="chat", label="acme/chat", usd=1, period="fixed",
        starts_at=timezone.now() - timedelta(hours=1), ends_at=timezone.now() + timedelta(hours=1),
    )  # fmt: skip
    operations.wake(row.pk)
    row.refresh_from_db()
    assert row.status == "waking"
    Deployment.objects.filter(pk=row.pk).update(status="asleep")
    Spend.objects.create(team=team, month=month_at(timezone.now(), team.time_zone).first, settled=Decimal(2))
    Budget.objects.create(team=team, usd=1)
    with pytest.raises(BudgetSpent, match="leaves no room"):
        operations.wake(row.pk)
    row.refresh_from_db()
    assert row.status == "asleep"
