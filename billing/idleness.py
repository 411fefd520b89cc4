"""What was paid for replicas that were awake while nothing was called.

A sweep over the beginnings and ends of the calls and of the compute slices that were billed: between two of them it is
known how many replicas were awake and whether a call was being answered. With several replicas one call makes all of
them busy, so what is named idle is the least that it can be.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from django.db import OperationalError, connection, transaction

from billing import rating
from billing.costs import Standing
from billing.errors import TooMuch
from billing.meters import COMPUTE_SECONDS
from billing.usage import LONGEST_CALL

# A month of a million calls takes a second or two; nobody waits for longer than this.
PATIENCE_S = 20

SWEEP = """
WITH event AS (
    SELECT team_id, deployment_name, started_at, ended_at,
           CASE WHEN quantities ? 'compute.seconds' THEN 1 ELSE 0 END AS awake
    FROM billing_usageevent
    WHERE team_id = ANY(%(teams)s) AND path = 'serverless' AND deployment_name <> ''
      AND started_at >= %(early)s AND started_at < %(ends)s AND ended_at > %(begins)s AND ended_at > started_at
      AND NOT quantities ?| array['compute.starting', 'compute.starting.failed']
), edge AS (
    SELECT team_id, deployment_name, at, sum(calls) AS calls, sum(awake) AS awake FROM (
        SELECT team_id, deployment_name, greatest(started_at, %(begins)s) AS at, 1 - awake AS calls, awake FROM event
        UNION ALL SELECT team_id, deployment_name, least(ended_at, %(ends)s), awake - 1, -awake FROM event
    ) AS both_ends GROUP BY team_id, deployment_name, at
), level AS (
    SELECT team_id, deployment_name, lead(at) OVER rising - at AS lasts, sum(calls) OVER rising AS calls,
           sum(awake) OVER rising AS awake
    FROM edge WINDOW rising AS (PARTITION BY team_id, deployment_name ORDER BY at)
)
SELECT team_id, deployment_name, sum(extract(epoch FROM lasts) * awake),
       coalesce(sum(extract(epoch FROM lasts) * awake) FILTER (WHERE calls = 0), 0)
FROM level WHERE awake > 0 GROUP BY team_id, deployment_name
"""


@dataclass(frozen=True, slots=True)
class Idle:
    """A deployment's replica-seconds: `awake_s` in all, `idle_s` of them without a call. `usd` is that share of what
    its compute cost, for reading."""

    team: str
    deployment: str
    awake_s: Decimal
    idle_s: Decimal
    compute: Decimal

    @property
    def usd(self) -> Decimal:
        return self.compute * self.idle_s / self.awake_s if self.awake_s else Decimal(0)

    @property
    def share(self) -> float:
        return float(100 * self.idle_s / self.awake_s) if self.awake_s else 0.0


def of(standing: Standing) -> list[Idle]:
    """The deployments that were awake in the question's days, the costliest idleness first. Raises TooMuch."""
    question = standing.question
    costs = _compute(standing)
    slugs = {team.pk: team.slug for team in standing.teams}
    found = [
        Idle(slugs[team], name, awake, idle, costs.get((team, name), Decimal(0)))
        for team, name, awake, idle in _swept(list(slugs), question.begins, question.ends)
        if question.where.deployment in {None, name}
    ]
    return sorted(found, key=lambda one: (-one.usd, one.deployment))


def _compute(standing: Standing) -> dict[tuple[UUID, str], Decimal]:
    """What the seconds awake cost, by team and deployment."""
    found: dict[tuple[UUID, str], Decimal] = {}
    for team, name, meter, _, cost, *_ in standing.summed(("team_id", "deployment_name", "meter"), calls="uses"):
        if meter == COMPUTE_SECONDS.name:
            found[team, name] = rating.add([found.get((team, name), Decimal(0)), cost])
    return found


def _swept(teams: Sequence[UUID], begins: datetime, ends: datetime) -> list[tuple[UUID, str, Decimal, Decimal]]:
    given: dict[str, object] = {"teams": list(teams), "begins": begins, "ends": ends, "early": begins - LONGEST_CALL}
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(f"SET LOCAL statement_timeout = '{PATIENCE_S}s'")
            cursor.execute(SWEEP, given)  # type: ignore[arg-type]
            return list(cursor.fetchall())
    except OperationalError as error:
        raise TooMuch(
            f"That many calls can't be laid over one another within {PATIENCE_S} s: ask for fewer days."
        ) from error
