"""The whole library in memory, as small facts: what a search narrows, counts and sorts without asking the database.

A process reads it once and again when the database says that something has changed (catalog.models.Change), or when a
price that was known before comes into force. Sets of models are the bits of an integer: of 5,000 models the counts of
all facets are some hundred ANDs, and take less than a millisecond.
"""

import gc
import re
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from django.db import connection
from django.utils import timezone

from accounts.models import Team
from billing import pricing
from catalog import library, offers
from catalog.library import Entry, Quote
from catalog.models import Change, Hardware, Model

CONTEXTS = {"32k": 32_000, "128k": 128_000, "200k": 200_000, "1m": 1_000_000}
# USD for a million input tokens: from the first on, below the second.
PRICES = {
    "under-0.5": (Decimal(0), Decimal("0.5")),
    "0.5-2": (Decimal("0.5"), Decimal(2)),
    "2-10": (Decimal(2), Decimal(10)),
    "10-up": (Decimal(10), Decimal("Infinity")),
}
COMMERCIAL = {True: "yes", None: "conditions", False: "no"}
MOST_CHANGES, CHANGES_KEPT = 1000, 100
SORTS = ("relevance", "name", "price_in", "price_out", "context", "newest")
Stamp = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Item:
    """A model as its card shows it. `hour` is the price of the cheapest hardware that fits, `on` its name."""

    pk: UUID
    slug: str
    name: str
    publisher: str
    openness: str
    licence: str
    commercial: bool | None
    modalities: tuple[str, ...]
    context_tokens: int | None
    is_hosted: bool
    can_call: bool
    provider: str
    can_deploy: bool
    why_not_deployed: str
    weights_coming: bool
    input: Quote | None
    output: Quote | None
    hour: Quote | None
    on: str


@dataclass(frozen=True, slots=True)
class Shelf:
    """`bits[facet][value]`: the models that have it; bit n is items[n]. `labels` tells values of licences and hardware
    as people know them. `orders[sort]` are all numbers in that order, `places` finds one by its id as text. `names` are
    each one's name and slug as searches part them."""

    stamp: Stamp
    good_until: datetime | None
    items: tuple[Item, ...]
    places: dict[str, int]
    names: tuple[tuple[str, str], ...]
    bits: dict[str, dict[str, int]]
    labels: dict[str, str]
    orders: dict[str, tuple[int, ...]]
    public: int
    of_teams: dict[UUID, int]

    def visible_to(self, team: Team) -> int:
        """The starter catalog's models and the team's own; where every search begins."""
        return self.public | self.of_teams.get(team.pk, 0)

    def numbers(self, some: int, *, sort: str) -> list[int]:
        """Which they are, in that order."""
        flags = f"{some:b}"[::-1]
        return [number for number in self.orders[sort] if number < len(flags) and flags[number] == "1"]


def words(text: str) -> str:
    """As the database's catalog_words() parts them, but for words that it parts once more."""
    return " ".join(word for word in re.sub(r"[^\w.]+|_", " ", text.lower()).split() if word.strip("."))


def current() -> Shelf:
    """The library as it is now; one query unless it has changed."""
    stamp, now = _stamp(), timezone.now()
    shelf = _kept.shelf
    if shelf and shelf.stamp == stamp and (shelf.good_until is None or now < shelf.good_until):
        return shelf
    with _kept.lock:
        shelf = _kept.shelf
        if shelf is None or shelf.stamp != stamp or (shelf.good_until and now >= shelf.good_until):
            with _no_collecting():
                shelf = _kept.shelf = _read(stamp, now)
    return shelf


def forget_old_changes() -> None:
    """Past MOST_CHANGES the table keeps the newest; every process reads the library once more for that."""
    newest = Change.objects.order_by("-pk")
    if newest.count() > MOST_CHANGES:
        Change.objects.filter(pk__lt=newest.values_list("pk", flat=True)[CHANGES_KEPT - 1]).delete()


