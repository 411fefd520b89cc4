"""From a draft to a price in force: drafted by hand or by an import, reviewed, made active. Nothing that was entered is
overwritten.

A price that differs a thousandfold from the one in force says so first; the very first of a sku is held against what an
import lists for it, its other classes and other skus. Who drafted a price does not review it if another admin could.
"""

from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal

from django.db import IntegrityError, transaction
from django.db.models import Q
from django.utils import timezone

from accounts import audit
from billing import four_eyes, money, rating
from billing.errors import BadPrice, BadQuantity
from billing.meters import CHARGED_AS, CREDIT, METERS
from billing.models import Price, PriceDraft

JUMP = 1000
PERMISSION = "billing.change_pricedraft"
_BASE = "its price for shorter prompts"
State = PriceDraft.State


@dataclass(frozen=True, slots=True)
class Example:
    """What a price means, in numbers that a person can check: `units` cost `now`, and `before` by what it is held
    against, `than` (None: there is nothing)."""

    units: str
    now: Decimal
    before: Decimal | None
    than: str

    def __str__(self) -> str:
        text = f"{self.units} would cost {money.dollars(self.now)}"
        if self.before is None:
            return f"{text}; nothing is in force yet."
        return f"{text}, by {self.than} {money.dollars(self.before)}."


@dataclass(frozen=True, slots=True)
class Reference:
    """A price that another one is held against: USD for one unit, and which it is."""

    amount: Decimal
    named: str


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
    sku: str, *, meter: str, amount: Decimal, at: datetime, above_tokens: int = 0, jump_confirmed: bool = False,
    own: int | None = None,
) -> None:  # fmt: skip
    """Raises BadPrice for a price that may not be entered so. `own`: the pk of its draft, if it has one."""
    if meter not in METERS or meter == CREDIT.name:
        raise BadPrice(f"There is no meter {meter}.")
    try:
        rating.check_price(meter, amount)
    except BadQuantity as error:
        raise BadPrice(f"It can't be kept exactly: {error}.") from error
    before = reference(sku, meter=meter, amount=amount, above_tokens=above_tokens, at=at, own=own)
    if before and not jump_confirmed and _jumps(before.amount, amount):
        example = worked_example(meter, amount=amount, before=before)
        raise BadPrice(f"That is a thousandfold jump or more: {example} Confirm that it is meant.")


def reference(
    sku: str, *, meter: str, amount: Decimal, at: datetime, above_tokens: int = 0, own: int | None = None
) -> Reference | None:
    """What the price is held against: the one in force; for the first one its price for prompts of another length, else
    what an import lists, else what the class is charged as without a price, else, if it lies beyond them, the nearest
    price of other skus for the same meter."""
    if before := in_force(sku, meter=meter, above_tokens=above_tokens, at=at):
        return Reference(before.amount, "the price in force")
    if tier := _nearest_tier(sku, meter, above_tokens, at):
        return Reference(tier.amount, f"its price above {tier.above_tokens:,} tokens" if tier.above_tokens else _BASE)
    drafts = PriceDraft.objects.filter(sku=sku, meter=meter, above_tokens=above_tokens)
    if listed := drafts.exclude(Q(batch="") | Q(state=State.REJECTED) | Q(pk=own)).order_by("-drafted_at").first():
        return Reference(listed.amount, f"the list price of the import {listed.batch}")
    if (wider := CHARGED_AS.get(meter)) and (known := in_force(sku, meter=wider, at=at)):
        return Reference(known.amount, f"{wider}, which it is charged as without a price,")
    return _nearest_elsewhere(sku, meter, amount, at)


def in_force(sku: str, *, meter: str, at: datetime, above_tokens: int = 0) -> Price | None:
    rows = Price.objects.filter(sku=sku, meter=meter, above_tokens=above_tokens, valid_from__lte=at)
    return rows.order_by("-valid_from", "-pk").first()


