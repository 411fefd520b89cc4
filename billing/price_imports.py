"""Prices that others publish, as drafts: LiteLLM's JSON file and the genai-prices package. Numbers are read as Decimal.

Nothing is left out silently: what has no meter here, no model, or can't be expressed is listed with the reason.
genai-prices' rows by the time of day ignore the start dates beside them and this price book has no hours, so they are
listed, too.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time
from decimal import Decimal
from types import MappingProxyType
from typing import Any

from billing import price_book, rating
from billing.errors import BadPrice
from billing.meters import METERS
from billing.models import Price, PriceDraft

# A file's field -> our meter. Prices of one token, request or image.
LITELLM = MappingProxyType(
    {
        "input_cost_per_token": "tokens.input",
        "cache_read_input_token_cost": "tokens.input.cached",
        "cache_creation_input_token_cost": "tokens.input.cache_write",
        "cache_creation_input_token_cost_above_1hr": "tokens.input.cache_write_1h",
        "input_cost_per_audio_token": "tokens.input.audio",
        "input_cost_per_image_token": "tokens.input.image",
        "input_cost_per_token_batches": "tokens.input.batch",
        "output_cost_per_token": "tokens.output",
        "output_cost_per_reasoning_token": "tokens.output.reasoning",
        "output_cost_per_audio_token": "tokens.output.audio",
        "output_cost_per_token_batches": "tokens.output.batch",
        "output_cost_per_image": "images.output",
        "input_cost_per_request": "requests",
    }
)
_TIER = re.compile(r"(?P<field>[a-z_0-9]+?)_above_(?P<thousands>[0-9]+)k_tokens")
GENAI = MappingProxyType(
    {
        "input_mtok": "tokens.input",
        "cache_read_mtok": "tokens.input.cached",
        "cache_write_mtok": "tokens.input.cache_write",
        "cache_write_1h_mtok": "tokens.input.cache_write_1h",
        "input_audio_mtok": "tokens.input.audio",
        "input_image_mtok": "tokens.input.image",
        "output_mtok": "tokens.output",
        "output_reasoning_mtok": "tokens.output.reasoning",
        "output_audio_mtok": "tokens.output.audio",
        "requests_kcount": "requests",
    }
)
_KILO = 1000


@dataclass(frozen=True, slots=True)
class Offered:
    """A published price of one unit for the model that the publisher calls `name`; None: since ever."""

    name: str
    meter: str
    above_tokens: int
    amount: Decimal
    since: date | None = None


@dataclass(frozen=True, slots=True)
class Skipped:
    name: str
    what: str
    why: str

    def __str__(self) -> str:
        return f"{self.name}: {self.what}: {self.why}"


@dataclass(slots=True)
class Found:
    prices: list[Offered] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)


@dataclass(slots=True)
class Outcome:
    """What an import has done: the new drafts, how many prices are in force as they are, what was left out and why."""

    drafts: list[PriceDraft] = field(default_factory=list)
    unchanged: int = 0
    skipped: list[Skipped] = field(default_factory=list)


def read_litellm(text: str | bytes) -> Found:
    """LiteLLM's model_prices_and_context_window.json, or a file of its form. Raises BadPrice if it is none."""
    try:
        models = json.loads(text, parse_float=Decimal, parse_int=Decimal, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise BadPrice(f"That is no JSON: {error}.") from error
    if not isinstance(models, dict):
        raise BadPrice("That is not LiteLLM's form: an object with a model under each name.")
    found = Found()
    for name, fields in models.items():
        if name == "sample_spec" or not isinstance(fields, dict):
            continue
        for key, value in fields.items():
            if "cost" in key and value is not None:
                _take_litellm(found, str(name), str(key), value)
    return found


def read_genai(providers: Iterable[Any]) -> Found:
    """The providers of genai_prices.data."""
    found = Found()
    for provider in providers:
        for model in provider.models:
            name = f"{provider.id}/{model.id}"
            for since, prices in _versions(found, name, model.prices):
                for key, value in vars(prices).items():
                    if value is not None:
                        _take_genai(found, name, key, value, since)
    return found


def draft_all(found: Found, *, skus: Mapping[str, str], batch: str, source: str, read_on: date, actor: str) -> Outcome:
    """Drafts for what we sell: `skus` says what our sku for a published name is. A price without a start date is
    drafted from `read_on`. Neither a price nor a draft that is there already is changed."""
    outcome = Outcome(skipped=[one for one in found.skipped if one.name in skus])
    for offered in found.prices:
        if sku := skus.get(offered.name):
            _draft(outcome, offered, sku, batch=batch, source=source, read_on=read_on, actor=actor)
    return outcome


def _draft(outcome: Outcome, offered: Offered, sku: str, *, batch: str, source: str, read_on: date, actor: str) -> None:
    moment = datetime.combine(offered.since or read_on, time.min, UTC)
    subject = {"meter": offered.meter, "above_tokens": offered.above_tokens}
    before = price_book.in_force(sku, at=moment, **subject)  # type: ignore[arg-type]
    if before is not None and before.amount == offered.amount:
        outcome.unchanged += 1
        return
    if Price.objects.filter(sku=sku, valid_from=moment, **subject).exists():
        outcome.skipped.append(_left(offered, f"a price from {moment:%Y-%m-%d} was entered, and stays"))
        return
    try:
        row = price_book.draft(
            sku,
            meter=offered.meter,
            above_tokens=offered.above_tokens,
            amount=offered.amount,
            valid_from=moment,
            source=source,
            source_date=read_on,
            actor=actor,
            batch=batch,
        )
    except BadPrice as error:
        outcome.skipped.append(_left(offered, str(error)))
    else:
        outcome.drafts.append(row)


def _left(offered: Offered, why: str) -> Skipped:
    tier = f" above {offered.above_tokens} tokens" if offered.above_tokens else ""
    return Skipped(offered.name, f"{offered.meter}{tier}", why)


def _take_litellm(found: Found, name: str, key: str, value: Any) -> None:
    tier = _TIER.fullmatch(key)
    base, above = (tier["field"], int(tier["thousands"]) * _KILO) if tier else (key, 0)
    meter = LITELLM.get(base)
    if meter is None:
        found.skipped.append(Skipped(name, key, "no meter here is like it"))
    elif not isinstance(value, Decimal) or not value.is_finite() or value < 0:
        found.skipped.append(Skipped(name, key, f"{str(value)[:40]!r} is no price"))
    else:
        found.prices.append(Offered(name, meter, above, value))


def _versions(found: Found, name: str, prices: Any) -> Iterator[tuple[date | None, Any]]:
    """(in force since, prices): one, or a list with conditions of which the later ones go first."""
    if not isinstance(prices, list):
        yield None, prices
        return
    for one in prices:
        if one.constraint is None:
            yield None, one.prices
        elif start := getattr(one.constraint, "start_date", None):
            yield start, one.prices
        else:
            found.skipped.append(Skipped(name, "a price by the time of day", "a price here holds the whole day"))


def _take_genai(found: Found, name: str, key: str, value: Any, since: date | None) -> None:
    meter = GENAI.get(key)
    if meter is None:
        found.skipped.append(Skipped(name, key, "no meter here is like it"))
        return
    per = Decimal(METERS[meter].per if key.endswith("_mtok") else _KILO)
    tiers = (
        [(0, value)] if isinstance(value, Decimal) else [(0, value.base), *((t.start, t.price) for t in value.tiers)]
    )
    found.prices += [Offered(name, meter, above, rating.EXACT.divide(price, per), since) for above, price in tiers]


def _no_number(text: str) -> Any:
    raise ValueError(f"{text} is no number of JSON")
