"""Months are closed once: nothing changes what was billed, nothing is billed twice, no number is missing."""

import contextlib
import csv
import io
import re
import threading
import time
import zlib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from django.core import mail
from django.core.management import CommandError, call_command
from django.db import Error, connection, connections, transaction
from django.db.models import Sum
from django.test import Client
from django.test.utils import CaptureQueriesContext

from accounts.models import Membership, Role, Team, User
from billing import (
    chain,
    credits,
    focus,
    invoice_mail,
    invoice_pdf,
    invoicing,
    metering,
    periods,
    rating,
    rollups,
    scope,
    statements,
)  # fmt: skip
from billing.errors import NotYet
from billing.models import (
    Invoice,
    InvoiceMail,
    LedgerEntry,
    RollupDay,
    Spend,
    StatementHead,
    StatementMail,
    UnclosedMonth,
    UsageEvent,
)
from billing.statements import FORMATS
from tests.factories.accounts import MembershipFactory, TeamFactory
from tests.factories.billing import billed, call
from tests.factories.months import full_october

OVER = datetime(2026, 11, 4, 12, tzinfo=UTC)
LATER = datetime(2026, 12, 6, tzinfo=UTC)
USED = {"tokens.input": 1_000_000}


@pytest.fixture(autouse=True)
def no_replicas(settings: Any) -> None:
    """The seconds of these teams were written without replicas; test_uptime asks for their check."""
    settings.INVOICE_CHECKS = []


def month_of(team: Team, text: str = "2026-10") -> periods.Month:
    return periods.month_named(text, team.time_zone)


def close(team: Team, text: str = "2026-10", *, now: datetime = OVER) -> Invoice | None:
    return invoicing.close(team, month_of(team, text), now=now)


def issued(team: Team, text: str = "2026-10", *, now: datetime = OVER) -> Invoice:
    found = close(team, text, now=now)
    assert found is not None
    return found


def files(team: Team, text: str = "2026-10") -> dict[str, bytes]:
    found = scope.of(team, month_of(team, text))
    return {form: b"".join(FORMATS[form].write(found)) for form in ("plain", "detail", "focus")}


def counted(team: Team) -> None:
    """The counters of rows that a test wrote straight into the ledger."""
    for month in ("2026-10", "2026-11"):
        found = month_of(team, month)
        rows = LedgerEntry.objects.filter(team=team, at__gte=found.begins, at__lt=found.ends).exclude(kind="credit")
        total = rows.aggregate(total=Sum("amount"))["total"] or Decimal(0)
        Spend.objects.update_or_create(team=team, month=found.first, defaults={"settled": total})


@pytest.mark.django_db
def test_an_invoice_is_the_months_ledger_and_its_lines_sum_to_it() -> None:
    team = full_october()
    counted(team)
    invoice = issued(team)
    found = month_of(team)
    ledger = LedgerEntry.objects.filter(team=team, at__gte=found.begins, at__lt=found.ends)
    total = ledger.aggregate(total=Sum("amount"))["total"]
    assert invoice.total == total == rating.add(Decimal(line["amount"]) for line in invoice.lines)
    assert statements.total(statements.rows(team, found)) == total
    assert invoice.due == total.quantize(Decimal("0.01"))
    assert (invoice.entries, invoice.name) == (ledger.count(), "MP-000001")
    assert {line["kind"] for line in invoice.lines} == {"usage", "correction", "credit"}
    for line in invoice.lines:
        assert Decimal(line["quantity"]) * Decimal(line["unit_price"]) == Decimal(line["amount"])


@pytest.mark.django_db
def test_a_closed_months_files_stay_the_same_bytes_whatever_comes_and_changes() -> None:
    team = full_october()
    counted(team)
    issued(team)
    before = files(team)
    billed(team, USED, started_at=datetime(2026, 10, 12, tzinfo=UTC))
    billed(team, USED, started_at=datetime(2026, 11, 1, tzinfo=UTC))
    Team.objects.filter(pk=team.pk).update(name="Renamed", slug="renamed", time_zone="Asia/Tokyo")
    team.refresh_from_db()
    assert files(team) == before
    assert b"MP-000001" in before["focus"]