def worked_example(meter: str, *, amount: Decimal, before: Reference | None) -> Example:
    """A thousandth of what is quoted for tokens (1,000 of them), the quoted unit itself for the rest."""
    unit = METERS[meter]
    units = Decimal(max(unit.per // 1000, 1) if unit.unit == "token" else unit.per)
    named = f"{units:,} {unit.label.lower()}" if unit.unit != "second" else f"An hour of {unit.label.lower()}"
    was = None if before is None else rating.EXACT.multiply(before.amount, units)
    return Example(named, rating.EXACT.multiply(amount, units), was, before.named if before else "")


def example_of(row: PriceDraft) -> Example:
    before = reference(
        row.sku, meter=row.meter, amount=row.amount, above_tokens=row.above_tokens, at=row.valid_from, own=row.pk
    )
    return worked_example(row.meter, amount=row.amount, before=before)


def review(row: PriceDraft, *, actor: str) -> None:
    """Somebody has compared it with its source: another person than who drafted it, unless there is no other admin.
    Raises BadPrice when that is not so, or when it is no draft any more."""
    own = actor == row.drafted_by
    if own and four_eyes.others(actor, permission=PERMISSION):
        raise BadPrice("You drafted it, so another admin has to review it.")
    with transaction.atomic():
        _move(row, since=[State.DRAFT], to=State.REVIEWED, reviewed_by=actor)
        verb = "reviewed their own price, being the only admin," if own else "reviewed the price"
        audit.record(
            None, actor=actor, verb=verb, subject=str(row),
            before={"state": State.DRAFT}, after={"state": State.REVIEWED},
        )  # fmt: skip


def activate(row: PriceDraft, *, actor: str) -> Price:
    """In force from its moment on. Raises BadPrice when nobody reviewed it, when nobody but this admin has seen it
    although another could, or when it jumps by now unconfirmed."""
    if actor == row.drafted_by == row.reviewed_by and four_eyes.others(actor, permission=PERMISSION):
        raise BadPrice("You drafted and reviewed it; there is another admin now, who has to make it active.")
    with transaction.atomic():
        check(
            row.sku,
            meter=row.meter,
            amount=row.amount,
            at=row.valid_from,
            above_tokens=row.above_tokens,
            jump_confirmed=row.jump_confirmed,
            own=row.pk,
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


def _nearest_tier(sku: str, meter: str, above_tokens: int, at: datetime) -> Price | None:
    """The sku's price in force for prompts of the length nearest to this."""
    rows = Price.objects.filter(sku=sku, meter=meter, valid_from__lte=at)
    known = rows.order_by("above_tokens", "-valid_from", "-pk").distinct("above_tokens")
    return min(known, key=lambda row: abs(row.above_tokens - above_tokens), default=None)


def _nearest_elsewhere(sku: str, meter: str, amount: Decimal, at: datetime) -> Reference | None:
    """The dearest price of the meter in force, or the cheapest that is not free, if this one is beyond it."""
    rows = Price.objects.filter(meter=meter, above_tokens=0, valid_from__lte=at).exclude(sku=sku)
    known = [row for row in rows.order_by("sku", "-valid_from", "-pk").distinct("sku") if row.amount]
    dearest = max(known, key=lambda row: row.amount, default=None)
    cheapest = min(known, key=lambda row: row.amount, default=None)
    if dearest and amount > dearest.amount:
        return Reference(dearest.amount, f"the dearest other price ({dearest.sku})")
    if cheapest and amount < cheapest.amount:
        return Reference(cheapest.amount, f"the cheapest other price ({cheapest.sku})")
    return None


def _jumps(before: Decimal, after: Decimal) -> bool:
    """A thousandfold up or down; from or to nothing is one, too."""
    if before == after:
        return False
    least, most = sorted([before, after])
    return least == 0 or most >= rating.EXACT.multiply(least, Decimal(JUMP))
