"""The chain over the ledger: sealed beside the calls, and one altered byte of an exported row is named."""

import csv
import io
import threading
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from django.db import connection, connections, transaction

from accounts.models import Team
from billing import chain, chaining, detail, periods, scope
from billing.models import ChainSeal, LedgerEntry
from tests.factories.accounts import TeamFactory
from tests.factories.billing import NOVEMBER, billed
from tests.factories.months import OCTOBER, awake, entry


def exported(team: Team, month: str) -> list[list[str]]:
    """The month as an export has it: the header, then the rows in the order of their ids, each with its digest."""
    span = periods.month_named(month, team.time_zone)
    rows = LedgerEntry.objects.filter(team=team, at__gte=span.begins, at__lt=span.ends).order_by("pk")
    lines, last = [[*chain.COLUMNS, chain.HASH]], chain.genesis(team.pk, month)
    for values in rows.values_list(*chain.FIELDS):
        cells = chain.cells(month, values)
        last = chain.row_digest(last, cells)
        lines.append([*cells, last])
    return lines


@pytest.mark.django_db
def test_the_sealed_digest_is_that_of_the_exported_file(tmp_path: Path) -> None:
    team, other = TeamFactory(time_zone="Europe/Berlin"), TeamFactory()
    for number in range(5):
        billed(team, started_at=NOVEMBER + timedelta(hours=number), api_key_name='=1+1,"x"\r\n')
        billed(other)
    chaining.seal()
    billed(team, started_at=NOVEMBER - timedelta(days=3))
    billed(team, started_at=datetime(2026, 11, 30, 23, 30, tzinfo=UTC))  # December in Berlin
    chaining.seal()
    lines = exported(team, "2026-11")
    digest, entries = chaining.head(team, periods.month_named("2026-11", team.time_zone))
    assert (lines[-1][-1], len(lines) - 1) == (digest, entries) == (digest, 12)
    assert ChainSeal.objects.filter(team=team).count() == 3
    assert list(chaining.broken()) == []
    assert chaining.seal() == 0, "sealing again has nothing to do"
    file = tmp_path / "november.csv"
    with file.open("w", newline="", encoding="utf-8") as out:
        csv.writer(out, lineterminator="\r\n").writerows(lines)
    out = io.StringIO()
    call_command("verify_statement", str(file), head=digest, stdout=out)
    assert out.getvalue().startswith(f"12 rows are as they were exported. Last digest: {digest}")


@pytest.mark.django_db
def test_any_one_byte_changed_names_the_first_altered_row() -> None:
    team = TeamFactory()
    for number in range(4):
        billed(team, started_at=NOVEMBER + timedelta(hours=number))
    lines = exported(team, "2026-11")
    head = lines[-1][-1]
    assert chain.check(lines, head=head)[2] is None
    for row in range(1, len(lines)):
        for column, cell in enumerate(lines[row]):
            changed = [list(line) for line in lines]
            changed[row][column] = f"{cell[:-1]}~" if cell else "~"
            _, _, altered = chain.check(changed, head=head)
            assert altered is not None, (row, column)
            assert altered.row == row, (row, column)
    assert chain.check(lines[:2] + lines[3:], head=head)[2].row == 2  # type: ignore[union-attr]
    assert "missing at the end" in chain.check(lines[:-1], head=head)[2].text  # type: ignore[union-attr]
    swapped = [lines[0], lines[2], lines[1], *lines[3:]]
    assert chain.check(swapped, head=head)[2].row == 1  # type: ignore[union-attr]


