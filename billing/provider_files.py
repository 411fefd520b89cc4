"""Reads what providers export about usage and cost. Pure: text in, rows out; nothing is guessed, what can't be read is
named with its line.

Shapes, told apart by their header:

- `openai`: a usage export of completions: `start_time` or `start_time_iso`, `model`, `input_tokens`, `output_tokens`,
  and if there, `input_cached_tokens` (part of the input).
- `anthropic`: the console's usage export: `usage_date_utc`, `model_version`, `usage_input_tokens_no_cache`,
  `usage_input_tokens_cache_write_5m`, `usage_input_tokens_cache_write_1h`, `usage_input_tokens_cache_read`,
  `usage_output_tokens`; or its cost export: `usage_date_utc`, `model`, `cost_usd`.
- `generic`: `date`, `model`, `meter` (a meter of this portal), `quantity`, and if there, `cost` in USD.

Days are UTC, as the providers' are.
"""

import csv
import io
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation

from billing.errors import BadFile
from billing.meters import METERS

ANTHROPIC_METERS = {
    "usage_input_tokens_no_cache": "tokens.input",
    "usage_input_tokens_cache_write_5m": "tokens.input.cache_write",
    "usage_input_tokens_cache_write_1h": "tokens.input.cache_write_1h",
    "usage_input_tokens_cache_read": "tokens.input.cached",
    "usage_output_tokens": "tokens.output",
}
_DATED = re.compile(r"(-20\d\d-?\d\d-?\d\d|-latest|-\d{3,4}|@[\w-]+)$")
LARGEST = Decimal(10) ** 15


@dataclass(frozen=True, slots=True)
class Said:
    """What a provider says of a UTC day, a model and a meter ("" for a cost that is not told apart)."""

    day: date
    model: str
    meter: str
    quantity: Decimal | None
    cost: Decimal | None


@dataclass(frozen=True, slots=True)
class Parsed:
    """A file's rows, summed by day, model and meter; `skipped` are lines that say nothing to compare, and why."""

    provider: str
    rows: tuple[Said, ...]
    skipped: tuple[str, ...]


Row = Mapping[str, str]


def parse(text: str) -> Parsed:
    """Raises BadFile with the line where something can't be read."""
    lines = csv.DictReader(io.StringIO(text.removeprefix("\ufeff"), newline=""), strict=True)
    try:
        header = {name.strip() for name in lines.fieldnames or () if name}
        provider, reader = _shape(header)
        summed: dict[tuple[date, str, str], list[Decimal | None]] = {}
        skipped: list[str] = []
        for row in lines:
            said = list(_read(reader, row, lines.line_num))
            if not said:
                skipped.append(f"line {lines.line_num}: no model, or nothing used")
            for one in said:
                held = summed.setdefault((one.day, one.model, one.meter), [None, None])
                held[0], held[1] = _plus(held[0], one.quantity), _plus(held[1], one.cost)
    except csv.Error as error:
        raise BadFile(f"line {lines.line_num}: {error}") from error
    if not summed:
        raise BadFile("the file has no row that says what was used")
    return Parsed(provider, tuple(Said(*key, *sums) for key, sums in sorted(summed.items())), tuple(skipped))


def known_name(name: str) -> str:
    """A model's name without what differs between a provider's, a caller's and a sku: case, dots, dates."""
    short = name.lower().removeprefix("hosted:").replace(".", "-").replace("_", "-").rpartition("/")[2]
    return _DATED.sub("", short)


def _shape(header: set[str]) -> tuple[str, Callable[[Row], Iterator[Said]]]:
    if {"usage_date_utc", "model_version", "usage_output_tokens"} <= header:
        return "anthropic", _anthropic
    if {"usage_date_utc", "model", "cost_usd"} <= header:
        return "anthropic", _anthropic_cost
    if {"model", "input_tokens", "output_tokens"} <= header and header & {"start_time", "start_time_iso"}:
        return "openai", _openai
    if {"date", "model", "meter", "quantity"} <= header:
        return "generic", _generic
    raise BadFile(
        "the header is none that is known. Give an OpenAI or Anthropic usage export, or the columns "
        "date, model, meter, quantity and, if there is one, cost."
    )


def _read(reader: Callable[[Row], Iterator[Said]], row: dict[str, str], line: int) -> Iterator[Said]:
    try:
        yield from reader({name.strip(): (value or "").strip() for name, value in row.items() if name})
    except (ValueError, InvalidOperation, OverflowError, KeyError, AttributeError, TypeError) as error:
        raise BadFile(f"line {line}: {error or type(error).__name__}") from error


def _anthropic(row: Row) -> Iterator[Said]:
    for column, meter in ANTHROPIC_METERS.items():
        if row["model_version"] and (quantity := _number(row.get(column, ""))):
            yield Said(_day(row["usage_date_utc"]), row["model_version"], meter, quantity, None)


def _anthropic_cost(row: Row) -> Iterator[Said]:
    if row["model"] and (cost := _number(row["cost_usd"])):
        yield Said(_day(row["usage_date_utc"]), row["model"], "", None, cost)


def _openai(row: Row) -> Iterator[Said]:
    day = _day(row.get("start_time_iso") or row["start_time"])
    cached = _number(row.get("input_cached_tokens", ""))
    used = {
        "tokens.input": _number(row["input_tokens"]) - cached,
        "tokens.input.cached": cached,
        "tokens.output": _number(row["output_tokens"]),
    }
    if used["tokens.input"] < 0:
        raise ValueError("more cached input tokens than input tokens")
    for meter, quantity in used.items():
        if row["model"] and quantity:
            yield Said(day, row["model"], meter, quantity, None)


def _generic(row: Row) -> Iterator[Said]:
    if row["meter"] not in METERS:
        raise ValueError(f"{row['meter']!r} is no meter: use one of {', '.join(METERS)}")
    cost = _number(row["cost"]) if row.get("cost") else None
    if row["model"] and (_number(row["quantity"]) or cost):
        yield Said(_day(row["date"]), row["model"], row["meter"], _number(row["quantity"]), cost)


def _number(text: str) -> Decimal:
    """An exact decimal; empty is 0. Thousands may stand apart by commas, dollars may have their sign."""
    number = Decimal(text.replace(",", "").removeprefix("$") or "0")
    if not number.is_finite() or not 0 <= number < LARGEST:
        raise ValueError(f"{text!r} is not a number from 0 on")
    return number


def _day(text: str) -> date:
    if text.isdigit():
        return datetime.fromtimestamp(int(text), UTC).date()
    moment = datetime.fromisoformat(text)
    return (moment.astimezone(UTC) if moment.tzinfo else moment).date()


def _plus(held: Decimal | None, more: Decimal | None) -> Decimal | None:
    return more if held is None else held if more is None else held + more
