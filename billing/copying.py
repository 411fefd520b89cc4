"""Rows straight from PostgreSQL's COPY, formatted there: as many of them as there are, in flat memory.

A statement is read by one COPY, so all its rows are of one moment. Text is made safe for spreadsheets and numbers are
written out in SQL; here the rows only pass through.
"""

from collections.abc import Iterable, Iterator

from django.db import connection
from psycopg import sql

RISKY = ("=", "+", "-", "@", "\t", "\r")
CHUNK_BYTES = 64 * 1024


def rows(query: sql.Composable) -> Iterator[bytes]:
    """The query's rows as lines of CSV, each without its end of line. NULL is an empty cell."""
    statement = sql.SQL("COPY ({}) TO STDOUT (FORMAT csv, ENCODING 'UTF8')").format(query)
    with connection.cursor() as cursor, cursor.copy(statement) as copy:
        while row := copy.read():
            yield bytes(row)[:-1]


def as_chunks(header: Iterable[str], lines: Iterable[bytes]) -> Iterator[bytes]:
    """RFC 4180: the header and the lines with CRLF after each, in pieces of about CHUNK_BYTES."""
    gathered: list[bytes] = [",".join(header).encode()]
    size = 0
    for line in lines:
        gathered.append(line)
        size += len(line)
        if size >= CHUNK_BYTES:
            gathered.append(b"")
            yield b"\r\n".join(gathered)
            gathered, size = [], 0
    if gathered:
        gathered.append(b"")
        yield b"\r\n".join(gathered)


def safe(text: str) -> str:
    """A cell that no spreadsheet takes for a formula."""
    return f"'{text}" if text.startswith(RISKY) else text


def text(column: str) -> sql.Composable:
    """People's text as a cell that no spreadsheet takes for a formula; empty text is an empty cell."""
    first = literals(ord(character) for character in RISKY)
    return sql.SQL("CASE WHEN ascii({0}) IN ({1}) THEN '''' || {0} ELSE nullif({0}, '') END").format(
        sql.SQL(column), first
    )


def moment(column: str) -> sql.Composable:
    """A time in UTC with microseconds: 2026-11-10T12:00:00.000000Z."""
    return sql.SQL("""to_char({} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')""").format(sql.SQL(column))


def literals(values: Iterable[object]) -> sql.Composable:
    return sql.SQL(", ").join(sql.Literal(value) for value in values)
