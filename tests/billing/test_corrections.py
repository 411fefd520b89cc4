"""Corrections, re-ratings and credits: the ledger only grows, and every digit of what they change is accounted for."""

import io
import threading
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from uuid import uuid4

import pytest
from django.core.management import call_command
from django.db import Error, connection, connections, transaction
from django.db.models import Sum
from django.test import Client

from accounts.models import Team
from billing import corrections, credits, metering, periods, pricing, rerating
from billing.errors import BadCorrection
from billing.models import Budget, Counter, CreditGrant, Discount, LedgerEntry, Rerating, Spend
from tests.factories.accounts import MembershipFactory, TeamFactory, UserFactory
from tests.factories.billing import NOVEMBER, billed, budget, priced

pytestmark = pytest.mark.django_db
D = Decimal
SKU = "hosted:smollm2-135m-instruct"
NOW = datetime.now(UTC)


def total(team: Team, **where: object) -> Decimal:
    return LedgerEntry.objects.filter(team=team, **where).aggregate(s=Sum("amount"))["s"] or D(0)


def price(meter: str, amount: str, since: datetime, *, above: int = 0) -> None:
    pricing.set_price(
        SKU, meter=meter, amount=D(amount), valid_from=since, source="t", source_date=date(2026, 1, 1),
        above_tokens=above,
    )  # fmt: skip


def test_a_correction_takes_back_the_wrong_and_charges_the_right() -> None:
    team = TeamFactory()
    billed(team, started_at=NOW)
    entry = LedgerEntry.objects.get(meter="tokens.output")
    rows = corrections.correct(entry, quantity=D(19), unit_price=D("0.00000003"), reason="Miscounted", actor="a@b.c")
    assert [(row.quantity, row.unit_price, row.corrects_id) for row in rows] == [
        (D(-20), D("0.00000004"), entry.pk), (D(19), D("0.00000003"), entry.pk),
    ]  # fmt: skip
    assert total(team, meter="tokens.output") == D("0.00000057")
    assert {row.reason for row in rows} == {"Miscounted"}
    assert Spend.objects.get().settled == total(team)
    again = corrections.correct(entry, quantity=D(19), unit_price=D("0.00000003"), reason="Again", actor="a@b.c")
    assert again == [], "what is right already stays"
    corrections.correct(entry, quantity=D(0), unit_price=D(0), reason="Never happened", actor="a@b.c")
    assert total(team, meter="tokens.output") == 0
    call_command("check_ledger", stdout=io.StringIO())


def test_a_month_that_is_over_stays_as_it_was() -> None:
    team = TeamFactory()
    old = NOW - timedelta(days=70)
    billed(team, started_at=old)
    before = total(team)
    corrections.correct(
        LedgerEntry.objects.get(meter="tokens.output"), quantity=D(1), unit_price=D("0.00000004"), reason="r", actor="a"
    )
    month = periods.month_at(old, "UTC")
    assert total(team, at__gte=month.begins, at__lt=month.ends) == before
    assert Spend.objects.get(month=periods.month_at(NOW, "UTC").first).settled == D("-0.00000076")


def test_a_correction_says_why_and_what_it_corrects_or_postgres_refuses_it() -> None:
    team = TeamFactory()
    billed(team)
    entry = LedgerEntry.objects.first()
    assert entry is not None
    for field in ({"reason": ""}, {"corrects": None, "event": None}):
        wrong = {name: getattr(entry, name) for name in ("team", "at", "path", "sku", "meter", "event")} | {
            "kind": "correction", "reason": "r", "corrects": entry, "quantity": 1, "unit_price": 1, "amount": 1, **field
        }  # fmt: skip
        with pytest.raises(Error), transaction.atomic():
            LedgerEntry.objects.create(**wrong)
    with pytest.raises(BadCorrection):
        corrections.correct(entry, quantity=D(1), unit_price=D(1), reason=" ", actor="a")


