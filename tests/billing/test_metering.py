"""Reserve, settle, void, sweep: exactly once, exactly right, whatever the order."""

import asyncio
import random
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import UUID, uuid4

import pytest
from django.db import IntegrityError, connection, transaction
from django.db.models import Sum

from accounts.models import Team
from billing import metering
from billing.batching import Batcher, conninfo_from_settings
from billing.errors import BudgetSpent, UnknownReservation, UnpricedMeter
from billing.journal import month_of
from billing.metering import Call, Receipt, Settlement
from billing.models import Budget, LedgerEntry, Reservation, Spend, UsageEvent
from tests.factories.accounts import TeamFactory

PRICES = {"tokens.input": Decimal("0.000005"), "tokens.output": Decimal("0.000025")}
NOW = datetime(2026, 11, 3, 12, tzinfo=UTC)


def call(team: Team, *, most: int = 1000, started_at: datetime = NOW) -> Call:
    return Call(
        id=uuid4(),
        team_id=team.pk,
        time_zone=team.time_zone,
        path="hosted",
        sku="hosted:m",
        source="m",
        model_name="M",
        deployment_name="",
        api_key_name="k",
        prices=PRICES,
        estimate={"tokens.input": Decimal(10), "tokens.output": Decimal(1)},
        most={"tokens.output": Decimal(most)},
        started_at=started_at,
    )


def used(call_id: UUID, tokens_in: int = 7, tokens_out: int = 3) -> Settlement:
    quantities = {"tokens.input": Decimal(tokens_in), "tokens.output": Decimal(tokens_out)}
    return Settlement(call_id, quantities, "measured", {"prompt_tokens": tokens_in}, NOW + timedelta(seconds=1))


def ledger_total(team: Team) -> Decimal:
    return LedgerEntry.objects.filter(team=team).aggregate(total=Sum("amount"))["total"] or Decimal(0)


@pytest.mark.django_db
def test_a_settled_call_is_billed_exactly_and_once() -> None:
    one = call(TeamFactory())
    metering.reserve(one)
    receipt = metering.settle(used(one.id))
    again = metering.settle(used(one.id, 9999, 9999))
    assert receipt.cost == Decimal("0.000110")
    assert again == Receipt(one.id, Decimal("0.00011"), (), already=True)
    event = UsageEvent.objects.get()
    assert (event.cost, event.quality, event.raw_usage) == (receipt.cost, "measured", {"prompt_tokens": 7})
    assert sorted(LedgerEntry.objects.values_list("meter", "quantity", "amount")) == [
        ("tokens.input", Decimal(7), Decimal("0.000035")),
        ("tokens.output", Decimal(3), Decimal("0.000075")),
    ]
    spend = Spend.objects.get()
    assert (spend.settled, spend.held) == (receipt.cost, 0)


@pytest.mark.django_db
def test_a_void_call_owes_nothing_and_cannot_be_settled_later() -> None:
    one = call(TeamFactory())
    metering.reserve(one)
    metering.void(one.id)
    metering.void(one.id)
    assert metering.settle(used(one.id)).cost == 0
    assert not UsageEvent.objects.exists()
    assert Spend.objects.get().held == 0


@pytest.mark.django_db
def test_a_call_past_the_cap_is_refused_and_writes_nothing() -> None:
    team = TeamFactory()
    Budget.objects.create(team=team, monthly_usd=Decimal("0.05"))
    metering.reserve(call(team, most=1500))
    with pytest.raises(BudgetSpent, match=r"\$0\.05"):
        metering.reserve(call(team, most=1000))
    assert Reservation.objects.count() == 1


@pytest.mark.django_db
def test_a_dead_owners_call_is_settled_as_estimated_never_as_nothing() -> None:
    one = call(TeamFactory())
    metering.reserve(one)
    assert metering.sweep(now=NOW + timedelta(seconds=59)) == 0
    assert metering.sweep(now=NOW + timedelta(seconds=61)) == 1
    assert metering.sweep(now=NOW + timedelta(seconds=61)) == 0
    event = UsageEvent.objects.get()
    assert event.quality == "estimated"
    assert event.cost == Decimal("0.000075")


@pytest.mark.django_db
def test_a_class_without_a_price_is_charged_as_the_class_it_belongs_to() -> None:
    one = call(TeamFactory())
    metering.reserve(one)
    receipt = metering.settle(Settlement(one.id, {"tokens.input.cached": Decimal(2)}, "measured", None, NOW))
    assert receipt.cost == Decimal("0.00001")
    with pytest.raises(UnpricedMeter):
        metering.settle(Settlement(call_with_nothing(), {"compute.seconds": Decimal(1)}, "measured", None, NOW))


def call_with_nothing() -> UUID:
    one = call(TeamFactory())
    metering.reserve(one)
    return one.id


