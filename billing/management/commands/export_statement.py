import sys
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from accounts.models import Team
from billing import coverage, periods, scope
from billing.errors import BadMonth, NoParquet
from billing.statements import FORMATS


class Command(BaseCommand):
    help = "Write a team's month as a file: the bytes that the page and the API give."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("month", help="2026-11")
        parser.add_argument("--team", required=True, help="The team's slug.")
        parser.add_argument("--format", choices=list(FORMATS), default="plain")
        parser.add_argument("--out", help="Where to; standard output if absent.")

    def handle(self, *args: Any, **options: Any) -> None:
        team = Team.objects.filter(slug=options["team"]).first()
        if team is None:
            raise CommandError(f"there is no team {options['team']}")
        try:
            found = scope.of(team, periods.month_named(options["month"], team.time_zone))
            pieces = FORMATS[options["format"]].write(found)
            self.stderr.write(coverage.of(found).words)
        except (BadMonth, NoParquet) as error:
            raise CommandError(str(error)) from error
        if options["out"]:
            with Path(options["out"]).open("wb") as file:
                file.writelines(pieces)
            return
        sys.stdout.buffer.writelines(pieces)
        sys.stdout.buffer.flush()