class _Kept:
    """What this process has read."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.shelf: Shelf | None = None


_kept = _Kept()


@contextmanager
def _no_collecting() -> Iterator[None]:
    """Tens of thousands of rows are made and all are kept: to look through them for garbage again and again would take
    as long as reading them."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _stamp() -> Stamp:
    """Of the changes that are committed. Read before the library: what comes in between is read twice, never missed.
    Their count and sum, because who wrote last may not be who commits last."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*), coalesce(sum(id), 0), max(at) FROM catalog_change")
        return (connection.settings_dict["NAME"], *cursor.fetchone())


def _read(stamp: Stamp, now: datetime) -> Shelf:
    models = sorted(library.of_all_teams(), key=lambda model: (model.name.lower(), model.slug))
    bits: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    of_teams: dict[UUID, int] = defaultdict(int)
    public = 0
    items = []
    machines = list(Hardware.objects.all())
    for number, entry in enumerate(library.entries(models)):
        bit = 1 << number
        if entry.model.team_id:
            of_teams[entry.model.team_id] |= bit
        else:
            public |= bit
        for facet, value in _values(entry, machines):
            bits[facet][value] |= bit
        items.append(_item(entry))
    return Shelf(
        stamp=stamp,
        good_until=pricing.next_change(after=now),
        items=tuple(items),
        names=tuple((words(item.name), words(item.slug)) for item in items),
        places={str(item.pk): number for number, item in enumerate(items)},
        bits={facet: dict(values) for facet, values in bits.items()},
        labels={model.licence_id: str(model.licence) for model in models} | {one.slug: one.name for one in machines},
        orders=_orders(models, items),
        public=public,
        of_teams=dict(of_teams),
    )


def _values(entry: Entry, machines: list[Hardware]) -> Iterator[tuple[str, str]]:
    """Every (facet, value) that the model has."""
    model = entry.model
    is_open = model.openness != Model.Openness.CLOSED
    is_hosted = entry.hosted_offer is not None
    yield "openness", model.openness
    yield "licence", model.licence_id
    yield "commercial", COMMERCIAL[model.licence.commercial_use]
    yield "publisher", model.publisher
    yield from (("modality", one) for one in model.modalities)
    yield from (("context", name) for name, least in CONTEXTS.items() if (model.context_tokens or 0) >= least)
    yield "price", _price_range(entry.input)
    for has, facet, value in (
        (is_hosted, "path", "hosted"),
        (is_open, "path", "deployable"),
        (is_hosted and is_open, "path", "both"),
        (entry.hosted.is_open, "available", "call"),
        (entry.deployable.is_open, "available", "deploy"),
    ):
        if has:
            yield facet, value
    weights = entry.deployable_offer.weights if entry.deployable_offer else None
    if weights and weights.size_bytes:
        yield from (("hardware", one.slug) for one in machines if offers.fits(weights.size_bytes, one))


def _price_range(quote: Quote | None) -> str:
    if quote is None:
        return "unlisted"
    return next(name for name, (least, below) in PRICES.items() if least <= quote.amount < below)


def _item(entry: Entry) -> Item:
    model, hosted, cheapest = entry.model, entry.hosted_offer, entry.cheapest
    return Item(
        pk=model.pk,
        slug=model.slug,
        name=model.name,
        publisher=model.publisher,
        openness=model.openness,
        licence=str(model.licence),
        commercial=model.licence.commercial_use,
        modalities=tuple(model.modalities),
        context_tokens=model.context_tokens,
        is_hosted=hosted is not None,
        can_call=entry.hosted.is_open,
        provider=hosted.provider.name if hosted and hosted.provider else "",
        can_deploy=entry.deployable.is_open,
        why_not_deployed="" if entry.deployable.is_open else entry.deployable.reason,
        weights_coming=bool(entry.deployable_offer and not _are_here(entry)),
        input=entry.input,
        output=entry.output,
        hour=cheapest[1] if cheapest else None,
        on=cheapest[0].name if cheapest else "",
    )


def _are_here(entry: Entry) -> bool:
    weights = entry.deployable_offer.weights if entry.deployable_offer else None
    return bool(weights and weights.is_ready)


def _orders(models: list[Model], items: list[Item]) -> dict[str, tuple[int, ...]]:
    """What can be deployed or called now comes first where nothing else is asked; what is not listed comes last."""
    by_name = range(len(items))
    never = Decimal("Infinity")

    def price(quote: Quote | None) -> Decimal:
        return quote.amount if quote else never

    keys = {
        "relevance": lambda n: (not items[n].can_deploy, not items[n].can_call),
        "name": lambda n: n,
        "price_in": lambda n: price(items[n].input),
        "price_out": lambda n: price(items[n].output),
        "context": lambda n: -(items[n].context_tokens or 0),
        "newest": lambda n: -models[n].listed_at.timestamp(),
    }
    return {name: tuple(sorted(by_name, key=keys[name])) for name in SORTS}  # type: ignore[arg-type,return-value]