@pytest.mark.django_db
def test_a_late_event_is_a_line_of_the_next_month_and_is_billed_once() -> None:
    team = TeamFactory(time_zone="Europe/Berlin")
    billed(team, USED, started_at=datetime(2026, 10, 12, tzinfo=UTC))
    first = issued(team)
    late = billed(team, USED, started_at=datetime(2026, 10, 13, tzinfo=UTC))
    billed(team, USED, started_at=datetime(2026, 11, 12, tzinfo=UTC))
    open_rows = list(statements.rows(team, month_of(team, "2026-11")))
    assert [str(row.day) for row in open_rows] == ["2026-10-13", "2026-11-12"]
    second = issued(team, "2026-11", now=LATER)
    assert [line["late"] for line in second.lines] == [False, True]
    assert Decimal(second.lines[1]["amount"]) == late.cost
    assert first.total + second.total == LedgerEntry.objects.aggregate(total=Sum("amount"))["total"]
    assert b",2026-10-13," in files(team, "2026-11")["detail"]
    assert b",late," in files(team, "2026-11")["detail"]


@pytest.mark.django_db
def test_a_team_that_moves_to_another_zone_is_billed_each_hour_once() -> None:
    team = TeamFactory(time_zone="Asia/Tokyo")
    for hour in range(0, 72, 3):
        billed(team, USED, started_at=datetime(2026, 10, 30, 12, tzinfo=UTC) + timedelta(hours=hour))
    first = issued(team)
    Team.objects.filter(pk=team.pk).update(time_zone="America/Los_Angeles")
    team.refresh_from_db()
    counted(team)
    second = issued(team, "2026-11", now=LATER)
    assert first.total + second.total == LedgerEntry.objects.aggregate(total=Sum("amount"))["total"]


@pytest.mark.django_db
@pytest.mark.parametrize("was_billed", [True, False])
def test_a_correction_of_a_billed_month_is_named_one_in_focus(was_billed: bool) -> None:
    team = TeamFactory()
    billed(team, USED, started_at=datetime(2026, 10, 12, tzinfo=UTC))
    entry = LedgerEntry.objects.get(team=team)
    if was_billed:
        issued(team)
    LedgerEntry.objects.create(
        team=team, kind="correction", at=datetime(2026, 11, 9, tzinfo=UTC), path="hosted", sku=entry.sku,
        source=entry.source, model_name=entry.model_name, meter=entry.meter, quantity=-5, unit_price=entry.unit_price,
        amount=-5 * entry.unit_price, reason="counted twice", corrects=entry,
    )  # fmt: skip
    text = b"".join(focus.as_csv(scope.of(team, month_of(team, "2026-11"))))
    assert b",Adjustment," in text
    assert (b",Adjustment,Correction," in text) is was_billed


@pytest.mark.django_db
def test_an_issuer_with_another_name_changes_no_file_of_a_closed_month(settings: Any) -> None:
    team = full_october()
    counted(team)
    issued(team)
    before = files(team)
    settings.INVOICE_ISSUER = "Another Ltd"
    assert files(team) == before


@pytest.mark.django_db
def test_closing_waits_for_the_grace_for_earlier_months_and_for_open_calls() -> None:
    team = TeamFactory()
    with pytest.raises(NotYet, match="kept open"):
        close(team, now=datetime(2026, 11, 3, 23, tzinfo=UTC))
    assert close(team) is None
    billed(team, USED, started_at=datetime(2026, 10, 12, tzinfo=UTC))
    billed(team, USED, started_at=datetime(2026, 11, 12, tzinfo=UTC))
    with pytest.raises(NotYet, match="2026-10 comes first"):
        close(team, "2026-11", now=LATER)
    waiting = call(team, started_at=datetime(2026, 10, 31, tzinfo=UTC))
    metering.reserve(waiting)
    with pytest.raises(NotYet, match="not settled: 1"):
        close(team)
    metering.void(waiting.id)
    assert issued(team).number == 1


