"""The files of a month: same sums, same bytes, safe cells, whatever the size, by every door."""

import asyncio
import csv
import io
import os
import sys
from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo, available_timezones

import pytest
from asgiref.sync import sync_to_async
from django.core.management import call_command
from django.db import connections
from django.db.models import Sum
from django.test import AsyncClient, Client
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from accounts import keys
from accounts.models import Team
from billing import chain, detail, focus, invoicing, metering, parquet, periods, rollups, scope, statements
from billing.models import LedgerEntry
from tests.factories.accounts import MembershipFactory, TeamFactory
from tests.factories.billing import billed, call, settlement
from tests.factories.months import awake, full_october

ENUMS = {
    "ChargeCategory": {"Usage", "Purchase", "Tax", "Credit", "Adjustment"},
    "ChargeClass": {"", "Correction"},
    "ChargeFrequency": {"One-Time", "Recurring", "Usage-Based"},
    "PricingCategory": {"", "Standard", "Dynamic", "Committed", "Other"},
    "ServiceCategory": {"AI and Machine Learning"},
    "ServiceSubcategory": {"Generative AI"},
    "CommitmentDiscountStatus": {""},
    "BillingCurrency": {"USD"},
}


def october(team: Team) -> periods.Month:
    return periods.month_named("2026-10", team.time_zone)


def text_of(team: Team, form: str) -> str:
    return b"".join(statements.FORMATS[form].write(scope.of(team, october(team)))).decode()


def rows_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline="")))


def ledger_total(team: Team) -> Decimal:
    month = october(team)
    found = LedgerEntry.objects.filter(team=team, at__gte=month.begins, at__lt=month.ends)
    return found.aggregate(total=Sum("amount"))["total"] or Decimal(0)


def added(texts: Iterable[str]) -> Decimal:
    return sum((Decimal(text) for text in texts if text), Decimal(0))


@pytest.mark.django_db
def test_each_file_sums_to_the_ledger_to_the_last_digit() -> None:
    team = full_october()
    total = ledger_total(team)
    assert total != 0
    assert added(row["cost"] for row in rows_of(text_of(team, "plain"))) == total
    assert added(row["cost"] for row in rows_of(text_of(team, "detail"))) == total
    assert added(row["BilledCost"] for row in rows_of(text_of(team, "focus"))) == total
    assert statements.total(statements.rows(team, october(team))) == total


@pytest.mark.django_db
def test_the_detail_has_a_row_for_each_line_of_the_ledger_and_its_chain_holds() -> None:
    team = full_october()
    text = text_of(team, "detail")
    lines = list(csv.reader(io.StringIO(text, newline="")))
    month = october(team)
    entries = LedgerEntry.objects.filter(team=team, at__gte=month.begins, at__lt=month.ends)
    assert tuple(lines[0]) == detail.COLUMNS
    assert [int(line[1]) for line in lines[1:]] == list(entries.order_by("at", "id").values_list("id", flat=True))
    held, _, altered = chain.check(lines)
    assert (held, altered) == (entries.count(), None)
    lines[5][detail.COLUMNS.index("cost")] += "1"
    held, _, altered = chain.check(lines)
    assert altered is not None
    assert (held, altered.entry) == (4, lines[5][1])


@pytest.mark.django_db
def test_the_details_cells_are_the_chains_canonical_form() -> None:
    team = full_october()
    rows = list(csv.reader(io.StringIO(text_of(team, "detail"), newline="")))[1:]
    month = october(team)
    found = LedgerEntry.objects.filter(team=team, at__gte=month.begins, at__lt=month.ends).order_by("at", "id")
    for row, values in zip(rows, found.values_list(*chain.FIELDS), strict=True):
        assert row[: len(chain.COLUMNS)] == chain.cells("2026-10", values)


@pytest.mark.django_db
def test_days_are_the_teams_and_times_are_utc() -> None:
    team = full_october()
    detailed = rows_of(text_of(team, "detail"))
    berlin = ZoneInfo("Europe/Berlin")
    assert {row["time_zone"] for row in detailed} == {"Europe/Berlin"}
    for row in detailed:
        moment = datetime.fromisoformat(row["at"])
        assert moment.utcoffset() == timedelta(0)
        assert row["date"] == moment.astimezone(berlin).date().isoformat()
    assert detailed[0]["date"] == "2026-10-01"
    assert {row["date"][:7] for row in rows_of(text_of(team, "plain"))} == {"2026-10"}


