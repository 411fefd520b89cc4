"""A range of usage rated anew after a price mistake: drafted by one admin, applied by another, as corrections.

What is right is what the price book says now for the moment that each event began, with the discount that the team had
then. Enter the right price first, from the moment that the wrong one was in force. A quantity that was corrected stays
corrected: prices are what is rated anew.
"""

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from django.db import transaction
from django.utils import timezone

from accounts import audit
from accounts.models import Team
from billing import corrections, four_eyes, posting, pricing, rating
from billing.corrections import Fix
from billing.errors import BadCorrection
from billing.models import Discount, LedgerEntry, Price, RerateSum, Rerating, UsageEvent

BATCH = 1000


def draft(sku: str, *, since: datetime, until: datetime, reason: str, actor: str, team: Team | None = None) -> Rerating:
    """Work out what would change and keep it for review. Raises BadCorrection when nothing would."""
    if until <= since or not reason.strip():
        raise BadCorrection("Give a range that ends after it begins, and the reason that the teams will read.")
    with transaction.atomic():
        row = Rerating.objects.create(
            sku=sku, team=team, since=since, until=until, reason=reason.strip(), drafted_by=actor
        )
        sums = _Sums()
        for fix in _fixes(row):
            sums.add(fix)
        if not sums.rows:
            raise BadCorrection("Everything in this range is charged as the price book says: there is nothing to do.")
        RerateSum.objects.bulk_create(sums.as_rows(row))
        said = {"since": since.isoformat(), "until": until.isoformat(), "reason": row.reason, "rows": sums.rows}
        audit.record(team, actor=actor, verb="drafted the re-rating", subject=str(row), after=said)
    return row


def apply(row: Rerating, *, actor: str) -> int:
    """Write the corrections; how many. Raises BadCorrection when it was decided before, when it would not change what
    was drafted, or when whoever drafted it applies it although another admin could."""
    if actor == row.drafted_by and four_eyes.others(actor, permission="billing.change_rerating"):
        raise BadCorrection("Somebody else has to apply what you drafted.")
    with transaction.atomic():
        corrections.one_at_a_time()
        _decide(row, Rerating.State.APPLIED, actor)
        sums, written = _Sums(), []
        batch: list[Fix] = []
        for fix in _fixes(row):
            sums.add(fix)
            batch.append(fix)
            if len(batch) == BATCH:
                written += corrections.write(batch, reason=row.reason)
                batch = []
        written += corrections.write(batch, reason=row.reason)
        if sums.as_drafted() != _drafted(row):
            raise BadCorrection("The ledger or the price book has changed since this was drafted: draft it again.")
        audit.record(
            row.team, actor=actor, verb="applied the re-rating", subject=str(row),
            before={"state": Rerating.State.DRAFT}, after={"state": Rerating.State.APPLIED, "rows": len(written)},
        )  # fmt: skip
        corrections.move(written)
    return len(written)


def reject(row: Rerating, *, actor: str) -> None:
    """It is not done. Raises BadCorrection when it was decided before."""
    with transaction.atomic():
        _decide(row, Rerating.State.REJECTED, actor)
        audit.record(
            row.team, actor=actor, verb="rejected the re-rating", subject=str(row),
            before={"state": Rerating.State.DRAFT}, after={"state": Rerating.State.REJECTED},
        )  # fmt: skip


def _decide(row: Rerating, state: str, actor: str) -> None:
    drafts = Rerating.objects.filter(pk=row.pk, state=Rerating.State.DRAFT)
    if not drafts.update(state=state, decided_by=actor, decided_at=timezone.now()):
        raise BadCorrection("It was decided before.")
    row.refresh_from_db()


@dataclass(slots=True)
class _Sum:
    events: int
    quantity: Decimal
    charged: Decimal
    right: Decimal


class _Sums:
    """Old and new by team and meter."""

    def __init__(self) -> None:
        self.rows: dict[tuple[UUID, str], _Sum] = {}

    def add(self, fix: Fix) -> None:
        key = (fix.about.team_id, fix.about.meter)
        found = self.rows.setdefault(key, _Sum(0, Decimal(0), Decimal(0), Decimal(0)))
        found.events += 1
        quantities = [line.quantity for line in fix.right or fix.standing]
        found.quantity = rating.add([found.quantity, *quantities])
        found.charged = rating.add([found.charged, rating.total(fix.standing)])
        found.right = rating.add([found.right, rating.total(fix.right)])

    def as_rows(self, row: Rerating) -> list[RerateSum]:
        return [
            RerateSum(
                rerating=row, team_id=team_id, meter=meter, events=one.events, quantity=one.quantity,
                charged=one.charged, right=one.right,
            )
            for (team_id, meter), one in self.rows.items()
        ]  # fmt: skip

    def as_drafted(self) -> set[tuple[Any, ...]]:
        return {(*key, one.events, one.quantity, one.charged, one.right) for key, one in self.rows.items()}