@pytest.mark.django_db
def test_a_counter_that_differs_is_said_and_nothing_is_issued() -> None:
    team = TeamFactory()
    billed(team, USED, started_at=datetime(2026, 10, 12, tzinfo=UTC))
    Spend.objects.filter(team=team).update(settled=1)
    with pytest.raises(NotYet, match="the month's counter says 1"):
        close(team)
    assert not Invoice.objects.exists()


@pytest.mark.django_db
def test_a_file_cut_short_or_made_anew_is_not_the_invoices(client: Client, tmp_path: Path) -> None:
    team = full_october()
    counted(team)
    invoice = issued(team)
    client.force_login(MembershipFactory(team=team, role=Role.VIEWER).user)
    page = client.get(f"/billing/invoices/{invoice.name}/").content.decode()
    (printed,) = re.findall(r"\b[0-9a-f]{64}\b", page)
    lines = list(csv.reader(io.StringIO(files(team)["detail"].decode(), newline="")))
    anew = [lines[0]]
    for row in lines[1:]:
        cells = [*row[: chain.COLUMNS.index("cost")], "0", *row[chain.COLUMNS.index("cost") + 1 : -1]]
        before = anew[-1][-1] if len(anew) > 1 else chain.genesis(row[4], row[0], lines[0])
        anew.append([*cells, chain.row_digest(before, cells)])
    for rows, right in ((lines, True), (lines[:-1], False), (lines[:1], False), (anew, False)):
        file = tmp_path / "october.csv"
        with file.open("w", newline="", encoding="utf-8") as out:
            csv.writer(out, lineterminator="\r\n").writerows(rows)
        call_command("verify_statement", str(file), stdout=io.StringIO())  # the chain alone can't tell
        if right:
            call_command("verify_statement", str(file), head=printed, stdout=io.StringIO())
        else:
            with pytest.raises(CommandError, match="rows are missing at the end, or all was made anew"):
                call_command("verify_statement", str(file), head=printed)
    with pytest.raises(Error, match="append-only"), transaction.atomic():
        StatementHead.objects.update(digest="0" * 64)


@pytest.mark.django_db
def test_an_invoice_is_never_changed_or_removed() -> None:
    team = TeamFactory()
    billed(team, USED, started_at=datetime(2026, 10, 12, tzinfo=UTC))
    invoice = issued(team)
    for change in (lambda: Invoice.objects.update(due=0), invoice.delete):
        with pytest.raises(Error, match="append-only"), transaction.atomic():
            change()


@pytest.mark.django_db
def test_credits_are_used_when_the_month_is_closed() -> None:
    team = TeamFactory()
    billed(team, {"tokens.input": 50_000_000}, started_at=datetime(2026, 10, 12, tzinfo=UTC))
    credits.grant(
        team, name="welcome", usd=Decimal("0.25"), actor="a test", starts_at=datetime(2026, 10, 1, tzinfo=UTC)
    )
    invoice = issued(team)
    assert invoice.total == Decimal("0.75")
    assert [line["kind"] for line in invoice.lines] == ["usage", "credit"]
    assert issued(team).total == invoice.total


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("zone", "used_at"), [("Asia/Tokyo", "2026-11-12T00:00Z"), ("America/Los_Angeles", "2026-11-01T02:00Z")]
)
def test_a_credit_goes_on_where_it_was_when_the_team_moves_to_another_zone(zone: str, used_at: str) -> None:
    team = TeamFactory()
    dollar = {"tokens.input": 50_000_000}
    billed(team, dollar, started_at=datetime(2026, 10, 12, tzinfo=UTC))
    start = datetime(2026, 10, 1, tzinfo=UTC)
    credits.grant(team, name="welcome", usd=Decimal("1.50"), actor="a test", starts_at=start)
    assert issued(team).total == 0
    Team.objects.filter(pk=team.pk).update(time_zone=zone)
    team.refresh_from_db()
    billed(team, dollar, started_at=datetime.fromisoformat(used_at))
    counted(team)
    assert issued(team, "2026-11", now=LATER).total == Decimal("0.50")