def test_a_rerating_shows_old_and_new_sums_and_applies_exactly_them() -> None:
    team, other = TeamFactory(), TeamFactory()
    price("tokens.input", "0.00000002", NOVEMBER - timedelta(days=9))
    price("tokens.output", "0.0004", NOVEMBER - timedelta(days=9))  # a thousandfold too much
    wrong = {"tokens.input": D("0.00000002"), "tokens.output": D("0.0004")}
    for number in range(7):
        billed(team, started_at=NOW - timedelta(minutes=number), prices=wrong, api_key_name="laptop")
        billed(other, started_at=NOW - timedelta(minutes=number), prices=wrong, deployment_name="d")
    price("tokens.output", "0.0000004", NOVEMBER - timedelta(days=9) + timedelta(seconds=0))
    rows = LedgerEntry.objects.count()
    first, second = UserFactory.create_batch(2, is_staff=True, is_superuser=True)
    span = {"since": NOW - timedelta(hours=1), "until": NOW + timedelta(hours=1)}
    made = rerating.draft(SKU, **span, reason="Price mistake", actor=first.email)
    assert LedgerEntry.objects.count() == rows, "a draft writes no row"
    sums = {row.team_id: row for row in made.sums.all()}
    assert {(row.meter, row.events, row.quantity, row.charged, row.right) for row in sums.values()} == {
        ("tokens.output", 7, D(140), D("0.056"), D("0.000056"))
    }
    with pytest.raises(BadCorrection, match="Somebody else"):
        rerating.apply(made, actor=first.email)
    made.refresh_from_db()
    assert made.state == Rerating.State.DRAFT
    assert rerating.apply(made, actor=second.email) == 28
    assert total(team, meter="tokens.output") == D("0.000056")
    assert all(row.corrects_id for row in LedgerEntry.objects.filter(kind="correction"))
    assert Counter.objects.get(scope="deployment").settled == total(other)
    call_command("check_ledger", stdout=io.StringIO())
    with pytest.raises(BadCorrection, match="decided before"):
        rerating.apply(made, actor=second.email)
    with pytest.raises(BadCorrection, match="nothing to do"):
        rerating.draft(SKU, **span, reason="Again", actor=first.email)


def test_a_rerating_that_no_longer_says_what_was_reviewed_is_not_applied() -> None:
    team = TeamFactory()
    price("tokens.input", "0.00000002", NOVEMBER)
    price("tokens.output", "0.00000001", NOVEMBER)
    billed(team, started_at=NOW)
    made = rerating.draft(SKU, since=NOVEMBER, until=NOW + timedelta(1), reason="r", actor="a")
    billed(team, started_at=NOW)
    before = LedgerEntry.objects.count()
    with pytest.raises(BadCorrection, match="draft it again"):
        rerating.apply(made, actor="b")
    assert LedgerEntry.objects.count() == before
    made.refresh_from_db()
    assert made.state == "draft"


def test_a_rerating_leaves_a_refund_refunded() -> None:
    team = TeamFactory()
    refunded, other = billed(team, {"tokens.input": 100}, started_at=NOW), billed(team, started_at=NOW)
    entry = LedgerEntry.objects.get(event=refunded.id)
    corrections.correct(entry, quantity=D(0), unit_price=D(0), reason="Was never answered", actor="a@b.c")
    price("tokens.input", "0.00000001", NOW - timedelta(days=1))
    price("tokens.output", "0.00000004", NOW - timedelta(days=1))
    row = rerating.draft(SKU, since=NOW, until=NOW + timedelta(hours=1), reason="Wrong price", actor="a@b.c")
    assert rerating.apply(row, actor="b@b.c") == 2
    assert total(team, event=refunded.id) == 0
    assert total(team, event=other.id) == D("0.0000018")


def test_a_start_that_failed_stays_free_and_counted_when_its_hardware_is_rerated() -> None:
    team, now = TeamFactory(), NOW.replace(second=0, microsecond=0)
    for meter, amount in (("compute.seconds", "0.00001"), ("compute.starting.failed", "0")):
        metering.record_compute(
            replica_id=uuid4(), team=team, sku="hardware:cpu-small", source="x", model_name="M", deployment_name="x",
            started_at=now, ended_at=now + timedelta(seconds=30), prices={meter: D(amount)}, meter=meter,
        )  # fmt: skip
    priced("hardware:cpu-small", compute_seconds="0.00002")
    row = rerating.draft(
        "hardware:cpu-small", since=now, until=now + timedelta(hours=1), reason="Wrong price", actor="a@b.c"
    )
    rerating.apply(row, actor="b@b.c")
    assert total(team) == D("0.0006")
    failed = LedgerEntry.objects.filter(meter="compute.starting.failed")
    assert failed.aggregate(seconds=Sum("quantity"))["seconds"] == 30


@pytest.mark.django_db(transaction=True)
def test_two_who_correct_one_row_at_once_take_it_back_once() -> None:
    team = TeamFactory()
    billed(team, {"tokens.input": 100}, started_at=NOW)
    row = LedgerEntry.objects.get(team=team)
    together = threading.Barrier(2)

    def refund() -> None:
        try:
            entry = LedgerEntry.objects.select_related("team").get(pk=row.pk)
            together.wait(10)
            corrections.correct(entry, quantity=D(0), unit_price=D(0), reason="Never happened", actor="a@b.c")
        finally:
            connections.close_all()

    both = [threading.Thread(target=refund) for _ in range(2)]
    for one in both:
        one.start()
    for one in both:
        one.join()
    assert total(team) == 0


