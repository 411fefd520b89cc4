from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from accounts.models import Team
from billing import heads, invoicing, periods
from billing.errors import BadMonth, NotYet


class Command(BaseCommand):
    help = "Issue the invoices of every month whose grace is over, or of one team's month. Safe to repeat."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("month", nargs="?", help="2026-11; with --team.")
        parser.add_argument("--team", help="The team's slug.")

    def handle(self, *args: Any, **options: Any) -> None:
        if bool(options["month"]) != bool(options["team"]):
            raise CommandError("Give a month and --team, or neither.")
        waiting = 0
        for found in self._one(options) if options["team"] else invoicing.close_due(now=timezone.now()):
            if isinstance(found, NotYet):
                waiting += 1
                self.stderr.write(f"not closed: {found}")
                continue
            self.stdout.write(f"{found.name} {found.team_slug} {found.month_name} ${found.due}")
        heads.make_missing()
        if waiting:
            raise CommandError(f"{waiting} could not be closed; they are tried again each hour")

    def _one(self, options: dict[str, Any]) -> list[Any]:
        team = Team.objects.filter(slug=options["team"]).first()
        if team is None:
            raise CommandError(f"there is no team {options['team']}")
        try:
            month = periods.month_named(options["month"], team.time_zone)
            invoice = invoicing.close(team, month, now=timezone.now())
        except BadMonth as error:
            raise CommandError(str(error)) from error
        except NotYet as error:
            return [NotYet(f"{team.slug} {month}: {error}")]
        if invoice is None:
            raise CommandError(f"{team.slug} has nothing to bill in {month}")
        return [invoice]
