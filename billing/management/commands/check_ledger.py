from typing import Any

import orjson
from django.core.management.base import BaseCommand, CommandError
from django.db import connection

from accounts.models import Team
from billing import chaining, periods

# By team and month: the counter, the ledger, and what all months of the team differ by.
COUNTERS = """
WITH ledger AS (
    SELECT e.team_id, date_trunc('month', e.at AT TIME ZONE z.zone)::date AS month, sum(e.amount) AS total
    FROM billing_ledgerentry e JOIN json_to_recordset(%s::json) AS z(team_id uuid, zone text) USING (team_id)
    WHERE e.kind <> 'credit' GROUP BY 1, 2
), held AS (
    SELECT team_id, month, coalesce(s.settled, 0) AS settled, coalesce(l.total, 0) AS total
    FROM billing_spend s FULL JOIN ledger l USING (team_id, month)
)
SELECT * FROM (
    SELECT t.slug, h.month, h.settled, h.total, sum(h.settled - h.total) OVER (PARTITION BY h.team_id) AS apart
    FROM held h JOIN accounts_team t ON t.id = h.team_id
) AS each WHERE settled <> total ORDER BY slug, month
"""
EVENTS = """
SELECT e.id, e.cost, coalesce(sum(l.amount), 0) FROM billing_usageevent e
LEFT JOIN billing_ledgerentry l ON l.event_id = e.id AND l.kind = 'usage'
GROUP BY e.id, e.cost HAVING e.cost <> coalesce(sum(l.amount), 0)
"""


class Command(BaseCommand):
    help = "Check that counters equal the ledger's sums, events their lines, and the ledger its seals; exit 1 if not."

    def handle(self, *args: Any, **options: Any) -> None:
        with connection.cursor() as cursor:
            cursor.execute(COUNTERS, [_zones()])
            differing = cursor.fetchall()
            cursor.execute(EVENTS)
            events = cursor.fetchall()
        counters = [row for row in differing if row[-1]]
        for slug in sorted({row[0] for row in differing if not row[-1]}):
            self.stdout.write(
                f"{slug}: its months were counted by other midnights than today's; together they are right."
            )
        for slug, month, settled, total, _ in counters:
            self.stderr.write(f"{slug} {month:%Y-%m}: the counter says {settled}, the ledger {total}")
        for event, cost, total in events:
            self.stderr.write(f"event {event}: its cost is {cost}, its lines sum to {total}")
        seals = list(chaining.broken())
        for text in seals:
            self.stderr.write(text)
        if counters or events or seals:
            raise CommandError(f"{len(counters)} counters, {len(events)} events and {len(seals)} seals differ")
        self.stdout.write("The counters and the events equal the ledger, and it is as it was sealed.")


def _zones() -> str:
    """By whose midnights each team's months are counted today, as COUNTERS takes it."""
    zones = Team.objects.values_list("pk", "time_zone")
    return orjson.dumps([{"team_id": team, "zone": periods.zone_name(zone)} for team, zone in zones]).decode()