def test_a_class_that_nothing_priced_then_is_charged_by_a_rerating() -> None:
    team = TeamFactory()
    price("tokens.input", "0.00000002", NOVEMBER)
    price("tokens.output", "0.00000004", NOVEMBER)
    price("images.output", "0.04", NOVEMBER)
    billed(team, {"tokens.input": 100, "images.output": 2}, started_at=NOW)
    assert not LedgerEntry.objects.filter(meter="images.output").exists()
    made = rerating.draft(SKU, since=NOVEMBER, until=NOW + timedelta(1), reason="Images", actor="a")
    rerating.apply(made, actor="b")
    row = LedgerEntry.objects.get(meter="images.output")
    assert (row.kind, row.amount, row.corrects_id, row.event_id is not None) == ("correction", D("0.08"), None, True)


def test_credits_cover_a_month_exactly_the_one_that_expires_first_before_the_others() -> None:
    team = TeamFactory()
    month = periods.month_named("2026-03", "UTC")

    def cost(day: int, usd: str) -> None:
        billed(
            team, {"tokens.input": 1}, started_at=month.begins + timedelta(days=day), estimate={}, most={},
            prices={"tokens.input": D(usd)},
        )  # fmt: skip

    cost(0, "1.000000000001")  # before any credit
    cost(5, "3.123456789012")
    cost(20, "10")

    def grant(name: str, usd: str, start: int, end: int | None) -> CreditGrant:
        ends = month.begins + timedelta(days=end) if end else None
        return credits.grant(
            team, name=name, usd=D(usd), actor="a", starts_at=month.begins + timedelta(days=start), expires_at=ends
        )

    late, soon, forever = grant("late", "4", 2, 60), grant("soon", "2", 2, 10), grant("forever", "100", 10, None)
    rows = {row.credit_id: row for row in credits.apply(team, month, now=month.ends)}
    assert rows[soon.pk].amount == D(-2)
    assert rows[late.pk].amount == D(-4), "the rest of the 5th, then the 20th"
    assert rows[forever.pk].amount == D("-7.123456789012")
    assert total(team) == D("1.000000000001"), "what was used before the credits began is paid"
    assert {row.at for row in rows.values()} == {month.ends - timedelta(microseconds=1)}
    assert credits.apply(team, month, now=month.ends) == [], "twice is once"
    assert {one.grant.name: one.left for one in credits.balances(team)} == {
        "soon": 0, "late": 0, "forever": D("92.876543210988"),
    }  # fmt: skip
    call_command("check_ledger", stdout=io.StringIO())
    with pytest.raises(BadCorrection, match="is not over"):
        credits.apply(team, periods.month_at(NOW, "UTC"))


def test_eighteen_decimals_of_cost_are_covered_to_the_last(client: Client) -> None:
    team = TeamFactory()
    month = periods.month_named("2026-03", "UTC")
    credits.grant(team, name="all", usd=D("999999999999.99"), actor="a", starts_at=month.begins)
    billed(
        team, {"compute.seconds": D("59.999999")}, started_at=month.begins + timedelta(1),
        prices={"compute.seconds": D("0.123456789013")}, estimate={}, most={},
    )  # fmt: skip
    (row,) = credits.apply(team, month, now=month.ends)
    assert row.amount == D("-7.407407217323210987")
    assert total(team) == 0
    client.force_login(MembershipFactory(team=team).user)
    assert client.get("/billing/?month=2026-03").context["cost"] == 0


def test_a_credit_widens_the_budget_until_it_expires() -> None:
    team = TeamFactory()
    budget(team, "10")
    credits.grant(
        team, name="x", usd=D(5), actor="a", starts_at=NOW - timedelta(hours=1), expires_at=NOW + timedelta(days=1)
    )
    row = Budget.objects.get()
    assert row.credit_usd == 5
    assert row.credit_until is not None
    assert row.credit_until <= NOW + timedelta(days=1)
    billed(team, {"tokens.input": 1}, started_at=NOW - timedelta(microseconds=1), prices={"tokens.input": D(12)},
           estimate={}, most={"tokens.input": D(1)})  # fmt: skip
    credits.refresh(team, now=NOW + timedelta(seconds=5))
    assert Budget.objects.get().credit_usd == 5, "what was used of it still counts"


@pytest.mark.parametrize("table", ["billing_creditgrant", "billing_discount", "billing_chainseal", "billing_sealrun"])
def test_postgres_itself_refuses_to_change_what_the_bill_is_checked_by(table: str) -> None:
    team = TeamFactory()
    credits.grant(team, name="x", usd=D(5), actor="a")
    Discount.objects.create(team=team, percent=5, valid_from=NOW, reason="r", agreed_by="a")
    with connection.cursor() as cursor:
        cursor.execute("SELECT tgname FROM pg_trigger WHERE tgrelid = %s::regclass AND NOT tgisinternal", [table])
        assert (f"{table}_append_only",) in cursor.fetchall()
    if table in {"billing_creditgrant", "billing_discount"}:
        with pytest.raises(Error, match="append-only"), transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(f"DELETE FROM {table}")  # noqa: S608