@pytest.mark.django_db
@pytest.mark.parametrize(("expires", "total"), [("2026-10-14T00:00Z", "0.25"), ("2026-10-13T00:00Z", "1.00")])
def test_what_came_late_is_covered_by_the_credits_of_its_own_time(expires: str, total: str) -> None:
    team = TeamFactory()
    dollar, start = {"tokens.input": 50_000_000}, datetime(2026, 10, 1, tzinfo=UTC)
    billed(team, dollar, started_at=datetime(2026, 10, 12, tzinfo=UTC))
    credits.grant(
        team, name="welcome", usd=Decimal("1.75"), actor="a test", starts_at=start,
        expires_at=datetime.fromisoformat(expires),
    )  # fmt: skip
    assert issued(team).total == 0
    billed(team, dollar, started_at=datetime(2026, 10, 13, tzinfo=UTC))
    assert issued(team, "2026-11", now=LATER).total == Decimal(total)
    assert credits.apply(team, month_of(team, "2026-11"), now=LATER) == [], "it is used once"


@pytest.mark.django_db(transaction=True)
def test_closing_many_teams_twice_at_once_makes_one_invoice_each_and_no_gap() -> None:
    teams = [TeamFactory() for _ in range(6)]
    for team in teams:
        billed(team, USED, started_at=datetime(2026, 10, 12, tzinfo=UTC))
    found = at_once(3, lambda: list(invoicing.close_due(now=OVER)))
    assert len(found) == 3
    assert sorted(Invoice.objects.values_list("number", flat=True)) == [1, 2, 3, 4, 5, 6]
    assert Invoice.objects.values("team", "month").distinct().count() == 6


@pytest.mark.django_db(transaction=True)
def test_numbers_follow_each_other_when_all_are_issued_in_the_same_moment() -> None:
    teams = [TeamFactory() for _ in range(4)]
    for team in teams:
        billed(team, USED, started_at=datetime(2026, 10, 12, tzinfo=UTC))
    waiting, found = iter([*teams, *teams]), []
    together = threading.Thread(target=lambda: found.extend(at_once(8, lambda: close(next(waiting)))))
    with transaction.atomic(), connection.cursor() as cursor:
        # Who reads the last number may; who writes the next waits: all come to this point before one gets further.
        cursor.execute("LOCK TABLE billing_invoice IN EXCLUSIVE MODE")
        together.start()
        time.sleep(1)
    together.join()
    assert sorted({invoice.number for invoice in found}) == [1, 2, 3, 4]
    assert len(found) == 8


@pytest.mark.django_db(transaction=True)
def test_events_that_arrive_while_a_month_is_closed_are_billed_once() -> None:
    team = TeamFactory()
    billed(team, USED, started_at=datetime(2026, 10, 12, tzinfo=UTC))

    def arrive() -> None:
        for minute in range(20):
            billed(team, USED, started_at=datetime(2026, 10, 20, 1, minute, tzinfo=UTC))

    def close_soon() -> None:
        for _ in range(50):
            try:
                close(team)
            except NotYet:
                continue
            return

    jobs = iter([arrive, arrive, close_soon, close_soon])
    at_once(4, lambda: next(jobs)())  # noqa: PLW0108 - each thread its own
    first = issued(team)
    billed(team, USED, started_at=datetime(2026, 11, 2, tzinfo=UTC))
    second = issued(team, "2026-11", now=LATER)
    assert first.entries + second.entries == LedgerEntry.objects.count() == 42
    assert first.total + second.total == LedgerEntry.objects.aggregate(total=Sum("amount"))["total"]


