from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import connection

from billing import chaining

COUNTERS = """
SELECT t.slug, s.month, s.settled, coalesce(l.total, 0)
FROM billing_spend s JOIN accounts_team t ON t.id = s.team_id
LEFT JOIN (
    SELECT e.team_id, date_trunc('month', e.at AT TIME ZONE t.time_zone)::date AS month, sum(e.amount) AS total
    FROM billing_ledgerentry e JOIN accounts_team t ON t.id = e.team_id WHERE e.kind <> 'credit' GROUP BY 1, 2
) l ON l.team_id = s.team_id AND l.month = s.month
WHERE s.settled <> coalesce(l.total, 0)
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
            cursor.execute(COUNTERS)
            counters = cursor.fetchall()
            cursor.execute(EVENTS)
            events = cursor.fetchall()
        for slug, month, settled, total in counters:
            self.stderr.write(f"{slug} {month:%Y-%m}: the counter says {settled}, the ledger {total}")
        for event, cost, total in events:
            self.stderr.write(f"event {event}: its cost is {cost}, its lines sum to {total}")
        seals = list(chaining.broken())
        for text in seals:
            self.stderr.write(text)
        if counters or events or seals:
            raise CommandError(f"{len(counters)} counters, {len(events)} events and {len(seals)} seals differ")
        self.stdout.write("The counters and the events equal the ledger, and it is as it was sealed.")
