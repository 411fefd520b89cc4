from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from accounts import audit, keyring, keys
from accounts.models import Scope, Team


class Command(BaseCommand):
    help = "Issue an API key for a team. The key alone goes to stdout, this once."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--team", required=True, metavar="SLUG", help="the team that pays for its calls")
        parser.add_argument("--name", required=True, help="what the key is for, as the team will read it")
        parser.add_argument("--tag", default="", help="label of its calls that send no x-modelport-tag")

        parser.add_argument(
            "--scope",
            action="append",
            choices=Scope.values,
            help="what it may be used for; all if none",
        )
        parser.add_argument("--days", type=int, default=0, help="how long it works; for ever if not given")

    def handle(self, *args: Any, **options: Any) -> None:
        team = Team.objects.filter(slug=options["team"]).first()
        if team is None:
            known = ", ".join(Team.objects.order_by("slug").values_list("slug", flat=True)[:20])
            raise CommandError(f"There is no team {options['team']!r}. Teams: {known or 'none yet'}")
        name = options["name"].strip()
        if not 0 < len(name) <= 80:
            raise CommandError("--name takes 1 to 80 characters")
        tag = options["tag"].strip()
        if not keys.is_tag(tag):
            raise CommandError(f"--tag takes at most {keys.LONGEST_TAG} characters that can be printed")
        if options["days"] < 0:
            raise CommandError("--days takes a number from 1 on")
        expires_at = timezone.now() + timedelta(days=options["days"]) if options["days"] else None
        row, text = keys.issue(team, name=name, tag=tag, scopes=options["scope"], expires_at=expires_at)
        audit.record(team, actor="portal", verb="issued a key", subject=row.prefix, after=keyring.described(row))
        self.stdout.write(text)