@pytest.mark.django_db
def test_the_page_and_the_pdf_show_the_invoice_to_its_team_alone(client: Client) -> None:
    team = full_october()
    counted(team)
    invoice = issued(team)
    client.force_login(MembershipFactory(team=team).user)
    page = client.get(f"/billing/invoices/{invoice.name}/").content.decode()
    assert "Invoice MP-000001" in page
    assert f'data-total="{invoice.total.normalize():f}"' in page
    assert "% of" in page
    pdf = client.get(f"/billing/invoices/{invoice.name}.pdf")
    assert pdf.content.startswith(b"%PDF")
    assert pdf.content == client.get(f"/billing/invoices/{invoice.name}.pdf").content
    assert invoice.name in client.get("/billing/invoices/").content.decode()
    client.force_login(MembershipFactory().user)
    for path in (f"/billing/invoices/{invoice.name}/", f"/billing/invoices/{invoice.name}.pdf", "/billing/invoices/x/"):
        assert client.get(path).status_code == 404
    assert "No invoice yet" in client.get("/billing/invoices/").content.decode()


@pytest.mark.django_db
def test_an_invoice_is_mailed_once_if_wished_and_tried_again_if_not_taken(settings: Any) -> None:
    settings.EMAIL_BACKEND = "django.core.mail.backends.locmem.EmailBackend"
    team = TeamFactory()
    billed(team, USED, started_at=datetime(2026, 10, 12, tzinfo=UTC))
    StatementMail.objects.create(team=team, emails=["money@example.com"], address="1 Road")
    issued(team)
    settings.EMAIL_BACKEND = "tests.billing.no_such_backend.Backend"
    assert invoice_mail.send_due(now=OVER) == 0
    assert "Error" in InvoiceMail.objects.get().outcome
    settings.EMAIL_BACKEND = "django.core.mail.backends.locmem.EmailBackend"
    assert invoice_mail.send_due(now=OVER) == 0
    assert invoice_mail.send_due(now=OVER + timedelta(hours=1)) == 1
    assert invoice_mail.send_due(now=OVER + timedelta(days=1)) == 0
    (sent,) = mail.outbox
    assert sent.to == ["money@example.com"]
    assert [name for name, _, _ in sent.attachments] == ["MP-000001.pdf", "MP-000001.csv"]


@pytest.mark.django_db
@pytest.mark.parametrize(("role", "allowed"), [(Role.BILLING, True), (Role.DEVELOPER, False), (Role.VIEWER, False)])
def test_who_may_say_who_gets_the_invoices(client: Client, role: Role, allowed: bool) -> None:
    client.force_login(MembershipFactory(role=role).user)
    client.post("/billing/invoices/settings/", {"emails": "a@example.com, b@example.com", "address": "x"})
    assert StatementMail.objects.filter(emails=["a@example.com", "b@example.com"]).exists() is allowed
    assert client.post("/billing/invoices/settings/", {"emails": "nobody"}).status_code == (400 if allowed else 403)


@pytest.mark.django_db
def test_close_month_says_what_it_did_and_what_waits(capsys: pytest.CaptureFixture[str]) -> None:
    team = TeamFactory(slug="acme")
    billed(team, USED, started_at=datetime(2026, 10, 12, tzinfo=UTC))
    Membership.objects.filter(team=team).delete()
    call_command("close_month")
    assert "MP-000001 acme 2026-10 $0.02" in capsys.readouterr().out
    call_command("close_month", "2026-10", "--team", "acme")
    assert "MP-000001" in capsys.readouterr().out
    with pytest.raises(CommandError):
        call_command("close_month", "2026-12", "--team", "acme")
    assert UsageEvent.objects.count() == 1


