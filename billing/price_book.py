"""From a draft to a price in force: drafted by hand or by an import, reviewed, made active. Nothing that was entered is
overwritten, and a price that differs a thousandfold from the one in force says so first."""

from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal

from django.db import IntegrityError, transaction
from django.utils import timezone

from accounts import audit
from billing import money, rating
from billing.errors import BadPrice, BadQuantity
from billing.meters import CREDIT, METERS
from billing.models import Price, PriceDraft

JUMP = 1000
State = PriceDraft.State


@dataclass(frozen=True, slots=True)
class Example:
    """What a price means, in numbers that a person can check: `units` cost `now`, and `before` by the price in force
    (None: there is none)."""

    units: str
    now: Decimal
    before: Decimal | None

    def __str__(self) -> str:
        text = f"{self.units} would cost {money.dollars(self.now)}"
        if self.before is None:
            return f"{text}; nothing is in force yet."
        return f"{text}, by the price in force {money.dollars(self.before)}."


def draft(
    sku: str,
    *,
    meter: str,
    amount: Decimal,
    valid_from: datetime,
    source: str,
    source_date: date,
    actor: str,
    above_tokens: int = 0,
    batch: str = "",
    jump_confirmed: bool = False,
) -> PriceDraft:
    """A price for one unit that somebody wishes. Raises BadPrice: it can't be kept exactly, is of no meter, jumps
    unconfirmed, or another draft waits for the same moment."""
    check(sku, meter=meter, amount=amount, above_tokens=above_tokens, at=valid_from, jump_confirmed=jump_confirmed)
    try:
        with transaction.atomic():
            return PriceDraft.objects.create(
                sku=sku,
                meter=meter,
                above_tokens=above_tokens,
                amount=amount,
                valid_from=valid_from,
                source=source[:200],
                source_date=source_date,
                batch=batch[:80],
                jump_confirmed=jump_confirmed,
                drafted_by=actor,
            )
    except IntegrityError as error:
        raise BadPrice("A draft for this sku, meter and moment waits already: decide about that one first.") from error


def check(
    sku: str, *, meter: str, amount: Decimal, at: datetime, above_tokens: int = 0, jump_confirmed: bool = False
) -> None:
    """Raises BadPrice for a price that may not be entered so."""
    if meter not in METERS or meter == CREDIT.name:
        raise BadPrice(f"There is no meter {meter}.")
    try:
        rating.check_price(meter, amount)
    except BadQuantity as error:
        raise BadPrice(f"It can't be kept exactly: {error}.") from error
    before = in_force(sku, meter=meter, above_tokens=above_tokens, at=at)
    if before and not jump_confirmed and _jumps(before.amount, amount):
        example = worked_example(meter, amount=amount, before=before.amount)
        raise BadPrice(f"That is a thousandfold jump or more: {example} Confirm that it is meant.")


def in_force(sku: str, *, meter: str, at: datetime, above_tokens: int = 0) -> Price | None:
    rows = Price.objects.filter(sku=sku, meter=meter, above_tokens=above_tokens, valid_from__lte=at)
    return rows.order_by("-valid_from", "-pk").first()


def worked_example(meter: str, *, amount: Decimal, before: Decimal | None) -> Example:
    """A thousandth of what is quoted for tokens (1,000 of them), the quoted unit itself for the rest."""
    unit = METERS[meter]
    units = Decimal(max(unit.per // 1000, 1) if unit.unit == "token" else unit.per)
    named = f"{units:,} {unit.label.lower()}" if unit.unit != "second" else f"An hour of {unit.label.lower()}"
    was = None if before is None else rating.EXACT.multiply(before, units)
    return Example(named, rating.EXACT.multiply(amount, units), was)


def example_of(row: PriceDraft) -> Example:
    before = in_force(row.sku, meter=row.meter, above_tokens=row.above_tokens, at=row.valid_from)
    return worked_example(row.meter, amount=row.amount, before=before.amount if before else None)


def review(row: PriceDraft, *, actor: str) -> None:
    """Somebody has compared it with its source. Raises BadPrice when it is no draft any more."""
    _move(row, since=[State.DRAFT], to=State.REVIEWED, reviewed_by=actor)


def activate(row: PriceDraft, *, actor: str) -> Price:
    """In force from its moment on. Raises BadPrice when nobody reviewed it, or when it jumps by now unconfirmed."""
    with transaction.atomic():
        check(
            row.sku,
            meter=row.meter,
            amount=row.amount,
            at=row.valid_from,
            above_tokens=row.above_tokens,
            jump_confirmed=row.jump_confirmed,
        )
        before = in_force(row.sku, meter=row.meter, above_tokens=row.above_tokens, at=row.valid_from)
        price = Price.objects.create(
            sku=row.sku,
            meter=row.meter,
            above_tokens=row.above_tokens,
            amount=row.amount,
            valid_from=row.valid_from,
            source=row.source,
            source_date=row.source_date,
        )
        _move(row, since=[State.REVIEWED], to=State.ACTIVE, decided_by=actor, decided_at=timezone.now(), price=price)
        audit.record(
            None, actor=actor, verb="made the price active", subject=str(price),
            before={"amount": money.plain(before.amount)} if before else {},
            after={
                "amount": money.plain(price.amount),
                "valid from": price.valid_from.isoformat(),
                "source": price.source,
            },
        )  # fmt: skip
    return price


def reject(row: PriceDraft, *, actor: str) -> None:
    before = row.state
    with transaction.atomic():
        _move(row, since=[State.DRAFT, State.REVIEWED], to=State.REJECTED, decided_by=actor, decided_at=timezone.now())
        audit.record(
            None, actor=actor, verb="rejected the price", subject=str(row), before={"state": before},
            after={"state": State.REJECTED},
        )  # fmt: skip


def _move(row: PriceDraft, *, since: list[str], to: str, **fields: object) -> None:
    if not PriceDraft.objects.filter(pk=row.pk, state__in=since).update(state=to, **fields):
        row.refresh_from_db()
        raise BadPrice(f"{row} is {row.get_state_display().lower()}: it can't become {State(to).label.lower()}.")
    row.refresh_from_db()


def _jumps(before: Decimal, after: Decimal) -> bool:
    """A thousandfold up or down; from or to nothing is one, too."""
    if before == after:
        return False
    least, most = sorted([before, after])
    return least == 0 or most >= rating.EXACT.multiply(least, Decimal(JUMP))