@pytest.mark.django_db
def test_whichever_byte_of_an_exported_month_is_changed_its_row_is_named() -> None:
    """Usage of both meters, a name with all that CSV quotes, a correction, a credit: every byte of their rows."""
    team = TeamFactory(time_zone="Europe/Berlin", slug="acme")
    billed(team, {"tokens.input": 3}, started_at=OCTOBER)
    awake(team, OCTOBER, seconds=2, deployment_name='=cmd|" /C calc"!A0,\nü')
    entry(team, "correction", OCTOBER, reason="too high, sorry", quantity="-3", unit_price="0.00000002")
    entry(team, "credit", OCTOBER, reason="welcome", quantity="1", unit_price="-0.125", meter="", sku="")
    text = b"".join(detail.as_csv(scope.of(team, periods.month_named("2026-10", team.time_zone))))
    ends = [at + 2 for at in range(len(text)) if text.startswith(b"\r\n", at)]
    assert len(ends) == 5
    assert verified(text) is None
    for at in range(ends[0], len(text)):
        row = next(number for number, end in enumerate(ends) if at < end)
        for byte in {text[at] ^ 1, text[at] ^ 32, text[at] ^ 128, *b',"\r\n='} - {text[at]}:
            altered = verified(text[:at] + bytes([byte]) + text[at + 1 :])
            assert altered is not None, (at, byte)
            assert altered.row == row, (text[at - 9 : at], byte, altered)


def verified(text: bytes) -> chain.Altered | None:
    return chain.check(chain.lines_of(io.BytesIO(text)))[2]


def test_the_command_names_the_row_and_its_entry(tmp_path: Path) -> None:
    cells = ["2026-11", "7", *[""] * (len(chain.COLUMNS) - 2)]
    digest = chain.row_digest(chain.genesis("", "2026-11"), cells)
    file = tmp_path / "x.csv"
    file.write_text("\r\n".join([",".join([*chain.COLUMNS, chain.HASH]), ",".join([*cells, digest])]))
    call_command("verify_statement", str(file), stdout=io.StringIO())
    file.write_text(file.read_text().replace("2026-11,7", "2026-11,8"))
    with pytest.raises(CommandError, match=r"row 1 \(entry 8\): it was altered.*0 rows before it hold"):
        call_command("verify_statement", str(file), stdout=io.StringIO())
    file.write_text("not,a,statement\r\n")
    with pytest.raises(CommandError, match="header"):
        call_command("verify_statement", str(file), stdout=io.StringIO())


@pytest.mark.django_db(transaction=True)
def test_a_row_that_commits_late_with_a_lower_id_is_waited_for_and_sealed_in_order() -> None:
    team = TeamFactory()
    written, go_on = threading.Event(), threading.Event()

    def slow() -> None:
        with transaction.atomic():
            billed(team)
            written.set()
            go_on.wait(10)
        connections.close_all()

    writer = threading.Thread(target=slow)
    writer.start()
    assert written.wait(10)
    try:
        billed(TeamFactory())  # higher ids, committed before the lower ones
        assert chaining.seal(patience_s=0.1) == 0, "a writer that is not done keeps the seal waiting"
        assert not ChainSeal.objects.exists()
    finally:
        threading.Timer(0.2, go_on.set).start()
    assert chaining.seal(patience_s=10) == 4
    writer.join()
    assert list(chaining.broken()) == []


@pytest.mark.django_db
def test_a_ledger_changed_behind_the_triggers_back_is_found() -> None:
    team = TeamFactory(slug="acme")
    billed(team)
    chaining.seal()
    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        cursor.execute("ALTER TABLE billing_ledgerentry DISABLE TRIGGER ledger_append_only")
        cursor.execute("UPDATE billing_ledgerentry SET api_key_name = 'somebody else' WHERE meter = 'tokens.output'")
        cursor.execute("ALTER TABLE billing_ledgerentry ENABLE TRIGGER ledger_append_only")
    (text,) = chaining.broken()
    assert text.startswith("acme 2026-11: rows 1 to")
    err = io.StringIO()
    with pytest.raises(CommandError, match="1 seals differ"):
        call_command("check_ledger", stdout=io.StringIO(), stderr=err)


def test_the_canonical_form_of_values() -> None:
    at = datetime(2026, 11, 10, 13, 0, 0, 5, tzinfo=UTC) + timedelta(0)
    values = [Decimal("1234567.000000"), Decimal("-0.500"), Decimal("0E-18"), Decimal("-0"), at, None, "-x", "", 7]
    assert [chain.cell(value) for value in values] == [
        "1234567", "-0.5", "0", "0", "2026-11-10T13:00:00.000005Z", "", "'-x", "", "7",
    ]  # fmt: skip