@pytest.mark.django_db
@pytest.mark.parametrize("form", ["plain", "detail", "focus"])
def test_files_are_rfc_4180_and_their_cells_no_formulas(form: str) -> None:
    team = full_october(TeamFactory(slug="-berlin", name="-Berlin", time_zone="Europe/Berlin"))
    text = text_of(team, form)
    assert text.endswith("\r\n")
    assert "\n" not in text.replace("\r\n", "").replace("A0,\nx", "")
    rows = list(csv.reader(io.StringIO(text, newline=""), strict=True))
    assert {len(row) for row in rows} == {len(rows[0])}
    for cell in (cell for row in rows[1:] for cell in row):
        assert not cell.startswith(("=", "+", "@", "\t", "\r"))
        assert not cell.startswith("-") or Decimal(cell) < 0
    assert any(cell.startswith('\'=cmd|" /C calc"!A0,\nx') for row in rows for cell in row)


@pytest.mark.django_db
@pytest.mark.parametrize("form", ["plain", "detail", "focus"])
def test_no_number_has_an_exponent_and_price_times_quantity_is_the_cost(form: str) -> None:
    team = full_october()
    billed(team, {"tokens.input": Decimal("0.000001")}, prices={"tokens.input": Decimal("0.000000000001")},
           estimate={"tokens.input": Decimal(1)}, most={"tokens.input": Decimal(1)},
           started_at=datetime(2026, 10, 3, tzinfo=UTC))  # fmt: skip
    price, quantity, cost = {
        "focus": ("ContractedUnitPrice", "PricingQuantity", "ContractedCost"),
    }.get(form, ("unit_price", "quantity", "cost"))
    rows = rows_of(text_of(team, form))
    assert "0.000000000000000001" in {row[cost] for row in rows}
    for row in rows:
        assert "E" not in (row[price] + row[quantity] + row[cost]).upper()
        if row[price]:
            assert Decimal(row[price]) * Decimal(row[quantity]) == Decimal(row[cost])


@pytest.mark.django_db
def test_focus_says_what_its_columns_may_say() -> None:
    team = full_october()
    rows = rows_of(text_of(team, "focus"))
    kinds = {row["ChargeCategory"] for row in rows}
    assert kinds == {"Usage", "Credit", "Adjustment"}
    for row in rows:
        for column, allowed in ENUMS.items():
            assert row[column] in allowed, column
        usage = row["ChargeCategory"] == "Usage"
        assert bool(row["ConsumedQuantity"]) == bool(row["PricingQuantity"]) == usage
        assert usage == bool(row["ConsumedUnit"])
        for column in ("BilledCost", "ListCost", "EffectiveCost", "ContractedCost"):
            assert "." in row[column]
        assert not usage or "." in row["ConsumedQuantity"]
        assert row["BilledCost"] == row["EffectiveCost"] == row["ContractedCost"]
        assert row["InvoiceId"] == "" == row["CommitmentDiscountStatus"]
    assert "3000000.0" in {row["ConsumedQuantity"] for row in rows}


@pytest.mark.django_db
def test_focus_periods_end_where_the_next_begin_and_a_long_day_has_25_hours() -> None:
    team = full_october()
    rows = rows_of(text_of(team, "focus"))
    assert {row["BillingPeriodStart"] for row in rows} == {"2026-09-30T22:00:00Z"}
    assert {row["BillingPeriodEnd"] for row in rows} == {"2026-10-31T23:00:00Z"}
    days = {row["x_Day"]: (row["ChargePeriodStart"], row["ChargePeriodEnd"]) for row in rows}
    assert days["2026-10-25"] == ("2026-10-24T22:00:00Z", "2026-10-25T23:00:00Z")
    assert days["2026-10-24"][1] == days["2026-10-25"][0]


