"""How many calls a deployment gets, how fast it answers, how many fail: counted by gateways, shown on its page."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from uuid import UUID

from django.db import connection
from django.utils import timezone

from deployments.models import CallTally

STEP_S = 10
KEPT_FOR = timedelta(days=1)
# Each bound is three tenths over the one before, so a percentile is right within that; the last bucket has no bound.
BOUNDS_MS = tuple(round(5 * 1.3**n) for n in range(40))

COUNT = """
INSERT INTO deployments_calltally AS t (deployment_id, at, calls, failed, tokens_in, tokens_out, first_token)
SELECT r.* FROM json_to_recordset(%s::json) AS r(
    deployment_id uuid, at timestamptz, calls int, failed int, tokens_in bigint, tokens_out bigint, first_token int[])
JOIN deployments_deployment d ON d.id = r.deployment_id
ORDER BY r.deployment_id, r.at
ON CONFLICT (deployment_id, at) DO UPDATE SET
    calls = t.calls + excluded.calls, failed = t.failed + excluded.failed,
    tokens_in = t.tokens_in + excluded.tokens_in, tokens_out = t.tokens_out + excluded.tokens_out,
    first_token = ARRAY(SELECT coalesce(a, 0) + coalesce(b, 0)
                        FROM unnest(t.first_token, excluded.first_token) WITH ORDINALITY AS u(a, b, n) ORDER BY n)
"""

SPARKS = """
SELECT deployment_id, floor(extract(epoch FROM at - %s) / %s)::int AS bin, sum(calls)
FROM deployments_calltally WHERE deployment_id = ANY(%s) AND at >= %s GROUP BY 1, 2
"""


@dataclass(frozen=True, slots=True)
class Ended:
    """One call that has ended. `first_token_ms` is known of streams only."""

    deployment_id: UUID
    at: datetime
    failed: bool
    tokens_in: int = 0
    tokens_out: int = 0
    first_token_ms: int | None = None


@dataclass(slots=True)
class Sum:
    """Calls of some stretch of time together."""

    calls: int = 0
    failed: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    first_token: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS_MS) + 1))

    def add(self, more: "Sum | CallTally") -> None:
        self.calls += more.calls
        self.failed += more.failed
        self.tokens_in += more.tokens_in
        self.tokens_out += more.tokens_out
        self.first_token = [a + b for a, b in zip(self.first_token, more.first_token, strict=True)]

    @property
    def failed_share(self) -> float | None:
        """0 to 1; None without a call."""
        return self.failed / self.calls if self.calls else None

    def first_token_ms(self, part: float) -> float | None:
        """Within so many milliseconds that part (0.5, 0.9) of the streams had begun; None without a stream."""
        return percentile(self.first_token, part)


def count(calls: Iterable[Ended]) -> None:
    """Add these to what other gateways have counted. Of a deployment that is gone nothing is kept."""
    sums: dict[tuple[UUID, datetime], Sum] = {}
    for call in calls:
        sums.setdefault((call.deployment_id, _step(call.at)), Sum()).add(_sum_of(call))
    if not sums:
        return
    rows = [
        {"deployment_id": str(key), "at": at.isoformat(), "calls": one.calls, "failed": one.failed,
         "tokens_in": one.tokens_in, "tokens_out": one.tokens_out, "first_token": one.first_token}
        for (key, at), one in sums.items()
    ]  # fmt: skip
    with connection.cursor() as cursor:
        cursor.execute(COUNT, [json.dumps(rows)])


def steps(deployment_id: UUID, *, since: datetime) -> dict[datetime, Sum]:
    """Begin of each ten seconds in which a call ended -> their sum."""
    found: dict[datetime, Sum] = {}
    for row in CallTally.objects.filter(deployment=deployment_id, at__gte=since):
        found.setdefault(row.at, Sum()).add(row)
    return found


def sparks(deployment_ids: Sequence[UUID], *, since: datetime, bins: int) -> Mapping[UUID, list[int]]:
    """Calls of each deployment from `since` until now in so many equal parts; in one query."""
    found = {key: [0] * bins for key in deployment_ids}
    width_s = (timezone.now() - since).total_seconds() / bins
    with connection.cursor() as cursor:
        cursor.execute(SPARKS, [since, width_s, list(deployment_ids), since])
        for key, part, calls in cursor.fetchall():
            found[key][min(part, bins - 1)] += int(calls)
    return found


def forget_old() -> None:
    CallTally.objects.filter(at__lt=timezone.now() - KEPT_FOR).delete()


def percentile(counts: Sequence[int], part: float) -> float | None:
    """From a histogram over BOUNDS_MS; between two bounds it is taken to be even."""
    total = sum(counts)
    if not total:
        return None
    left = part * total
    for number, many in enumerate(counts):
        if many and left <= many:
            low = BOUNDS_MS[number - 1] if number else 0
            high = BOUNDS_MS[min(number, len(BOUNDS_MS) - 1)]
            return low + (high - low) * left / many
        left -= many
    return float(BOUNDS_MS[-1])


def _sum_of(call: Ended) -> Sum:
    one = Sum(1, int(call.failed), call.tokens_in, call.tokens_out)
    if call.first_token_ms is not None:
        one.first_token[_bucket(call.first_token_ms)] += 1
    return one


def _bucket(milliseconds: int) -> int:
    return next((number for number, bound in enumerate(BOUNDS_MS) if milliseconds <= bound), len(BOUNDS_MS))


def _step(at: datetime) -> datetime:
    return datetime.fromtimestamp(at.timestamp() // STEP_S * STEP_S, UTC)
