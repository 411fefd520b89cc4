"""The sums that the pages read: each row once, whatever runs, dies or is repeated beside."""

import io
import random
import threading
import time
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo, available_timezones

import psycopg
import pytest
from django.core.management import CommandError, call_command
from django.db import OperationalError, connection, connections, transaction
from django.db.models import Sum

from accounts.models import Team
from billing import invoicing, metering, periods, rating, rollups, scope, spending
from billing.batching import conninfo_from_settings
from billing.models import LedgerEntry, RollupDay, RollupLate, RollupMark, RollupQuarter
from tests.factories.accounts import TeamFactory
from tests.factories.billing import NOVEMBER, billed, call, settlement

SPAN = (datetime(2026, 1, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC))


def ledger_total(team: Team) -> Decimal:
    return LedgerEntry.objects.filter(team=team).aggregate(total=Sum("amount"))["total"] or Decimal(0)


def page_total(team: Team) -> Decimal:
    return spending.totals([team], *SPAN, zone=team.time_zone).cost


def ledger_is_summed() -> bool:
    return rollups.rebuild(keep=False) == []


def test_every_day_and_hour_of_every_zone_begins_with_a_quarter_of_an_hour() -> None:
    for name in available_timezones():
        for number in range(0, 366, 9):
            start = periods.start_of_day(date(2026, 1, 1) + timedelta(days=number), name)
            assert (start.minute % 15, start.second) == (0, 0), (name, start)
        offset = datetime(2036, 6, 1, tzinfo=ZoneInfo(name)).utcoffset()
        assert offset is not None
        assert offset % timedelta(minutes=15) == timedelta(0), name


@pytest.mark.django_db(transaction=True)
def test_pages_equal_the_ledger_while_writers_sums_and_a_killed_run_go_on_at_once() -> None:
    teams = [TeamFactory(time_zone="Asia/Kolkata"), TeamFactory()]
    over = threading.Event()
    wrong: list[tuple[Decimal, Decimal]] = []
    killed: list[int] = []

    def in_thread(work: Callable[[random.Random], None], seed: int) -> threading.Thread:
        def run() -> None:
            dice = random.Random(seed)  # noqa: S311 - not for secrets
            try:
                while not over.is_set():
                    work(dice)
            finally:
                connections.close_all()

        thread = threading.Thread(target=run)
        thread.start()
        return thread

    def write(dice: random.Random) -> None:
        team, moment = dice.choice(teams), NOVEMBER - timedelta(hours=dice.randrange(2000))  # one counter: no deadlock
        with transaction.atomic():  # ids are drawn in one order and committed in another
            for _ in range(dice.randrange(1, 4)):
                billed(team, started_at=moment, member=dice.choice(["ann", "bob", ""]))
            time.sleep(dice.random() / 100)

    def roll(dice: random.Random) -> None:
        try:
            rollups.roll_up(patience_s=1)
        except OperationalError:
            killed.append(1)
            connections.close_all()

    def look(dice: random.Random) -> None:
        team = dice.choice(teams)
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            wished = ledger_total(team)
            split = dice.choice(["member", "path", "key"])
            cells = spending.cells([team], *SPAN, step="day", zone=team.time_zone, split=split)  # type: ignore[arg-type]
            if (found := rating.add(cell.cost for cell in cells)) != wished:
                wrong.append((found, wished))

    threads = [in_thread(work, seed) for seed, work in enumerate([write, write, roll, roll, look, look])]
    with psycopg.connect(conninfo_from_settings(), autocommit=True) as killer:
        until = time.monotonic() + 10
        while time.monotonic() < until:
            time.sleep(0.02)
            killer.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
                " AND query LIKE %s AND pid <> pg_backend_pid() AND state = 'active' LIMIT 1",
                ["%WITH fresh AS MATERIALIZED%"],
            )
            if killed:
                break
        time.sleep(1)
    over.set()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert killed, "no run was met at its work"
    assert LedgerEntry.objects.count() > 20
    rollups.roll_up()
    assert RollupMark.objects.get().through == LedgerEntry.objects.latest("pk").pk
    assert ledger_is_summed()
    for team in teams:
        days = RollupDay.objects.filter(team=team, split="all").aggregate(total=Sum("amount"))["total"]
        assert days == ledger_total(team) == page_total(team) > 0


@pytest.mark.django_db
def test_a_row_is_summed_once_however_often_it_is_sent_or_rolled_up() -> None:
    team = TeamFactory()
    one = call(team)
    metering.reserve(one)
    for _ in range(3):
        metering.settle(settlement(one))
        rollups.roll_up()
    assert page_total(team) == ledger_total(team) > 0
    assert RollupQuarter.objects.filter(team=team).aggregate(total=Sum("entries"))["total"] == 2
    assert rollups.roll_up() == 0


