"""The chain of digests over a month's ledger rows: change one byte of one row, and that row is named.

Pure; without Django, so that anybody can check an exported month with this file alone. The canonical form:

- A row is the texts of COLUMNS in that order, exactly as they stand in the CSV once its quoting is undone.
- Times are UTC with microseconds (`2026-11-10T12:00:00.000000Z`), numbers exact decimals without exponent or idle
  zeros, what is absent is empty, text that a spreadsheet would take for a formula has an apostrophe before it.
- A row is written as a line of RFC 4180: commas between its texts; a text that holds a comma, a quote, CR or LF stands
  in quotes, its own quotes doubled; no end of line.
- digest = SHA-256(digest before, as 64 hex digits, then the row's line in UTF-8), written as 64 hex digits.
- The digest before the first row is that of the zeros over the line of FORM, the team's id, the month
  (`2026-11`) and the header's names.

A file may have columns of its own after COLUMNS: whatever stands in a row but its `row_hash` is part of the digest. The
digests of a file that has COLUMNS alone, ordered by `entry`, are the ones that the portal seals its ledger with.
"""

import csv
import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

FORM = "modelport ledger 2"
HASH = "row_hash"
COLUMNS = (
    "month",
    "entry",
    "kind",
    "at",
    "team_id",
    "path",
    "model",
    "deployment",
    "api_key",
    "member",
    "tag",
    "source",
    "sku",
    "meter",
    "quantity",
    "unit_price",
    "list_price",
    "discount",
    "cost",
    "currency",
    "event",
    "corrects",
    "reason",
)
# The ledger's fields behind COLUMNS, but for the month: what `values_list` is asked for.
FIELDS = (
    "id",
    "kind",
    "at",
    "team_id",
    "path",
    "model_name",
    "deployment_name",
    "api_key_name",
    "member",
    "tag",
    "source",
    "sku",
    "meter",
    "quantity",
    "unit_price",
    "list_price",
    "discount",
    "amount",
    "currency",
    "event_id",
    "corrects_id",
    "reason",
)
_RISKY = ("=", "+", "-", "@", "\t", "\r")
_ZEROS = "0" * 64
LONGEST_LINE = 1_000_000
_SPECIAL = re.compile(r'[,"\r\n]')


@dataclass(frozen=True, slots=True)
class Altered:
    """The first row (1 is the one under the header) that is not what was exported, and what that means."""

    row: int
    entry: str
    text: str


def row_digest(previous: str, row_values: Iterable[str]) -> str:
    """The digest of a row that follows one with the digest `previous`; 64 hex digits."""
    return hashlib.sha256(previous.encode() + _line(row_values)).hexdigest()


def genesis(team_id: object, month: str, columns: Sequence[str] = COLUMNS) -> str:
    """The digest before the first row of a team's month (`2026-11`), in a file with these columns."""
    names = [name for name in columns if name != HASH]
    return row_digest(_ZEROS, (FORM, str(team_id), month, *names))


def cells(month: str, values: Sequence[Any]) -> list[str]:
    """A ledger row, read by FIELDS, as the texts of COLUMNS."""
    return [month, *map(cell, values)]


def cell(value: Any) -> str:
    """One value in the canonical form."""
    match value:
        case None:
            return ""
        case str():
            return f"'{value}" if value.startswith(_RISKY) else value
        case Decimal():
            return _number(value)
        case datetime():
            return value.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"
        case _:
            return str(value)


def check(lines: Iterable[Sequence[str]], *, head: str = "") -> tuple[int, str, Altered | None]:
    """Go through a file's lines (header first) up to the first altered row: (rows that hold, last digest, what does
    not hold). `head`, when given, is the digest that the last row must have: only it shows that rows were cut off
    at the end, or that the whole file was made anew."""
    rows = iter(lines)
    columns = next(rows, None)
    if columns is None or list(columns[: len(COLUMNS)]) != list(COLUMNS) or columns[-1] != HASH:
        return 0, "", Altered(0, "", "the header is not that of an exported month")
    held, last, altered = _follow(rows, columns)
    if altered is None and head and last != head:
        altered = Altered(held + 1, "", f"rows are missing at the end, or all was made anew: the last digest is {last}")
    return held, last, altered


def lines_of(file: Iterable[bytes]) -> Iterator[list[str]]:
    """The lines of a CSV, for `check`: read so that one byte, whichever it is, spoils no other line than its own. A
    line that can't be read has no cells; what is not UTF-8 is kept as it is. `file` gives pieces that end with LF."""
    held, ending = b"", b""
    for piece in file:
        held += piece
        ending = ending or (b"\r\n" if piece.endswith(b"\r\n") else b"\n")
        if held.count(b'"') % 2 and len(held) < LONGEST_LINE:
            continue  # inside of quotes: the line goes on
        yield _cells_of(held, ending)
        held = b""
    if held:
        yield _cells_of(held, ending)


def _cells_of(line: bytes, ending: bytes) -> list[str]:
    """The last line of a file may end anyhow."""
    text = line.removesuffix(ending).decode(errors="surrogateescape")
    if text.endswith(("\r", "\n")):
        return []
    try:
        rows = list(csv.reader([text], strict=True))
    except csv.Error:
        return []
    return rows[0] if len(rows) == 1 else []


def _follow(rows: Iterator[Sequence[str]], columns: Sequence[str]) -> tuple[int, str, Altered | None]:
    last = ""
    number = 0
    for number, row in enumerate(rows, start=1):
        if not row:
            return number - 1, last, Altered(number, "", "it was altered: it can't be read as a line of a CSV")
        if len(row) != len(columns):
            return number - 1, last, Altered(number, _entry(row), f"it has {len(row)} cells, not {len(columns)}")
        before = last or genesis(row[COLUMNS.index("team_id")], row[0], columns)
        if row_digest(before, row[:-1]) != row[-1]:
            return number - 1, last, Altered(number, _entry(row), "it was altered, or a row before it was removed")
        last = row[-1]
    return number, last, None


def _entry(row: Sequence[str]) -> str:
    return row[1] if len(row) > 1 else ""


def _number(number: Decimal) -> str:
    text = f"{number:f}"
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text == "-0" else text


def _line(texts: Iterable[str]) -> bytes:
    line = ",".join([_quoted(text) if _SPECIAL.search(text) else text for text in texts])
    return line.encode(errors="surrogateescape")


def _quoted(text: str) -> str:
    doubled = text.replace('"', '""')
    return f'"{doubled}"'
