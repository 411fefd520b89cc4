"""Months are closed once: nothing changes what was billed, nothing is billed twice, no number is missing."""

import contextlib
import re
import threading
import time
import zlib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.core import mail
from django.core.management import CommandError, call_command
from django.db import Error, connection, connections, transaction
from django.db.models import Sum
from django.test import Client

from accounts.models import Membership, Role, Team
from billing import credits, focus, invoice_mail, invoice_pdf, invoicing, metering, periods, rating, scope, statements
from billing.errors import NotYet
from billing.invoicing import Line
from billing.models import Invoice, InvoiceMail, LedgerEntry, Spend, StatementMail, UsageEvent
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
def test_a_correction_of_a_billed_month_is_named_one_in_focus() -> None:
    team = TeamFactory()
    billed(team, USED, started_at=datetime(2026, 10, 12, tzinfo=UTC))
    entry = LedgerEntry.objects.get(team=team)
    issued(team)
    LedgerEntry.objects.create(
        team=team, kind="correction", at=datetime(2026, 11, 9, tzinfo=UTC), path="hosted", sku=entry.sku,
        source=entry.source, model_name=entry.model_name, meter=entry.meter, quantity=-5, unit_price=entry.unit_price,
        amount=-5 * entry.unit_price, reason="counted twice", corrects=entry,
    )  # fmt: skip
    text = b"".join(focus.as_csv(scope.of(team, month_of(team, "2026-11"))))
    assert b",Adjustment,Correction," in text


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


def test_what_is_not_the_ledger_is_named_one_by_one() -> None:
    lines = [
        Line(
            late=False, kind="usage", path="hosted", model=model, deployment="", meter="tokens.input", unit="token",
            quantity="2", unit_price="0.1", amount=amount, reason="",
        )
        for model, amount in (("a", "0.2"), ("b", "0.3"))
    ]  # fmt: skip
    good = {"total": Decimal("0.5"), "entries": 4, "in_files": 4}
    assert invoicing.apart(lines[:1], **(good | {"total": Decimal("0.2")})) == []
    assert invoicing.apart(lines, **good) == ["1 lines are not quantity x price, such as b tokens.input"]
    said = invoicing.apart(lines[:1], **(good | {"in_files": 3}))
    assert said == [
        "the ledger's rows sum to 0.5, the plain file's and the lines to 0.2",
        "the ledger has 4 rows of the month, the plain file 3",
    ]
