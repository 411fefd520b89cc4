"""When a team's calls came and what each used: usage events as a trace that can be played again."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from django.db import connection
from django.db.models import Q

from accounts.models import Team
from billing.models import UsageEvent

TOKENS = ["tokens.input", "tokens.input.cached", "tokens.output"]
BY_HOUR = """
WITH calls AS (
    SELECT date_bin('1 hour', started_at, %(begins)s) AS hour, quantities FROM billing_usageevent
    WHERE team_id = %(team)s AND started_at >= %(begins)s AND started_at < %(ends)s AND quantities ?| %(tokens)s
      AND (%(sku)s = '' OR sku = %(sku)s OR model_name = %(name)s)
)
SELECT hour, '', count(*) FROM calls GROUP BY hour
UNION ALL
SELECT hour, used.key, sum(used.value::numeric) FROM calls, jsonb_each_text(quantities) AS used GROUP BY hour, used.key
"""


@dataclass(frozen=True, slots=True)
class Moment:
    """Calls that came at `at`, or within the hour that began then; `quantities` by meter, of all of them."""

    at: datetime
    quantities: dict[str, Decimal]
    calls: int = 1


@dataclass(frozen=True, slots=True)
class Trace:
    moments: Sequence[Moment]
    by_hour: bool


def of(team: Team, *, begins: datetime, ends: datetime, most: int, sku: str = "", model_name: str = "") -> Trace:
    """The team's calls that began then, oldest first: of one model, by its hosted sku or its name, or of all. Each for
    itself, or put together by the hour where there are more than `most`."""
    rows = UsageEvent.objects.filter(
        team=team, started_at__gte=begins, started_at__lt=ends, quantities__has_any_keys=TOKENS
    )
    if sku:
        rows = rows.filter(Q(sku=sku) | Q(model_name=model_name))
    found = list(rows.order_by("started_at").values_list("started_at", "quantities")[: most + 1])
    if len(found) > most:
        asked: dict[str, Any] = {
            "team": team.pk,
            "begins": begins,
            "ends": ends,
            "tokens": TOKENS,
            "sku": sku,
            "name": model_name,
        }
        return Trace(_by_hour(asked), by_hour=True)
    return Trace([Moment(at, _decimals(quantities)) for at, quantities in found], by_hour=False)


def _by_hour(asked: dict[str, Any]) -> list[Moment]:
    with connection.cursor() as cursor:
        cursor.execute(BY_HOUR, asked)
        rows = cursor.fetchall()
    counts = {hour: int(number) for hour, meter, number in rows if not meter}
    used: dict[datetime, dict[str, Decimal]] = {hour: {} for hour in counts}
    for hour, meter, number in rows:
        if meter:
            used[hour][meter] = number
    return [Moment(hour, used[hour], counts[hour]) for hour in sorted(counts)]


def _decimals(quantities: dict[str, str]) -> dict[str, Decimal]:
    return {meter: Decimal(number) for meter, number in quantities.items()}
