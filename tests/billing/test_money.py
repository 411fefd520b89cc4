"""Reserve, settle, sweep, slices; and page = CSV = ledger, to the last digit."""

import asyncio
import csv
import io
import random
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.core.management import CommandError, call_command
from django.db import Error, connection, transaction
from django.db.models import Sum
from django.test import Client
from django.utils import timezone

from accounts import keys
from accounts.models import Team
from billing import metering, periods, rating
from billing.batching import Batcher, conninfo_from_settings
from billing.errors import BudgetSpent, UnknownReservation, UnpricedMeter
from billing.metering import Call, Settlement, Slice
from billing.models import Budget, LedgerEntry, Reservation, Spend, UsageEvent
from tests.factories.accounts import MembershipFactory, TeamFactory
from tests.factories.billing import billed

PRICES = {"tokens.input": Decimal("0.000005"), "tokens.output": Decimal("0.000025")}
NOW = datetime(2026, 11, 3, 12, tzinfo=UTC)


def call(team: Team, *, most: int = 1000, started_at: datetime = NOW, **more: Any) -> Call:
    return Call(
        **{
            "id": uuid4(), "team_id": team.pk, "time_zone": team.time_zone, "path": "hosted", "sku": "hosted:m",
            "source": "m", "model_name": "M", "api_key_name": "k", "prices": PRICES, "started_at": started_at,
            "estimate": {"tokens.input": Decimal(10), "tokens.output": Decimal(1)},
            "most": {"tokens.output": Decimal(most)},
        } | more
    )  # fmt: skip


def used(call_id: UUID, tokens_in: int = 7, tokens_out: int = 3) -> Settlement:
    quantities = {"tokens.input": Decimal(tokens_in), "tokens.output": Decimal(tokens_out)}
    return Settlement(id=call_id, quantities=quantities, raw_usage={"n": tokens_in}, ended_at=NOW)


def spend(team: Team, cost_tokens: int = 3, **more: Any) -> None:
    one = call(team, **more)
    metering.reserve(one)
    metering.settle(used(one.id, tokens_out=cost_tokens))


def ledger_total(team: Team) -> Decimal:
    return LedgerEntry.objects.filter(team=team).aggregate(total=Sum("amount"))["total"] or Decimal(0)


@pytest.mark.django_db
def test_a_settled_call_is_billed_exactly_and_once() -> None:
    one = call(TeamFactory())
    metering.reserve(one)
    receipt = metering.settle(used(one.id))
    again = metering.settle(used(one.id, 9999, 9999))
    assert receipt.cost == Decimal("0.000110")
    assert (again.cost, again.already) == (receipt.cost, True)
    assert UsageEvent.objects.get().cost == receipt.cost
    assert Spend.objects.get().settled == receipt.cost
    assert Spend.objects.get().held == 0


@pytest.mark.django_db
def test_a_void_call_owes_nothing() -> None:
    one = call(TeamFactory())
    metering.reserve(one)
    metering.void(one.id)
    metering.void(one.id)
    metering.settle(used(one.id))
    assert not UsageEvent.objects.exists()
    assert Spend.objects.get().held == 0


@pytest.mark.django_db
def test_a_call_past_the_cap_is_refused_and_writes_nothing() -> None:
    team = TeamFactory()
    Budget.objects.create(team=team, usd=Decimal("0.05"))
    metering.reserve(call(team, most=1500))
    with pytest.raises(BudgetSpent):
        metering.reserve(call(team, most=1000))
    assert Reservation.objects.count() == 1


@pytest.mark.django_db
def test_a_dead_owners_call_is_settled_as_estimated_never_as_nothing() -> None:
    one = call(TeamFactory(), started_at=timezone.now())
    metering.reserve(one)
    assert metering.sweep(now=timezone.now() + timedelta(seconds=30)) == 0
    assert metering.sweep(now=timezone.now() + timedelta(seconds=90)) == 1
    assert metering.sweep(now=timezone.now() + timedelta(seconds=90)) == 0
    event = UsageEvent.objects.get()
    assert (event.quality, event.cost) == ("estimated", Decimal("0.000075"))


@pytest.mark.django_db
def test_what_nothing_prices_is_refused_before_the_call() -> None:
    with pytest.raises(UnpricedMeter):
        metering.reserve(call(TeamFactory(), prices={"tokens.input": Decimal(1)}))
    with pytest.raises(UnknownReservation):
        metering.settle(used(uuid4()))


