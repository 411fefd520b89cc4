"""What one deployment has cost, and for how long it was busy."""

from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest
from django.db import connection
from django.db.models import Sum
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts.models import Team
from billing import metering, usage
from billing.models import LedgerEntry, UsageEvent
from tests.factories.accounts import TeamFactory

pytestmark = pytest.mark.django_db
NOW = timezone.now().replace(minute=30, second=0, microsecond=0)


def ran(team: Team, name: str, *, minutes_ago: float, seconds: int, **more: Any) -> None:
    begin = NOW - timedelta(minutes=minutes_ago)
    metering.record_compute(
        **{
            "replica_id": uuid4(), "team": team, "sku": "compute:x", "source": name, "model_name": "m",
            "deployment_name": name, "started_at": begin, "ended_at": begin + timedelta(seconds=seconds),
            "prices": {"compute.seconds": Decimal("0.00001")},
        } | more
    )  # fmt: skip


def called(team: Team, name: str, *, begins_s: float, ends_s: float) -> None:
    """From and until so many seconds before NOW."""
    UsageEvent.objects.create(
        id=uuid4(), team=team, started_at=NOW - timedelta(seconds=begins_s), ended_at=NOW - timedelta(seconds=ends_s),
        recorded_at=NOW, path="serverless", sku="included:tokens", source=name, model_name="m", deployment_name=name,
        quality="measured", quantities={"tokens.output": "3"}, cost=Decimal(0),
    )  # fmt: skip


def test_its_sums_are_those_of_its_ledger_rows_since_each_moment_in_one_query() -> None:
    team = TeamFactory()
    ran(team, "a", minutes_ago=200, seconds=90)
    ran(team, "a", minutes_ago=10, seconds=75)
    ran(team, "b", minutes_ago=10, seconds=999)
    ran(TeamFactory(), "a", minutes_ago=10, seconds=999)
    since = {"hour": NOW - timedelta(hours=1), "life": NOW - timedelta(days=1)}
    with CaptureQueriesContext(connection) as asked:
        found = usage.of_deployment(team, deployment_name="a", since=since)
    assert len(asked) == 1
    assert found["hour"]["compute.seconds"] == usage.Metered(Decimal("0.00075"), Decimal(75))
    ledger = LedgerEntry.objects.filter(team=team, deployment_name="a").aggregate(Sum("amount"), Sum("quantity"))
    assert found["life"]["compute.seconds"] == usage.Metered(ledger["amount__sum"], ledger["quantity__sum"])
    before = usage.of_deployment(team, deployment_name="a", since=since, until=NOW - timedelta(hours=2))
    assert before["life"]["compute.seconds"].quantity == 90


def test_calls_at_once_make_it_busy_once() -> None:
    team = TeamFactory()
    called(team, "a", begins_s=100, ends_s=60)
    called(team, "a", begins_s=80, ends_s=50)
    called(team, "a", begins_s=10, ends_s=5)
    called(team, "a", begins_s=3700, ends_s=3590)
    called(team, "b", begins_s=1000, ends_s=0)
    ran(team, "a", minutes_ago=30, seconds=600)
    hour = {"begins": NOW - timedelta(hours=1), "ends": NOW}
    assert usage.busy_seconds(team, deployment_name="a", **hour) == pytest.approx(50 + 5 + 10)
    assert usage.busy_seconds(team, deployment_name="none", **hour) == 0
