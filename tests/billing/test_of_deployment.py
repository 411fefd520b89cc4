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
from billing import metering, periods, rating, rollups, usage
from billing.models import LedgerEntry, UsageEvent
from tests.factories.accounts import TeamFactory
from tests.factories.billing import billed

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


@pytest.mark.parametrize("summed", [False, True])
def test_its_sums_are_those_of_its_ledger_rows_since_each_moment_in_two_queries(summed: bool) -> None:
    team = TeamFactory()
    ran(team, "a", minutes_ago=200, seconds=90)
    ran(team, "a", minutes_ago=10, seconds=75)
    ran(team, "b", minutes_ago=10, seconds=999)
    ran(TeamFactory(), "a", minutes_ago=10, seconds=999)
    if summed:
        rollups.roll_up()
    since = {"hour": NOW - timedelta(hours=1), "life": NOW - timedelta(days=1)}
    with CaptureQueriesContext(connection) as asked:
        found = usage.of_deployment(team, deployment_name="a", since=since)
    assert len(asked) == 2
    assert found["hour"]["compute.seconds"] == usage.Metered(Decimal("0.00075"), Decimal(75))
    ledger = LedgerEntry.objects.filter(team=team, deployment_name="a").aggregate(Sum("amount"), Sum("quantity"))
    assert found["life"]["compute.seconds"] == usage.Metered(ledger["amount__sum"], ledger["quantity__sum"])
    before = usage.of_deployment(team, deployment_name="a", since=since, until=NOW - timedelta(hours=2))
    assert before["life"]["compute.seconds"].quantity == 90


@pytest.mark.parametrize("summed", [False, True])
def test_each_life_of_a_name_has_its_own_costs(summed: bool) -> None:
    team = TeamFactory(time_zone="Asia/Kathmandu")
    births = [NOW - timedelta(days=9), NOW - timedelta(minutes=61, seconds=3), NOW - timedelta(minutes=7)]
    for minutes, seconds in ((60 * 24 * 8, 1), (62, 2), (61, 4), (30, 8), (8, 16), (6, 32), (1, 64)):
        ran(team, "a", minutes_ago=minutes, seconds=seconds)
        ran(team, "b", minutes_ago=minutes, seconds=seconds * 2)
        if summed and seconds == 16:
            rollups.roll_up()
    first, second, third, sole = (uuid4() for _ in range(4))
    lives = {
        first: usage.Life("a", births[0], births[1], alone=False),
        second: usage.Life("a", births[1], births[2], alone=False),
        third: usage.Life("a", births[2], None, alone=False),
        sole: usage.Life("b", births[0], None, alone=True),
        uuid4(): usage.Life("never ran", births[0], None, alone=True),
    }
    price = Decimal("0.00001")
    wished = {first: 3 * price, second: 28 * price, third: 96 * price, sole: 254 * price}
    assert usage.of_lives(team, lives) == wished
    lately = usage.of_lives(team, lives, since=NOW - timedelta(minutes=10))
    assert lately == {second: 16 * price, third: 96 * price, sole: 224 * price}
    del lives[sole]
    assert usage.of_lives(team, lives) == {first: 3 * price, second: 28 * price, third: 96 * price}


@pytest.mark.parametrize("zone", ["UTC", "Asia/Kathmandu", "America/St_Johns"])
def test_what_pages_and_the_api_say_of_usage_is_the_ledger_before_and_behind_the_mark(zone: str) -> None:
    team = TeamFactory(time_zone=zone)
    for number in range(30):
        moment = NOW - timedelta(hours=41 * number % 700, minutes=number)
        billed(
            team, {"tokens.input": number, "tokens.output": 3, "tokens.input.cached": 1}, started_at=moment,
            api_key_name=f"key {number % 3}", sku=f"hosted:{number % 2}", model_name="M", tag="x" * (number % 2),
        )  # fmt: skip
        ran(team, f"d{number % 2}", minutes_ago=number * 700, seconds=number + 1)
        if number == 20:
            rollups.roll_up()
    rows = list(LedgerEntry.objects.filter(team=team))
    clock, since = periods.zone_of(zone), NOW - timedelta(days=20, minutes=7)
    named: dict[usage.Group, Any] = {
        "day": lambda row: row.at.astimezone(clock).date().isoformat(), "key": lambda row: row.api_key_name,
        "tag": lambda row: row.tag, "path": lambda row: row.path, "meter": lambda row: row.meter,
    }  # fmt: skip
    for until in (NOW, NOW - timedelta(hours=30, seconds=1)):
        for group, name in named.items():
            wished: dict[tuple[str, str], list[Decimal]] = {}
            for row in rows:
                if since <= row.at < until:
                    sums = wished.setdefault((name(row), row.meter), [Decimal(0), Decimal(0)])
                    sums[0], sums[1] = rating.add([sums[0], row.quantity]), rating.add([sums[1], row.amount])
            found = usage.grouped(team, group=group, since=since, until=until)
            assert {(one.value, one.meter): [one.quantity, one.cost] for one in found} == wished, group
    days = usage.grouped(team, group="day", since=NOW - timedelta(days=9000), until=NOW + timedelta(days=9000))
    assert rating.add(one.cost for one in days) == rating.add(row.amount for row in rows)
    lately, month = usage.lately(team, now=NOW), periods.month_at(NOW, zone)
    mine = [row for row in rows if month.begins <= row.at < month.ends]
    assert lately.month.total == rating.add(row.amount for row in mine)
    today = NOW.astimezone(clock).date()
    assert lately.today.total == rating.add(row.amount for row in mine if row.at.astimezone(clock).date() == today)
    uses = usage.of_model(team, sku="hosted:1", model_name="m", since=since)
    own = [row for row in rows if row.at >= since and (row.sku == "hosted:1" or row.path == "serverless")]
    assert rating.add(use.amount for use in uses) == rating.add(row.amount for row in own)
    assert {use.api_key_name for use in uses} == {"key 0", "key 1", "key 2", ""}
    for use in uses:
        its = [row for row in own if (row.api_key_name, row.deployment_name) == (use.api_key_name, use.deployment_name)]
        assert use.last_on == max(row.at for row in its).astimezone(clock).date()
        assert use.tokens_in == sum(row.quantity for row in its if row.meter.startswith("tokens.input"))
        assert use.seconds == sum(row.quantity for row in its if row.meter.startswith("compute."))


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