def at_once(many: int, work: Callable[[], Any]) -> list[Any]:
    """What `many` threads got, begun together, each on a connection of its own."""
    gate, found = threading.Barrier(many), []

    def run() -> None:
        gate.wait()
        try:
            found.append(work())
        finally:
            connections.close_all()

    threads = [threading.Thread(target=run) for _ in range(many)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


@pytest.mark.parametrize(
    ("name", "printed"),
    [
        ("Za\u017c\u00f3\u0142\u0107 \u0150r\u00fclt", "Za\u017c\u00f3\u0142\u0107 \u0150r\u00fclt"),
        ("\u0395\u03bb\u03bb\u03b7\u03bd\u03b9\u03ba\u03ae", "\u0395\u03bb\u03bb\u03b7\u03bd\u03b9\u03ba\u03ae"),
        ("\u041a\u0438\u0457\u0432, Nguy\u1ec5n", "\u041a\u0438\u0457\u0432, Nguy\u1ec5n"),
        ("Lo\u0301dz", "L\u00f3dz"),  # a letter and its mark apart, as some systems write them
        ("\u6771\u4eac Tokyo", "?? Tokyo"),
    ],
)
def test_names_in_the_letters_of_europe_are_printed_in_the_pdf(name: str, printed: str) -> None:
    assert invoice_pdf.printable(name) == printed


@pytest.mark.django_db
def test_the_pdf_brings_its_letters_along() -> None:
    team = TeamFactory(name="\u0141\u00f3d\u017a")
    billed(team, USED, started_at=datetime(2026, 10, 12, tzinfo=UTC))
    pdf = invoice_pdf.render(issued(team))
    streams = [inflated(part) for part in re.findall(rb"stream\r?\n(.*?)\r?\nendstream", pdf, re.DOTALL)]
    mapped = b"".join(part for part in streams if b"beginbfchar" in part or b"beginbfrange" in part)
    assert {b"<0141>", b"<017A>"} <= set(re.findall(rb"<[0-9A-F]{4}>", mapped))


def inflated(part: bytes) -> bytes:
    with contextlib.suppress(zlib.error):
        return zlib.decompress(part)
    return part


@pytest.mark.django_db
@pytest.mark.parametrize("split", ["all", "model", "deployment", "key", "member", "tag"])
def test_a_chart_that_does_not_show_the_ledger_is_named_and_its_team_alone_waits(split: str) -> None:
    good, bad = TeamFactory(slug="good"), TeamFactory(slug="bad")
    for team in (good, bad):
        billed(team, USED, started_at=datetime(2026, 10, 12, tzinfo=UTC))
    rollups.roll_up()
    RollupDay.objects.filter(team=bad, split=split).update(amount=5)
    waiting, invoice = invoicing.close_due(now=OVER)
    assert "bad 2026-10: the charts show 5" in str(waiting)
    assert f" for {split}, the ledger 0.02" in str(waiting)
    assert isinstance(invoice, Invoice)
    assert (invoice.team, invoice.number) == (good, 1)
    rollups.rebuild(keep=True)
    (invoice,) = invoicing.close_due(now=OVER)
    assert isinstance(invoice, Invoice)
    assert (invoice.team, invoice.number) == (bad, 2)


@pytest.mark.django_db
def test_a_quantity_in_a_chart_that_is_not_the_ledgers_is_named() -> None:
    team = TeamFactory()
    billed(team, USED, started_at=datetime(2026, 10, 12, tzinfo=UTC))
    rollups.roll_up()
    RollupDay.objects.filter(split="all").update(quantity=5)
    with pytest.raises(NotYet, match=r"a quantity of 5 for usage hosted tokens.input 0.00000002, the ledger 1000000"):
        close(team)


@pytest.mark.django_db
def test_what_was_summed_beyond_the_watermark_is_no_difference() -> None:
    team = TeamFactory()
    billed(team, USED, started_at=datetime(2026, 10, 12, tzinfo=UTC))
    upto = invoicing.watermark()
    late = billed(team, USED, started_at=datetime(2026, 10, 13, tzinfo=UTC))
    rollups.roll_up()
    invoice = invoicing.close(team, month_of(team), now=OVER, upto=upto)
    assert invoice is not None
    assert (invoice.entries, invoice.total) == (1, late.cost)
    assert issued(team, "2026-11", now=LATER).total == late.cost


@pytest.mark.django_db
def test_teams_of_several_zones_and_histories_closed_together_get_what_each_would_alone() -> None:
    teams = [TeamFactory(slug=f"team-{number}", time_zone=zone) for number, zone in enumerate(ZONES)]
    for team in teams:
        for hour in range(0, 24 * 70, 31):
            billed(team, USED, started_at=datetime(2026, 9, 28, tzinfo=UTC) + timedelta(hours=hour))
    list(invoicing.close_due(now=datetime(2026, 10, 6, tzinfo=UTC)))
    for team in teams[::2]:
        billed(team, USED, started_at=datetime(2026, 9, 29, tzinfo=UTC))
    assert issued(teams[0]).month_name == "2026-10"  # one is ahead of the others
    rollups.roll_up()
    list(invoicing.close_due(now=LATER))
    for team in teams:
        invoices = list(Invoice.objects.filter(team=team).order_by("month"))
        assert [invoice.month_name for invoice in invoices] == ["2026-09", "2026-10", "2026-11"]
        for invoice in invoices:
            found = scope.of(team, month_of(team, invoice.month_name))
            assert statements.total(statements.rows_of(found)) == invoice.total
            assert found.entries.count() == invoice.entries
            late = rating.add(Decimal(line["amount"]) for line in invoice.lines if line["late"])
            assert late == (found.late.aggregate(total=Sum("amount"))["total"] or 0)
            assert invoice.events == found.entries.filter(at__gte=found.begins).count()
    assert sum(invoice.total for invoice in Invoice.objects.all()) == ledger_until(LATER)


ZONES = ("UTC", "Asia/Tokyo", "America/Los_Angeles", "Asia/Kolkata", "UTC")


def ledger_until(now: datetime) -> Decimal:
    """Of all rows in months that are over."""
    rows = LedgerEntry.objects.filter(at__lt=now)
    return sum(
        (row.amount for row in rows.select_related("team") if row.at < month_of(row.team, "2026-11").ends), Decimal(0)
    )


@pytest.mark.django_db
def test_the_ledger_is_passed_over_once_however_many_teams_are_closed() -> None:
    counts = []
    for many in (1, 5):
        Team.objects.update(is_sample=True)
        for _ in range(many):
            billed(TeamFactory(), USED, started_at=datetime(2026, 10, 12, tzinfo=UTC))
        rollups.roll_up()
        with CaptureQueriesContext(connection) as asked:
            assert len(list(invoicing.close_due(now=OVER))) == many
        texts = [query["sql"] for query in asked]
        passes = [text for text in texts if 'SUM("billing_ledgerentry"."amount")' in text]
        assert ["NOT (" in text for text in passes] == [False, True]  # all usage, and the few rows beside it
        counts.append(len([text for text in texts if "INSERT INTO" not in text]))
    assert counts[0] == counts[1]


@pytest.mark.django_db
def test_a_row_that_the_database_refuses_keeps_one_team_waiting(settings: Any) -> None:
    teams = [TeamFactory(slug=slug) for slug in ("a", "b", "c")]
    for team in teams:
        billed(team, USED, started_at=datetime(2026, 10, 12, tzinfo=UTC))
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE billing_invoice ADD CHECK (team_slug <> 'b')")
    found = list(invoicing.close_due(now=OVER))
    assert [isinstance(one, Invoice) for one in found] == [True, False, True]
    assert sorted(Invoice.objects.values_list("number", flat=True)) == [1, 2]


@pytest.mark.django_db
def test_staff_read_why_a_month_is_not_closed_until_it_is(client: Client, capsys: pytest.CaptureFixture[str]) -> None:
    team = TeamFactory(slug="acme", name="Acme")
    billed(team, USED, started_at=datetime(2026, 10, 12, tzinfo=UTC))
    Spend.objects.filter(team=team).update(settled=1)
    for _ in range(2):
        with pytest.raises(CommandError):
            call_command("close_month")
    assert "acme 2026-10: the month's counter says 1" in capsys.readouterr().err
    assert UnclosedMonth.objects.count() == 1
    client.force_login(User.objects.create_superuser("root@example.com", "a-long-quiet-river"))
    page = client.get("/admin/billing/unclosedmonth/").content.decode()
    assert "October 2026 of" in page
    assert "counter says 1" in page
    counted(team)
    call_command("close_month")
    assert not UnclosedMonth.objects.exists()
