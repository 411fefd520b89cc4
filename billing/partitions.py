"""Usage events lie in a table for each month of UTC, by when they began; those of no month there is in the default one.

Months are made ahead, at each `migrate` and by beat. A call never waits long for that: who can't get the table's lock
soon tries again at the next run. What began in a month before its table was made stays in the default one: nothing is
lost, and that month keeps lying there.
"""

import logging
from datetime import UTC, date, datetime

from django.db import DatabaseError, connection, transaction

log = logging.getLogger(__name__)

TABLE = "billing_usageevent"
BEHIND, AHEAD = 1, 3
PATIENCE_MS = 1000


def ensure(*, now: datetime) -> list[str]:
    """Make what is missing of the months from the one before `now` to AHEAD after it; the tables that were made."""
    first = now.astimezone(UTC).date().replace(day=1)
    months = [_shifted(first, number) for number in range(-BEHIND, AHEAD + 1)]
    with connection.cursor() as cursor:
        cursor.execute("SELECT relname FROM pg_class WHERE relname = ANY(%s)", [[_name(month) for month in months]])
        known = {row[0] for row in cursor.fetchall()}
        cursor.execute("SELECT relkind = 'p' FROM pg_class WHERE oid = to_regclass(%s)", [TABLE])
        if cursor.fetchone() != (True,):
            return []  # before the migration that makes it one
    return [_name(month) for month in months if _name(month) not in known and _made(month)]


def _made(month: date) -> bool:
    name, after = _name(month), _shifted(month, 1)
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(f"SET LOCAL lock_timeout = {PATIENCE_MS}")
            cursor.execute(
                f"CREATE TABLE {name} PARTITION OF {TABLE} FOR VALUES FROM ('{month} 00:00Z') TO ('{after} 00:00Z')"
            )
            cursor.execute(
                f"CREATE TRIGGER usage_no_truncate BEFORE TRUNCATE ON {name} "
                "FOR EACH STATEMENT EXECUTE FUNCTION billing_refuse_change()"
            )
    except DatabaseError as error:
        log.warning("%s could not be made now: %s", name, error)
        return False
    return True


def _shifted(first: date, months: int) -> date:
    place = first.year * 12 + first.month - 1 + months
    return date(place // 12, place % 12 + 1, 1)


def _name(month: date) -> str:
    return f"{TABLE}_{month:%Y_%m}"
