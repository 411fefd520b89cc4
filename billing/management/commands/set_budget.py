from decimal import Decimal, InvalidOperation
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from accounts import audit
from accounts.models import Team
from billing import budgets
from billing.models import Budget


class Command(BaseCommand):
    help = "Set a team's hard monthly cap in USD over tokens and compute, or 'none' for no cap."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--team", required=True)
        parser.add_argument("--usd", required=True)

    def handle(self, *args: Any, **options: Any) -> None:
        team = Team.objects.filter(slug=options["team"]).first()
        if team is None:
            raise CommandError(f"No team {options['team']}")
        rows = Budget.objects.filter(team=team, scope=Budget.Scope.TEAM, period=Budget.Period.MONTHLY)
        before = rows.values_list("usd", flat=True).first()
        budgets.set_monthly(team, None if options["usd"] == "none" else _amount(options["usd"]))
        after = rows.values_list("usd", flat=True).first()
        audit.record(
            team, actor="manage.py", verb="set the budget to", subject=options["usd"], before={"usd": before},
            after={"usd": after},
        )  # fmt: skip
        self.stdout.write(f"{team.slug}: {options['usd']}")


def _amount(text: str) -> Decimal:
    try:
        amount = Decimal(text)
    except InvalidOperation as error:
        raise CommandError(f"--usd {text!r}: write a number such as 50 or 12.50") from error
    if not amount.is_finite() or amount <= 0 or amount != amount.quantize(Decimal("0.01")):
        raise CommandError(f"--usd {text!r}: more than 0, in whole cents")
    return amount
