"""Events lie by month; whatever the clock says none is lost, doubled or changed."""

import uuid
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import psycopg
import pytest
from django.db import Error, IntegrityError, connection, transaction
from django.db.migrations.executor import MigrationExecutor

from billing import metering, partitions, posting, rating
from billing.batching import conninfo_from_settings
from billing.models import LedgerEntry, UsageEvent
from tests.factories.accounts import TeamFactory
from tests.factories.billing import NOVEMBER, PRICES, billed

BEFORE = [("billing", "0005_statements")]

pytestmark = pytest.mark.django_db


def rows(sql: str, *given: object) -> list[tuple[object, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(sql, given)  # type: ignore[arg-type]
        return cursor.fetchall() if cursor.description else []


def tables() -> set[str]:
    return {str(row[0]) for row in rows("SELECT tableoid::regclass::text FROM billing_usageevent")}


def test_an_event_lies_in_its_month_and_one_of_no_month_in_the_default_table() -> None:
    team = TeamFactory()
    for moment in (NOVEMBER, datetime(2026, 10, 31, 23, 59, 59, 999_999, tzinfo=UTC), datetime(2019, 5, 1, tzinfo=UTC)):
        partitions.ensure(now=NOVEMBER)
        billed(team, started_at=moment)
    names = {"billing_usageevent_2026_11", "billing_usageevent_2026_10", "billing_usageevent_default"}
    assert tables() == names
    assert UsageEvent.objects.count() == 3


def test_a_months_query_reads_that_month_alone() -> None:
    partitions.ensure(now=NOVEMBER)
    begins, ends = datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC)
    events = UsageEvent.objects.filter(team=TeamFactory(), started_at__gte=begins, started_at__lt=ends)
    plan = events.explain()
    assert "billing_usageevent_2026_11" in plan
    assert plan.count("Scan") == 1, plan
    one = UsageEvent.objects.filter(pk=uuid.uuid4(), started_at=NOVEMBER).explain()
    assert one.count("Scan") == 1, one


def test_every_table_of_events_refuses_changes() -> None:
    partitions.ensure(now=NOVEMBER)
    team = TeamFactory()
    billed(team)
    billed(team, started_at=datetime(2019, 5, 1, tzinfo=UTC))
    for table in ("billing_usageevent", *tables()):
        for change in ("UPDATE {} SET sku = 'x'", "DELETE FROM {}"):
            with pytest.raises(Error, match="append-only"), transaction.atomic():
                rows(change.format(table))
    of_all = "SELECT inhrelid FROM pg_inherits WHERE inhparent = 'billing_usageevent'::regclass"
    guarded = f"SELECT count(*) FROM pg_trigger WHERE tgname = 'usage_no_truncate' AND tgrelid IN ({of_all})"  # noqa: S608
    assert rows(guarded) == [(len(rows(of_all)),)]


def test_months_are_made_ahead_once_and_rows_that_came_before_their_table_stay() -> None:
    later = datetime(2031, 12, 15, tzinfo=UTC)
    made = partitions.ensure(now=later)
    assert made == [f"billing_usageevent_{name}" for name in ("2031_11", "2031_12", "2032_01", "2032_02", "2032_03")]
    assert partitions.ensure(now=later) == []
    billed(TeamFactory(), started_at=datetime(2032, 4, 2, tzinfo=UTC))
    assert tables() == {"billing_usageevent_default"}
    assert partitions.ensure(now=later + timedelta(days=31)) == [], "its month is not made over its head"
    assert UsageEvent.objects.count() == 1


def test_a_month_that_can_not_have_the_lock_is_left_to_the_next_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partitions, "PATIENCE_MS", 50)
    with psycopg.connect(conninfo_from_settings()) as reader:
        reader.execute("SELECT 1 FROM billing_usageevent")
        assert partitions.ensure(now=datetime(2041, 1, 1, tzinfo=UTC)) == []
    assert len(partitions.ensure(now=datetime(2041, 1, 1, tzinfo=UTC))) == 5


def test_an_id_has_one_beginning_a_replay_with_another_is_refused_whole() -> None:
    team = TeamFactory()
    receipt = billed(team)
    event = UsageEvent.objects.get(pk=receipt.id)
    fields = {name: getattr(event, name) for name in ("id", "team_id", "ended_at", "recorded_at", "path", "sku")}
    fields |= {name: getattr(event, name) for name in ("source", "model_name", "deployment_name", "api_key_name")}
    fields |= {"member": "", "tag": "", "alias": "", "api_key_id": None, "quality": "measured", "raw_usage": None}
    fields |= {"quantities": {"tokens.input": "1"}, "cost": "1", "month": "2026-11-01"}
    for moment, refused in ((event.started_at, False), (event.started_at - timedelta(days=40), True)):
        writing = posting.Writing()
        posting.plan_event(writing, fields | {"started_at": moment}, rating.rate({"tokens.input": Decimal(1)}, PRICES))
        if refused:
            with pytest.raises(IntegrityError), transaction.atomic():
                metering._rows(writing.statement())
        else:
            metering._rows(writing.statement())
    assert (UsageEvent.objects.count(), LedgerEntry.objects.count()) == (1, 2)


def test_an_upgrade_takes_every_row_along_and_a_downgrade_back() -> None:
    team = TeamFactory()
    for moment in (NOVEMBER, datetime(2025, 2, 1, tzinfo=UTC)):
        billed(team, started_at=moment)
    facts = "SELECT id, started_at, sku, quantities::text, cost FROM billing_usageevent ORDER BY id"
    entries = "SELECT id, amount FROM billing_ledgerentry ORDER BY id"
    before = rows(facts), rows(entries)
    rows("SET CONSTRAINTS ALL IMMEDIATE")
    MigrationExecutor(connection).migrate(BEFORE)
    assert (rows(facts), rows(entries)) == before
    assert rows("SELECT relkind FROM pg_class WHERE oid = 'billing_usageevent'::regclass") == [("r",)]
    assert partitions.ensure(now=NOVEMBER) == []
    executor = MigrationExecutor(connection)
    executor.migrate(executor.loader.graph.leaf_nodes())
    assert (rows(facts), rows(entries)) == before
    assert tables() == {"billing_usageevent_2026_11", "billing_usageevent_2025_02"}
    assert sorted(LedgerEntry.objects.values_list("calls", "quality")) == [(0, "measured")] * 2 + [(1, "measured")] * 2
    billed(team)
    assert UsageEvent.objects.count() == 3
    with pytest.raises(Error, match="append-only"), transaction.atomic():
        rows("DELETE FROM billing_usageevent_2025_02")