@pytest.mark.django_db
def test_sums_that_grow_between_a_pages_two_looks_are_asked_again() -> None:
    team = TeamFactory()
    billed(team)
    rollups.roll_up()
    billed(team)
    rolled: list[int] = []

    def in_between(execute: Callable[..., Any], sql: Any, params: Any, many: bool, context: Any) -> Any:
        if not isinstance(sql, str) and not rolled:  # the question itself, after the mark was read
            rolled.append(1)
            rolled.append(rollups.roll_up())
        return execute(sql, params, many, context)

    with connection.execute_wrapper(in_between):
        total = page_total(team)
    assert rolled == [1, 2]
    assert total == ledger_total(team)


@pytest.mark.django_db
def test_order_and_batching_do_not_change_a_sum(monkeypatch: pytest.MonkeyPatch) -> None:
    moments = [NOVEMBER + timedelta(minutes=7 * number) for number in range(30)]
    sums = []
    for seed, batch in ((1, 200_000), (2, 1), (3, 7)):
        team = TeamFactory()
        random.Random(seed).shuffle(moments)  # noqa: S311 - not for secrets
        monkeypatch.setattr(rollups, "BATCH", batch)
        for number, moment in enumerate(moments):
            billed(team, {"tokens.input": moment.minute + 1}, started_at=moment)
            if number % batch == 0:
                rollups.roll_up()
        rollups.roll_up()
        sums.append([(row.at, row.amount) for row in RollupQuarter.objects.filter(team=team).order_by("at")])
    assert sums[0] == sums[1] == sums[2] != []


@pytest.mark.django_db
def test_a_team_that_moves_to_another_zone_has_its_days_cut_anew() -> None:
    team = TeamFactory(time_zone="UTC")
    billed(team, started_at=datetime(2026, 11, 10, 23, 59, tzinfo=UTC))
    rollups.roll_up()
    for zone in ("Asia/Kathmandu", "America/St_Johns"):
        Team.objects.filter(pk=team.pk).update(time_zone=zone)
        team.refresh_from_db()
        for moment in ("before the sums know", "after"):
            (cell,) = spending.cells([team], *SPAN, step="day", zone=zone, split="path")
            here = datetime(2026, 11, 10, 23, 59, tzinfo=UTC).astimezone(ZoneInfo(zone)).date()
            assert cell.start.date() == here, moment
            rollups.roll_up()
        assert set(RollupDay.objects.values_list("day", flat=True)) == {here}
    assert ledger_is_summed()


@pytest.mark.django_db
def test_what_came_late_is_noted_whether_it_was_summed_before_the_invoice_or_after() -> None:
    team = TeamFactory()
    october, november = (periods.month_named(name, "UTC") for name in ("2026-10", "2026-11"))
    billed(team, started_at=october.begins)
    upto = invoicing.watermark()
    billed(team, {"tokens.input": 7}, started_at=october.begins)
    rollups.roll_up()
    assert not RollupLate.objects.exists()
    invoice = invoicing.close(team, october, now=NOVEMBER, upto=upto)
    assert invoice is not None
    billed(team, {"tokens.input": 11}, started_at=october.begins)
    rollups.roll_up()
    assert RollupLate.objects.count() == 2
    for month in (october, november):
        wished = scope.of(team, month).entries.aggregate(total=Sum("amount"))["total"]
        found = spending.totals([team], month.begins, month.ends, zone="UTC", month=month)
        assert found.cost == wished, month
    assert invoice.total == spending.totals([team], october.begins, october.ends, zone="UTC", month=october).cost
    assert ledger_is_summed()


@pytest.mark.django_db
def test_the_command_finds_a_sum_that_is_not_the_ledgers_and_makes_it_anew() -> None:
    team = TeamFactory()
    billed(team)
    rollups.roll_up()
    RollupDay.objects.filter(split="all").update(amount=5)
    assert page_total(team) != ledger_total(team), "pages do read the sums"
    err = io.StringIO()
    with pytest.raises(CommandError, match="--keep"):
        call_command("rebuild_rollups", stdout=io.StringIO(), stderr=err)
    assert "billing_rollupday: 2 rows are missing" in err.getvalue()
    call_command("rebuild_rollups", "--keep", stdout=io.StringIO(), stderr=io.StringIO())
    call_command("rebuild_rollups", stdout=io.StringIO(), stderr=io.StringIO())
    assert page_total(team) == ledger_total(team)


@pytest.mark.django_db
def test_sums_that_nobody_makes_are_told_of_and_pages_are_right_all_the_same() -> None:
    team = TeamFactory()
    billed(team)
    rollups.roll_up()
    since = rollups.behind().since
    assert since is not None
    assert not rollups.behind().stands(now=since + timedelta(days=1)), "nothing is missing"
    billed(team)
    late = rollups.behind()
    assert (late.rows, late.since) == (2, since)
    assert not late.stands(now=since + timedelta(seconds=10))
    assert late.stands(now=since + timedelta(minutes=2))
    assert page_total(team) == ledger_total(team)