@pytest.mark.django_db
def test_settling_what_was_never_reserved_is_an_error() -> None:
    with pytest.raises(UnknownReservation):
        metering.settle(used(uuid4()))


@pytest.mark.django_db
@pytest.mark.parametrize("table", ["billing_ledgerentry", "billing_usageevent"])
@pytest.mark.parametrize("change", ["UPDATE {} SET sku = 'x'", "DELETE FROM {}", "TRUNCATE {} CASCADE"])
def test_postgres_itself_refuses_to_change_the_ledger(table: str, change: str) -> None:
    one = call(TeamFactory())
    metering.reserve(one)
    metering.settle(used(one.id))
    with pytest.raises(IntegrityError, match="append-only"), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(change.format(table))


@pytest.mark.parametrize(
    ("zone", "moment", "month"),
    [
        ("UTC", "2026-11-30T23:59:59+00:00", "2026-11-01"),
        ("Europe/Berlin", "2026-11-30T23:30:00+00:00", "2026-12-01"),
        ("America/New_York", "2026-12-01T04:59:59+00:00", "2026-11-01"),
    ],
)
def test_a_month_begins_in_the_teams_time_zone(zone: str, moment: str, month: str) -> None:
    assert month_of(datetime.fromisoformat(moment), zone).isoformat() == month


@pytest.mark.django_db
def test_slices_sum_to_the_uptime_however_often_they_are_recorded() -> None:
    team, replica = TeamFactory(), uuid4()
    begin = datetime(2026, 11, 30, 23, 57, 12, 345678, tzinfo=UTC)
    end = begin + timedelta(seconds=431, microseconds=5)
    facts = {
        "replica_id": replica, "team": team, "sku": "compute:cpu", "source": "t/d", "model_name": "M",
        "deployment_name": "d", "prices": {"compute.seconds": Decimal("0.00001")}, "started_at": begin,
    }  # fmt: skip
    metering.record_compute(**facts, ended_at=metering.last_boundary(begin + timedelta(seconds=200)))
    metering.record_compute(**facts, ended_at=end)
    metering.record_compute(**facts, ended_at=end)
    total = LedgerEntry.objects.aggregate(s=Sum("quantity"), a=Sum("amount"))
    assert total["s"] == metering.seconds_between(begin, end) == Decimal("431.000005")
    assert total["a"] == Decimal("431.000005") * Decimal("0.00001")
    assert Spend.objects.aggregate(s=Sum("settled"))["s"] == total["a"]
    assert Spend.objects.count() == 2, "a month's end in the middle makes two months"


@pytest.mark.django_db(transaction=True)
def test_two_batchers_under_load_keep_the_cap_and_the_counter_equals_the_ledger() -> None:
    team, other = TeamFactory(), TeamFactory()
    Budget.objects.create(team=team, monthly_usd=Decimal("1.00"))
    outcomes = asyncio.run(_storm([team, other]))
    refused = sum(isinstance(outcome, BudgetSpent) for outcome in outcomes)
    assert refused > 0
    assert all(outcome is None or isinstance(outcome, BudgetSpent) for outcome in outcomes)
    for each in (team, other):
        spend = Spend.objects.get(team=each)
        assert spend.settled == ledger_total(each) > 0
        assert spend.held == 0
    assert Spend.objects.get(team=team).settled <= 1


async def _storm(teams: list[Team]) -> list[BaseException | None]:
    batchers = [Batcher(conninfo_from_settings()) for _ in range(2)]
    for batcher in batchers:
        await batcher.start()
    dice = random.Random(7)  # noqa: S311 - not for secrets

    async def one(number: int) -> None:
        batcher, team = batchers[number % 2], teams[number // 2 % 2]
        made = call(team, most=1000 + dice.randrange(1000))
        await batcher.reserve(made)
        await asyncio.sleep(dice.random() / 50)
        if number % 10 == 0:
            await batcher.void(made.id)
        else:
            await asyncio.gather(batcher.settle(used(made.id, 1, 900)), batchers[0].settle(used(made.id, 1, 900)))

    outcomes = await asyncio.gather(*(one(number) for number in range(300)), return_exceptions=True)
    for batcher in batchers:
        await batcher.close()
    return list(outcomes)


@pytest.mark.django_db(transaction=True)
def test_one_poisoned_operation_spoils_no_other() -> None:
    team = TeamFactory()

    async def mixed() -> list[object]:
        batcher = Batcher(conninfo_from_settings())
        await batcher.start()
        good, bad = call(team), call(team)
        bad.__class__.source.__set__(bad, "x\0y")  # Postgres takes no NUL in a text
        outcomes = await asyncio.gather(batcher.reserve(good), batcher.reserve(bad), return_exceptions=True)
        await batcher.close()
        return list(outcomes)

    good, bad = asyncio.run(mixed())
    assert good is None
    assert isinstance(bad, Exception)
    assert Reservation.objects.count() == 1
