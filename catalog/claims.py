"""Who works on which import: claims in Postgres, which forgets them when the worker that has them dies."""

import contextlib
from collections.abc import Iterator
from uuid import UUID

from django.conf import settings
from django.db import connection

SLOTS = 0x6D70


@contextlib.contextmanager
def alone(weights_id: UUID) -> Iterator[bool]:
    """True if nobody else works on these weights. Postgres forgets the claim when the worker dies."""
    number = int.from_bytes(weights_id.bytes[:8], "big", signed=True)
    with _lock("%s", [number]) as mine:
        yield mine


@contextlib.contextmanager
def slot() -> Iterator[bool]:
    """True while fewer than IMPORTS_AT_ONCE others are under way."""
    with contextlib.ExitStack() as stack:
        for number in range(settings.IMPORTS_AT_ONCE):
            if stack.enter_context(_lock("%s, %s", [SLOTS, number])):
                yield True
                return
        yield False


@contextlib.contextmanager
def _lock(places: str, numbers: list[int]) -> Iterator[bool]:
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT pg_try_advisory_lock({places})", numbers)
        mine = bool(cursor.fetchone()[0])
    try:
        yield mine
    finally:
        if mine and connection.is_usable():
            with connection.cursor() as cursor:
                cursor.execute(f"SELECT pg_advisory_unlock({places})", numbers)
