"""What the pages sum: equal to the ledger, the statement and the files, in every zone."""

import random
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from django.db.models import Sum

from accounts.models import Team
from billing import corrections, invoicing, metering, periods, rating, rollups, scope, spending, statements
from billing.models import LedgerEntry
from billing.spending import Filters
from tests.factories.accounts import TeamFactory
from tests.factories.billing import PRICES, billed
from tests.factories.months import awake, full_october

OCTOBER = datetime(2026, 10, 1, tzinfo=UTC)
SPLITS: tuple[spending.Split, ...] = ("path", "model", "deployment", "key", "member", "tag", "team", "meter")
CACHED = PRICES | {"tokens.input.cached": Decimal("0.000000005")}


def month_of(team: Team, name: str = "2026-10") -> periods.Month:
    return periods.month_named(name, team.time_zone)


def added(found: list[spending.Cell] | list[spending.Line]) -> Decimal:
    return rating.add(one.cost for one in found)


def statement_total(team: Team, name: str = "2026-10") -> Decimal:
    return scope.of(team, month_of(team, name)).entries.aggregate(total=Sum("amount"))["total"] or Decimal(0)


@pytest.fixture(params=["all in the ledger", "all in the sums", "half in each"])
def rolled(request: pytest.FixtureRequest) -> Callable[[], None]:
    """Call it before asking: how much of the ledger the pages find summed."""

    def roll() -> None:
        if request.param == "half in each":
            first, last = (
                LedgerEntry.objects.order_by(order).values_list("pk", flat=True)[0] for order in ("pk", "-pk")
            )
            rollups._some((first + last) // 2)
        elif request.param == "all in the sums":
            assert rollups.roll_up() > 0

    return roll


@pytest.mark.django_db
def test_every_split_and_step_sums_to_the_statement(rolled: Callable[[], None]) -> None:
    team = full_october()
    billed(TeamFactory(), started_at=OCTOBER)
    rolled()
    month, total = month_of(team), statement_total(team)
    span = (month.begins, month.ends)
    for split in SPLITS:
        for step in ("day", "hour"):
            found = spending.cells([team], *span, step=step, zone=team.time_zone, split=split, month=month)  # type: ignore[arg-type]
            assert added(found) == total
            assert found == sorted(found, key=lambda cell: cell.start)
        assert added(spending.lines([team], *span, zone=team.time_zone, split=split, month=month)) == total
    summed = spending.totals([team], *span, zone=team.time_zone, month=month)
    assert summed.cost == total == summed.hosted + summed.serverless + summed.credited
    assert summed.calls == 16
    plain: dict[object, Decimal] = {}
    for row in statements.rows(team, month):
        plain[row.day] = plain.get(row.day, Decimal(0)) + row.cost
    days: dict[object, Decimal] = {}
    for cell in spending.cells([team], *span, step="day", zone=team.time_zone, split="path", month=month):
        days[cell.start.date()] = days.get(cell.start.date(), Decimal(0)) + cell.cost
    assert days == plain, "each day of the chart is that day of the CSV"


@pytest.mark.django_db
def test_filters_take_what_is_exactly_that(rolled: Callable[[], None]) -> None:
    team, other = TeamFactory(slug="one"), TeamFactory(slug="two")
    for owner, member, tag in ((team, "ann", "x"), (team, "bob", "x"), (team, "bob", ""), (other, "ann", "x")):
        billed(owner, {"tokens.input": 10, "tokens.output": 1}, started_at=OCTOBER, member=member, tag=tag)
    awake(team, OCTOBER, seconds=30)
    rolled()
    span = (OCTOBER, OCTOBER + timedelta(days=1))
    for where, calls, rows in (
        (Filters(), 4, 9),
        (Filters(member="bob"), 2, 4),
        (Filters(member="bob", tag="x"), 1, 2),
        (Filters(tag=""), 1, 3),
        (Filters(team="two"), 1, 2),
        (Filters(path="serverless"), 0, 1),
        (Filters(meter="tokens.output", member="ann"), 2, 2),
        (Filters(member="nobody"), 0, 0),
        (Filters(team="none of them"), 0, 0),
    ):
        found = spending.totals([team, other], *span, zone="UTC", where=where)
        teams = [one for one in (team, other) if where.team in {None, one.slug}]
        fields = {spending.COLUMNS[name]: text for name, text in where.given().items() if name != "team"}
        mine = LedgerEntry.objects.filter(team__in=teams, **fields)
        assert (found.calls, mine.count()) == (calls, rows)
        assert found.cost == (mine.aggregate(total=Sum("amount"))["total"] or 0)


@pytest.mark.django_db
def test_what_the_cache_saved_and_the_calls_by_meter(rolled: Callable[[], None]) -> None:
    team = TeamFactory()
    for cached in (0, 100, 40):
        billed(team, {"tokens.input": 50, "tokens.input.cached": cached, "tokens.output": 1},
               prices=CACHED, started_at=OCTOBER)  # fmt: skip
    rolled()
    span = (OCTOBER, OCTOBER + timedelta(days=1))
    found = spending.totals([team], *span, zone="UTC")
    assert (found.calls, found.saved) == (3, 140 * Decimal("0.000000015"))
    by_meter = {cell.label: cell for cell in spending.cells([team], *span, step="day", zone="UTC", split="meter")}
    assert {label: cell.calls for label, cell in by_meter.items()} == {
        "tokens.input": 3, "tokens.input.cached": 2, "tokens.output": 3,
    }  # fmt: skip
    assert by_meter["tokens.input.cached"].quantity == 140
    assert by_meter["tokens.input.cached"].saved == found.saved


@pytest.mark.django_db
def test_late_rows_stand_on_the_next_statement_and_a_closed_month_stays(rolled: Callable[[], None]) -> None:
    team = TeamFactory(time_zone="Asia/Kolkata")
    now = datetime(2026, 11, 10, tzinfo=UTC)
    billed(team, started_at=OCTOBER + timedelta(days=3))
    rolled()
    before = spending.cells([team], OCTOBER, now, step="day", zone="UTC", split="model", month=month_of(team))
    invoice = invoicing.close(team, month_of(team), now=now)
    assert invoice is not None
    late = billed(team, {"tokens.input": 999}, started_at=OCTOBER + timedelta(days=5, hours=20))
    billed(team, started_at=datetime(2026, 11, 5, tzinfo=UTC))
    rolled()
    for name, total in (("2026-10", invoice.total), ("2026-11", statement_total(team, "2026-11"))):
        month = month_of(team, name)
        found = spending.cells(
            [team], month.begins, month.ends, step="day", zone=team.time_zone, split="model", month=month
        )
        assert added(found) == total == statement_total(team, name)
        if name == "2026-10":
            assert [cell.cost for cell in found] == [cell.cost for cell in before]
        else:
            assert (found[0].start.date().isoformat(), found[0].cost) == ("2026-10-07", late.cost)


@pytest.mark.django_db
@pytest.mark.parametrize("zone", ["Asia/Kathmandu", "Australia/Lord_Howe", "Asia/Kolkata", "America/St_Johns",
                                  "Pacific/Chatham", "America/New_York", "Africa/Casablanca", "UTC"])  # fmt: skip
def test_the_days_and_hours_of_a_month_sum_to_it_in_every_zone(zone: str, rolled: Callable[[], None]) -> None:
    dice = random.Random(zone)  # noqa: S311 - not for secrets
    team = TeamFactory(time_zone=zone)
    for name in ("2026-03", "2026-10"):
        month = month_of(team, name)
        edges = [periods.start_of_day(day, zone) for day in month.days]
        moments = [edge + timedelta(microseconds=step) for edge in dice.sample(edges, 4) for step in (-1, 0)]
        moments += [month.begins + (month.ends - month.begins) * dice.random() for _ in range(4)]
        for moment in [*moments, month.begins, month.ends - timedelta(microseconds=1)]:
            metering.record_compute(
                replica_id=uuid.uuid4(), team=team, sku="hardware:x", source="d", model_name="M", deployment_name="d",
                started_at=moment, ended_at=moment + timedelta(microseconds=1 + dice.randrange(10**6)),
                prices={"compute.seconds": Decimal("0.000012345678")},
            )  # fmt: skip
    rolled()
    check_zone(team)


def check_zone(team: Team) -> None:
    for name in ("2026-03", "2026-10"):
        month = month_of(team, name)
        clock = periods.zone_of(team.time_zone)
        rows = LedgerEntry.objects.filter(team=team, at__gte=month.begins, at__lt=month.ends)
        wished: dict[str, dict[object, Decimal]] = {"day": {}, "hour": {}}
        for at, amount in rows.values_list("at", "amount"):
            local = at.astimezone(clock)
            hour = at - timedelta(minutes=local.minute, seconds=local.second, microseconds=local.microsecond)
            if hour.astimezone(clock).minute:  # the clock was put on by half an hour within this one
                hour = None
            for step, key in (("day", local.date()), ("hour", hour)):
                wished[step][key] = rating.add([wished[step].get(key, Decimal(0)), amount])
        for step in ("day", "hour"):
            found = spending.cells(
                [team], month.begins, month.ends, step=step, zone=team.time_zone, split="path",  # type: ignore[arg-type]
            )  # fmt: skip
            got = {cell.start.date() if step == "day" else cell.start: cell.cost for cell in found}
            assert rating.add(got.values()) == rating.add(wished[step].values()) > 0
            assert {key: cost for key, cost in wished[step].items() if key is not None}.items() <= got.items()


@pytest.mark.django_db
def test_corrections_count_and_teams_stand_side_by_side(rolled: Callable[[], None]) -> None:
    team, other = TeamFactory(slug="one"), TeamFactory(slug="two", time_zone="Asia/Tokyo")
    billed(team, started_at=OCTOBER)
    billed(other, started_at=datetime(2026, 9, 30, 15, tzinfo=UTC))  # midnight of October in Tokyo
    entry = LedgerEntry.objects.filter(team=team).first()
    assert entry is not None
    corrections.correct(entry, quantity=Decimal(1), unit_price=entry.unit_price, reason="x", actor="x")
    rolled()
    month = periods.month_named("2026-10", "UTC")
    found = spending.cells([team, other], month.begins, month.ends, step="day", zone="UTC", split="team", month=month)
    assert [(cell.start.isoformat(), cell.label) for cell in found] == [
        ("2026-10-01T00:00:00+00:00", "one"), ("2026-10-01T00:00:00+00:00", "two"),
    ]  # fmt: skip
    assert added(found) == statement_total(team) + statement_total(other)