def _drafted(row: Rerating) -> set[tuple[Any, ...]]:
    return set(row.sums.values_list("team_id", "meter", "events", "quantity", "charged", "right"))


def _fixes(row: Rerating) -> Iterator[Fix]:
    """What differs, event by event and meter by meter, in the order of the events."""
    events = UsageEvent.objects.filter(sku=row.sku, started_at__gte=row.since, started_at__lt=row.until)
    if row.team_id:
        events = events.filter(team=row.team_id)
    book = _Book(row.sku)
    batch: list[UsageEvent] = []
    for event in events.select_related("team").order_by("started_at", "pk").iterator(BATCH):
        batch.append(event)
        if len(batch) == BATCH:
            yield from _differences(batch, book)
            batch = []
    yield from _differences(batch, book)


def _differences(events: list[UsageEvent], book: "_Book") -> Iterator[Fix]:
    entries: dict[tuple[UUID, str], list[LedgerEntry]] = {}
    charged: dict[UUID, list[str]] = {}
    rows = LedgerEntry.objects.filter(event__in=[event.pk for event in events]).select_related("team").order_by("pk")
    for entry in rows:
        assert entry.event_id is not None  # noqa: S101 - they were asked for by it
        entries.setdefault((entry.event_id, entry.meter), []).append(entry)
        charged.setdefault(entry.event_id, []).append(entry.meter)
    for event in events:
        prices = book.prices(event.team_id, event.started_at)
        quantities = {meter: Decimal(number) for meter, number in event.quantities.items()}
        quantities |= {meter: _corrected(entries[event.pk, meter]) for meter in charged.get(event.pk, [])}
        right = {line.meter: line for line in rating.rate(posting.chargeable(quantities, prices), prices)}
        for meter in dict.fromkeys([*right, *charged.get(event.pk, [])]):
            found = entries.get((event.pk, meter), [])
            stands = corrections.netted(meter, found)
            wished = (right[meter],) if meter in right else ()
            free = not wished and not rating.total(stands)  # such as a start that failed: no price says more
            if stands != wished and not free:
                yield Fix(_about(event, meter, found), stands, wished)


def _corrected(rows: list[LedgerEntry]) -> Decimal:
    """How much of a meter is charged for by now, whatever was counted at first."""
    return max(rating.add(row.quantity for row in rows), Decimal(0))


def _about(event: UsageEvent, meter: str, rows: list[LedgerEntry]) -> LedgerEntry:
    """The usage row; for a class that nothing priced at the time there is none, and the event itself is corrected."""
    if usage := next((row for row in rows if row.kind == LedgerEntry.Kind.USAGE), None):
        return usage
    names = ("path", "sku", "source", "model_name", "deployment_name", "api_key_name", "member", "tag", "quality")
    fields = {name: getattr(event, name) for name in names}
    return LedgerEntry(team=event.team, event=event, at=event.started_at, meter=meter, **fields)


class _Book:
    """The prices of one sku for any team and moment, looked up once between two changes of them."""

    def __init__(self, sku: str) -> None:
        self._sku = sku
        self._turns = sorted(set(Price.objects.filter(sku=sku).values_list("valid_from", flat=True)))
        self._known: dict[tuple[UUID, int, int], dict[str, Decimal]] = {}
        self._discounts: dict[UUID, list[datetime]] = {}

    def prices(self, team_id: UUID, at: datetime) -> dict[str, Decimal]:
        if team_id not in self._discounts:
            turns = Discount.objects.filter(team_id=team_id).values_list("valid_from", flat=True)
            self._discounts[team_id] = sorted(set(turns))
        key = (team_id, bisect_right(self._turns, at), bisect_right(self._discounts[team_id], at))
        if key not in self._known:
            self._known[key] = pricing.prices_at(self._sku, at=at, team_id=team_id)
        return self._known[key]
