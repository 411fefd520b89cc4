"""A refund of what a credit had covered is credit again: no invoice is negative by it, and not a digit is lost."""

import csv
import io
import random
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.utils import timezone

from accounts.models import Team
from billing import corrections, credits, focus, invoicing, periods, rating, rollups, scope, statements
from billing.models import CreditGrant, Invoice, LedgerEntry
from tests.factories.accounts import TeamFactory
from tests.factories.billing import billed

pytestmark = pytest.mark.django_db
D = Decimal
PRICE = {"tokens.input": D("0.01"), "tokens.output": D(0)}


@pytest.fixture(autouse=True)
def no_replicas(settings: Any) -> None:
    settings.INVOICE_CHECKS = []


def this_month() -> periods.Month:
    return periods.month_at(timezone.now(), "UTC")


def used(team: Team, usd: str, *, day: int, month: periods.Month | None = None) -> LedgerEntry:
    """A call of the month before, on that day of it."""
    begins = (month or this_month().before).begins
    receipt = billed(
        team, {"tokens.input": D(usd) * 100}, prices=PRICE, started_at=begins + timedelta(days=day - 1, hours=3)
    )
    return LedgerEntry.objects.get(event=receipt.id, meter="tokens.input")


def granted(team: Team, usd: str, *, first: int = 1, last: int | None = None) -> CreditGrant:
    begins = this_month().before.begins
    return credits.grant(
        team, name="welcome", usd=D(usd), actor="a", starts_at=begins + timedelta(days=first - 1),
        expires_at=None if last is None else begins + timedelta(days=last),
    )  # fmt: skip


def refund(entry: LedgerEntry, to: str = "0") -> None:
    corrections.correct(entry, quantity=D(to) * 100, unit_price=D("0.01"), reason="it was wrong", actor="a")


def closed(team: Team, month: periods.Month) -> Invoice:
    found = invoicing.close(team, month, now=month.ends + timedelta(days=6))
    assert found
    return found


def left(team: Team) -> Decimal:
    return rating.add(one.left for one in credits.balances(team))


def test_a_refund_of_what_was_covered_is_credit_again_and_the_invoice_owes_nothing() -> None:
    team, month = TeamFactory(), this_month()
    grant, entry = granted(team, "5", last=20), used(team, "3", day=4)
    assert closed(team, month.before).total == 0
    assert left(team) == 2
    refund(entry)
    invoice = closed(team, month)
    assert (invoice.total, invoice.due) == (0, 0)
    assert [(line["kind"], D(line["amount"])) for line in invoice.lines] == [("correction", -3), ("credit", 3)]
    assert "Given back of welcome" in invoice.lines[1]["reason"]
    assert left(team) == grant.usd
    assert credits.apply(team, month, now=month.ends) == [], "it is given back once"
    rollups.roll_up()
    assert statements.total(statements.rows(team, month)) == 0
    found = [
        row
        for row in csv.DictReader(io.StringIO(b"".join(focus.as_csv(scope.of(team, month))).decode()))
        if row["x_Kind"] == "credit"
    ]
    assert [(row["ChargeCategory"], row["ChargeClass"], row["BilledCost"]) for row in found] == [
        ("Adjustment", "Correction", "3.0")
    ]


def test_what_was_paid_is_owed_first_and_the_rest_is_credit() -> None:
    team, month = TeamFactory(), this_month()
    granted(team, "1")
    entry = used(team, "3", day=4)
    assert closed(team, month.before).total == 2
    refund(entry, to="0.5")
    invoice = closed(team, month)
    assert (invoice.total, left(team)) == (-2, D("0.5")), "2 were paid, half of the credit is used"


def test_what_is_given_back_covers_the_month_it_comes_back_in() -> None:
    team, month = TeamFactory(), this_month()
    granted(team, "4")
    entry = used(team, "4", day=4)
    assert closed(team, month.before).total == 0
    used(team, "10", day=1, month=month)
    refund(entry, to="1")
    credits.refresh(team, now=timezone.now() + timedelta(seconds=1))
    invoice = closed(team, month)
    assert (invoice.total, left(team)) == (7, 0)
    kinds = {line["kind"]: D(0) for line in invoice.lines}
    for line in invoice.lines:
        kinds[line["kind"]] += D(line["amount"])
    assert kinds == {"usage": 10, "correction": -3, "credit": 0}


@pytest.mark.parametrize(("day", "total", "rest"), [(4, 0, 3), (25, -5, 0)])
def test_a_grant_has_back_only_what_it_covered_in_its_own_days(day: int, total: int, rest: int) -> None:
    team, month = TeamFactory(), this_month()
    granted(team, "3", last=10)
    entries = {4: used(team, "3", day=4), 25: used(team, "5", day=25)}
    assert closed(team, month.before).total == 5
    refund(entries[day])
    assert (closed(team, month).total, left(team)) == (total, rest)


def test_refunds_in_steps_and_taken_back_again_leave_every_digit_where_it_belongs() -> None:
    team, month = TeamFactory(), this_month()
    granted(team, "2.5", last=12)
    granted(team, "1.25")
    one, other = used(team, "2", day=2), used(team, "3.00000001", day=6)
    first = closed(team, month.before)
    assert first.total == D("1.25000001")
    refund(one, to="1.5")
    refund(one, to="0.75")
    refund(other, to="3.5")  # more, which no credit covers: the first has expired, of the second nothing is left
    refund(one, to="0")
    second = closed(team, month)
    assert second.total == D("-0.75000002"), "1.25000001 were paid, 0.49999999 more was used"
    assert left(team) == D("0.74999999")


@pytest.mark.parametrize("seed", range(4))
def test_invoices_are_the_charges_without_what_is_used_of_credits(seed: int) -> None:
    dice = random.Random(seed)  # noqa: S311 - not for secrets
    team, month = TeamFactory(), this_month()
    for _ in range(dice.randrange(1, 4)):
        first = dice.randrange(1, 20)
        last = dice.choice([None, first + dice.randrange(1, 9), first + 40])
        granted(team, str(dice.randrange(1, 9)), first=first, last=last)
    entries = [used(team, f"{dice.randrange(1, 400) / 100}", day=dice.randrange(1, 28)) for _ in range(5)]
    before = closed(team, month.before)
    for entry in dice.sample(entries, 3):
        refund(entry, to=dice.choice(["0", f"{entry.amount / 2:.2f}"]))
    if dice.random() < 0.5:
        used(team, "2", day=1, month=month)
    after = closed(team, month)
    rows = LedgerEntry.objects.filter(team=team)
    charges = rating.add(rows.exclude(kind="credit").values_list("amount", flat=True))
    spent = rating.add(one.used for one in credits.balances(team))
    assert before.total + after.total == charges - spent
    assert all(0 <= one.left <= one.grant.usd for one in credits.balances(team))
    assert before.total + after.total >= 0, "nobody is owed more than was paid"
    assert before.total >= 0