@pytest.mark.django_db
def test_every_door_gives_the_same_bytes(client: Client) -> None:
    team = full_october()
    client.force_login(MembershipFactory(team=team).user)
    _, key = keys.issue(team, name="api")
    headers = {"authorization": f"Bearer {key}"}
    for form in ("plain", "detail", "focus"):
        page = client.get(f"/billing/statements/2026-10.csv?format={form}")
        api = client.get(f"/api/v1/statements/2026-10?format={form}", headers=headers)
        assert b"".join(page) == b"".join(api) == text_of(team, form).encode()  # type: ignore[arg-type]
        assert page["content-disposition"].startswith('attachment; filename="modelport-berlin-2026-10')
    assert client.get("/billing/statements/2026-10.csv?format=xls").status_code == 404
    assert client.get("/billing/statements/2026-10.csv?format=parquet").status_code == 404
    assert client.get("/api/v1/statements/2026-10?format=xls", headers=headers).status_code == 400
    buttons = client.get("/billing/?month=2026-10").content.decode()
    assert all(f"/billing/statements/2026-10.csv?format={form}" in buttons for form in ("detail", "focus"))


@pytest.mark.django_db
def test_every_report_says_how_much_was_measured_and_a_closed_month_says_it_for_ever(
    client: Client, settings: Any
) -> None:
    settings.INVOICE_CHECKS = []
    team = TeamFactory()
    for number in range(8):
        at = datetime(2026, 10, 3 + number // 4, tzinfo=UTC)
        asked = call(team, started_at=at, member="ann" if number % 2 else "bob")
        metering.reserve(asked)
        metering.settle(settlement(asked, quality="estimated" if number in {1, 3, 4} else "measured"))
    awake(team, datetime(2026, 10, 4, tzinfo=UTC), seconds=20)
    client.force_login(MembershipFactory(team=team).user)

    def said() -> tuple[dict[str, str], dict[str, bytes]]:
        heads, files = {}, {}
        for form in ("plain", "detail", "focus"):
            answer = client.get(f"/billing/statements/2026-10.csv?format={form}")
            heads[form] = answer["x-modelport-measured-percent"]
            assert (answer["x-modelport-events"], answer["x-modelport-estimated-events"]) == ("9", "3")
            files[form] = b"".join(answer)  # type: ignore[arg-type]
        heads["page"] = str(client.get("/billing/?month=2026-10").context["coverage"].percent)
        return heads, files

    wished = dict.fromkeys(("plain", "detail", "focus", "page"), "66.6")
    assert said()[0] == wished
    rollups.roll_up()
    assert said()[0] == wished
    by_member = client.get("/billing/?month=2026-10&member=ann").context["coverage"]
    assert (by_member.events, by_member.estimated, by_member.percent) == (4, 2, 50)
    assert client.get("/billing/?month=2026-10&meter=tokens.input").context["coverage"] is None
    assert 'data-coverage="66.6"' in client.get("/billing/?month=2026-10").content.decode()
    plain = {
        (row["date"], row["measured_percent"]) for row in rows_of(text_of(team, "plain")) if row["unit"] == "token"
    }
    assert plain == {("2026-10-03", "50"), ("2026-10-04", "75")}
    by_person = [row for row in rows_of(text_of(team, "focus")) if row["x_Member"]]
    assert {(row["x_Day"][-2:], row["x_Member"], row["x_MeasuredPercent"]) for row in by_person} == {
        ("03", "ann", "0.0"), ("03", "bob", "100.0"), ("04", "ann", "100.0"), ("04", "bob", "50.0"),
    }  # fmt: skip
    assert {row["quality"] for row in rows_of(text_of(team, "detail"))} == {"measured", "estimated"}
    invoice = invoicing.close(team, october(team), now=datetime(2026, 11, 10, tzinfo=UTC))
    assert invoice
    heads, files = said()
    assert heads == wished
    late = call(team, started_at=datetime(2026, 10, 5, tzinfo=UTC))
    metering.reserve(late)
    metering.settle(settlement(late, quality="estimated"))
    assert said() == (heads, files)
    out = io.StringIO()
    call_command("export_statement", "2026-10", team=team.slug, out=os.devnull, stderr=out)
    assert out.getvalue() == "66.6 % of 9 usage events are measured, 3 are estimated.\n"


@pytest.mark.django_db(transaction=True)
def test_under_asgi_a_file_is_sent_piece_by_piece() -> None:
    team = full_october()
    _, key = keys.issue(team, name="api")

    async def pieces() -> list[bytes]:
        answer = await AsyncClient().get(
            "/api/v1/statements/2026-10?format=detail", headers={"authorization": f"Bearer {key}"}
        )
        assert answer.is_async  # type: ignore[attr-defined]
        found = [piece async for piece in answer.streaming_content]  # type: ignore[attr-defined]
        await sync_to_async(connections.close_all)()
        return found

    assert b"".join(asyncio.run(pieces())) == text_of(team, "detail").encode()


@pytest.mark.django_db
def test_a_month_with_nothing_in_it_is_a_header() -> None:
    team = TeamFactory()
    for form in ("plain", "detail", "focus"):
        assert text_of(team, form).count("\r\n") == 1


@pytest.mark.django_db
def test_parquet_holds_the_details_rows_typed() -> None:
    arrow = pytest.importorskip("pyarrow.parquet", reason="pyarrow is an extra: pip install modelport[parquet]")
    team = full_october()
    table = arrow.read_table(io.BytesIO(b"".join(parquet.as_parquet(scope.of(team, october(team))))))
    assert table.column_names == list(detail.COLUMNS)
    assert sum(table.column("cost").to_pylist()) == ledger_total(team)
    assert table.column("row_hash").to_pylist() == [row["row_hash"] for row in rows_of(text_of(team, "detail"))]


@pytest.mark.django_db
def test_without_pyarrow_parquet_is_refused_in_plain_words(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    membership = MembershipFactory()
    client.force_login(membership.user)
    _, key = keys.issue(membership.team, name="api")
    refused = client.get("/api/v1/statements/2026-10?format=parquet", headers={"authorization": f"Bearer {key}"})
    assert (refused.status_code, "pyarrow is not installed" in refused.content.decode()) == (400, True)
    assert "pyarrow is not installed" in client.get("/billing/statements/2026-10.parquet", follow=True).content.decode()


WITH_DST = sorted(
    zone
    for zone in available_timezones()
    if ZoneInfo(zone).utcoffset(datetime(2026, 1, 15)) != ZoneInfo(zone).utcoffset(datetime(2026, 7, 15))  # noqa: DTZ001
)


def test_the_days_of_a_month_make_up_the_month_in_every_zone_with_dst() -> None:
    assert len(WITH_DST) > 100
    for zone in WITH_DST:
        for month in range(1, 13):
            found = periods.Month(date(2026, month, 1), zone)
            begins = [periods.start_of_day(day, zone) for day in found.days]
            assert begins[0] == found.begins
            hours = [
                (end - begin).total_seconds() / 3600
                for begin, end in zip(begins, [*begins[1:], found.ends], strict=True)
            ]
            assert sum(hours) * 3600 == (found.ends - found.begins).total_seconds()
            assert all(22 <= length <= 26 for length in hours), (zone, month)


SLOWLY = settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@SLOWLY
@given(
    zone=st.sampled_from(["America/Havana", "Africa/Cairo", "America/Santiago", "Australia/Lord_Howe", *WITH_DST]),
    minutes=st.lists(st.integers(-3 * 1440, 34 * 1440), min_size=1, max_size=12),
    month=st.sampled_from([3, 4, 9, 10, 11]),
)
@pytest.mark.django_db
def test_the_days_of_a_month_sum_to_the_month_whatever_the_zone(zone: str, minutes: list[int], month: int) -> None:
    team = TeamFactory(time_zone=zone)
    found = periods.Month(date(2026, month, 1), zone)
    for minute in minutes:
        billed(team, {"tokens.input": 1000 + minute % 7}, started_at=found.begins + timedelta(minutes=minute))
    inside = LedgerEntry.objects.filter(team=team, at__gte=found.begins, at__lt=found.ends)
    total = inside.aggregate(total=Sum("amount"))["total"] or Decimal(0)
    by_day: dict[date, Decimal] = {}
    for row in statements.rows(team, found):
        by_day[row.day] = by_day.get(row.day, Decimal(0)) + row.cost
    assert sum(by_day.values(), Decimal(0)) == total
    assert set(by_day) <= set(found.days)
    local = ZoneInfo(zone)
    assert set(by_day) == {at.astimezone(local).date() for at in inside.values_list("at", flat=True)}
    given_scope = scope.of(team, found)
    assert added(row["BilledCost"] for row in rows_of(b"".join(focus.as_csv(given_scope)).decode())) == total
    assert added(row["cost"] for row in rows_of(b"".join(detail.as_csv(given_scope)).decode())) == total
