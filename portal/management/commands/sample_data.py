from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from accounts import sample
from accounts.demo import EMAIL
from accounts.errors import NameTaken
from accounts.models import Role, User
from billing.errors import NoPrice
from deployments import operations
from deployments.models import Deployment
from portal.sample.filling import fill


class Command(BaseCommand):
    help = "Fill a team named Sample with 90 days of made-up usage, so that pages and charts can be looked at."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--for", dest="viewers", action="append", metavar="EMAIL",
                            help="who may look at it; left out: the demo user, if there is one")  # fmt: skip
        parser.add_argument("--role", choices=Role.values, default=Role.VIEWER.value, help="as what (viewer)")
        parser.add_argument("--days", type=int, default=90)
        parser.add_argument("--seed", type=int, default=7, help="the same seed makes the same numbers")
        parser.add_argument("--archive", action="store_true", help="put the team away, so that another can be made")
        parser.add_argument("--remove", action="store_true", help="not possible; says why")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["remove"]:
            raise CommandError(
                "The ledger is append-only: PostgreSQL refuses to remove rows, sample or not. Use --archive: it takes "
                "the team out of everybody's sight and frees its name."
            )
        if not 1 <= options["days"] <= 366:
            raise CommandError("--days takes 1 to 366")
        try:
            self._archive() if options["archive"] else self._fill(options)
        except NameTaken as error:
            raise CommandError(str(error)) from error
        except NoPrice as error:
            raise CommandError("No hosted model has a price here: run load_catalog first.") from error

    def _fill(self, options: dict[str, Any]) -> None:
        viewers = self._viewers(options["viewers"])
        filled = fill(until=timezone.now(), days=options["days"], seed=options["seed"])
        team = sample.find()
        assert team is not None  # noqa: S101 - it was just made, or was there
        for user in viewers:
            sample.let_in(team, user, role=options["role"])
        if filled is None:
            self.stdout.write("The sample team is there already: nothing was added.")
            return
        self.stdout.write(
            f"{filled.team.slug}: {filled.calls} calls and {filled.stretches} stretches of compute, "
            f"${filled.cost:,.2f}. {len(viewers)} may look at it, as {options['role']}."
        )

    def _viewers(self, emails: list[str] | None) -> list[User]:
        found = list(User.objects.filter(email__in=emails or [EMAIL]))
        if emails and (missing := set(emails) - {user.email for user in found}):
            raise CommandError(f"Nobody here is called {sorted(missing)[0]}")
        return found

    def _archive(self) -> None:
        team = sample.find()
        if team is None:
            raise CommandError("There is no sample team.")
        for row in Deployment.objects.unsettled().of(team):
            operations.stop(row, actor="portal")
        sample.archive(team)
        self.stdout.write("Archived. Its ledger stays, as every ledger does; another sample team can be made now.")