def test_a_class_without_a_price_is_charged_as_the_class_it_belongs_to() -> None:
    (line,) = rating.rate({"tokens.input.cached": Decimal(2)}, PRICES)
    assert line.amount == Decimal("0.00001")


def test_rating_is_exact_for_any_digits() -> None:
    dice = random.Random(3)  # noqa: S311 - not for secrets
    for _ in range(300):
        quantity = Decimal(dice.randrange(10**12)).scaleb(-6)
        price = Decimal(dice.randrange(10**12)).scaleb(-12)
        lines = rating.rate({"compute.seconds": quantity}, {"compute.seconds": price})
        assert all(line.amount.as_tuple().exponent >= -18 for line in lines)
        assert rating.total(lines) * 10**18 == int(quantity * 10**6) * int(price * 10**12)


@pytest.mark.django_db
@pytest.mark.parametrize("table", ["billing_ledgerentry", "billing_usageevent"])
@pytest.mark.parametrize("change", ["UPDATE {} SET sku = 'x'", "DELETE FROM {}"])
def test_postgres_itself_refuses_to_change_the_ledger(table: str, change: str) -> None:
    spend(TeamFactory())
    with pytest.raises(Error, match="append-only"), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(change.format(table))


@pytest.mark.django_db
def test_slices_sum_to_the_uptime_however_often_they_are_recorded() -> None:
    team, replica = TeamFactory(), uuid4()
    begin = datetime(2026, 11, 30, 23, 57, 12, 345678, tzinfo=UTC)
    end = begin + timedelta(seconds=431, microseconds=5)
    facts = {
        "replica_id": replica, "team": team, "sku": "compute:cpu", "source": "t/d", "model_name": "M",
        "deployment_name": "d", "prices": {"compute.seconds": Decimal("0.00001")}, "started_at": begin,
    }  # fmt: skip
    metering.record_compute(**facts, ended_at=datetime(2026, 12, 1, tzinfo=UTC))
    metering.record_compute(**facts, ended_at=end)
    metering.record_compute(**facts, ended_at=end)
    total = LedgerEntry.objects.aggregate(s=Sum("quantity"), a=Sum("amount"))
    assert total["s"] == Slice(begin, end).seconds == Decimal("431.000005")
    assert total["a"] == Decimal("431.000005") * Decimal("0.00001")
    assert Spend.objects.aggregate(s=Sum("settled"))["s"] == total["a"]
    assert Spend.objects.count() == 2, "a month's end in the middle makes two months"


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe"])
def test_the_days_of_a_month_make_the_month_also_through_dst(zone: str) -> None:
    for text in ("2026-03", "2026-10", "2026-11"):
        month = periods.month_named(text, zone)
        starts = [periods.start_of_day(day, zone) for day in month.days]
        assert starts[0] == month.begins
        spans = [b - a for a, b in zip(starts, [*starts[1:], month.ends], strict=True)]
        assert sum(spans, timedelta()) == month.ends - month.begins


@pytest.mark.django_db(transaction=True)
def test_two_batchers_under_load_keep_the_cap_and_the_counter_equals_the_ledger() -> None:
    team, other = TeamFactory(), TeamFactory()
    Budget.objects.create(team=team, usd=Decimal("1.00"))
    outcomes = asyncio.run(_storm([team, other]))
    assert any(isinstance(outcome, BudgetSpent) for outcome in outcomes)
    assert [o for o in outcomes if o is not None and not isinstance(o, BudgetSpent)] == []
    for each in (team, other):
        row = Spend.objects.get(team=each)
        assert row.settled == ledger_total(each) > 0
        assert row.held == 0
    assert Spend.objects.get(team=team).settled <= 1
    call_command("check_ledger", stdout=io.StringIO())


async def _storm(teams: list[Team]) -> list[Any]:
    batchers = [Batcher(conninfo_from_settings()) for _ in range(2)]
    for batcher in batchers:
        await batcher.start()

    async def one(number: int) -> None:
        batcher, team = batchers[number % 2], teams[number // 2 % 2]
        made = call(team, most=1000 + number * 3)
        await batcher.reserve(made)
        await asyncio.sleep(number % 7 / 300)
        if number % 10 == 0:
            await batcher.void(made.id)
        else:
            await asyncio.gather(batcher.settle(used(made.id, 1, 900)), batchers[0].settle(used(made.id, 1, 900)))

    outcomes = await asyncio.gather(*(one(number) for number in range(300)), return_exceptions=True)
    for batcher in batchers:
        await batcher.close()
    return list(outcomes)


@pytest.mark.django_db
def test_the_page_the_csv_the_api_and_the_ledger_agree_to_the_last_digit(client: Client) -> None:
    membership = MembershipFactory()
    team = membership.team
    for number in range(40):
        spend(team, cost_tokens=number * 13 + 1, started_at=NOW + timedelta(hours=number))
    spend(TeamFactory(), cost_tokens=999)
    client.force_login(membership.user)
    page = client.get("/billing/?month=2026-11")
    rows = list(csv.DictReader(io.StringIO(b"".join(client.get("/billing/statements/2026-11.csv")).decode())))  # type: ignore[arg-type]
    _, key = keys.issue(team, name="api")
    headers = {"authorization": f"Bearer {key}"}
    usage = client.get("/api/v1/usage?since=2026-11-01&until=2026-12-01&group_by=day", headers=headers).json()
    by_key = b"".join(client.get("/api/v1/statements/2026-11?format=plain", headers=headers))  # type: ignore[arg-type]
    total = ledger_total(team)
    assert page.context["cost"] == total == sum(Decimal(row["cost"]) for row in rows)
    assert Decimal(usage["total_cost"]) == total
    assert sum(Decimal(row["cost"]) for row in csv.DictReader(io.StringIO(by_key.decode()))) == total
    assert all("E" not in row["cost"] and "E" not in row["quantity"] for row in rows)
    assert all(Decimal(row["quantity"]) * Decimal(row["unit_price"]) == Decimal(row["cost"]) for row in rows)


@pytest.mark.django_db
def test_the_csvs_header_begins_as_promised_and_its_cells_are_no_formulas(client: Client) -> None:
    membership = MembershipFactory()
    spend(membership.team, model_name="=cmd|' /C calc'!A0", api_key_name='+evil,"quoted"')
    client.force_login(membership.user)
    text = b"".join(client.get("/billing/statements/2026-11.csv")).decode()  # type: ignore[arg-type]
    header, *lines = text.split("\r\n")
    assert header.startswith("date,team,path,model,deployment,api_key,meter,quantity,unit,unit_price,cost,currency")
    assert "'=cmd" in lines[0]
    assert '"\'+evil,""quoted"""' in lines[0]


@pytest.mark.django_db
def test_days_are_the_teams_own(client: Client) -> None:
    membership = MembershipFactory(team=TeamFactory(time_zone="Asia/Tokyo"))
    spend(membership.team, started_at=datetime(2026, 10, 31, 15, 30, tzinfo=UTC))
    client.force_login(membership.user)
    rows = list(csv.DictReader(io.StringIO(b"".join(client.get("/billing/statements/2026-11.csv")).decode())))  # type: ignore[arg-type]
    assert {row["date"] for row in rows} == {"2026-11-01"}


@pytest.mark.django_db
@pytest.mark.parametrize("month", ["2026-13", "26-11", "2026-1", "x"])
def test_a_month_that_is_none_is_not_found(client: Client, month: str) -> None:
    membership = MembershipFactory()
    client.force_login(membership.user)
    assert client.get(f"/billing/statements/{month}.csv").status_code == 404
    _, key = keys.issue(membership.team, name="k")
    bad = client.get(f"/api/v1/statements/{month}", headers={"authorization": f"Bearer {key}"})
    assert bad.status_code == 400


@pytest.mark.django_db
def test_check_ledger_knows_teams_that_moved_and_zones_that_are_none(capsys: pytest.CaptureFixture[str]) -> None:
    moved, mistyped = TeamFactory(), TeamFactory(time_zone="Europe/Berlni")
    for team in (moved, mistyped):
        billed(team, started_at=datetime(2026, 10, 31, 20, tzinfo=UTC))
    type(moved).objects.filter(pk=moved.pk).update(time_zone="Asia/Tokyo")
    call_command("check_ledger")
    assert f"{moved.slug}: its months were counted by other midnights" in capsys.readouterr().out
    Spend.objects.filter(team=mistyped).delete()
    with pytest.raises(CommandError, match="1 counters"):
        call_command("check_ledger", stderr=io.StringIO())


@pytest.mark.django_db
def test_check_ledger_names_what_differs() -> None:
    spend(TeamFactory())
    Spend.objects.update(settled=1)
    with pytest.raises(CommandError):
        call_command("check_ledger", stdout=io.StringIO(), stderr=io.StringIO())
