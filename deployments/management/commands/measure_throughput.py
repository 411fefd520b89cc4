"""manage.py measure_throughput --deployment TEAM/NAME: how fast its engine reads and writes, kept in the catalog."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from catalog import measurements
from deployments.errors import NotNow
from deployments.models import Deployment
from deployments.validation import measuring, wishes
from deployments.validation.models import ThroughputRun


class Command(BaseCommand):
    help = "Measure a deployment's engine for 1, 4 and 16 callers, and keep the figures. The engine is woken for it."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--deployment", required=True, metavar="TEAM/NAME")

    def handle(self, *args: Any, deployment: str, **options: Any) -> None:
        slug, _, name = deployment.partition("/")
        row = Deployment.objects.unsettled().filter(team__slug=slug, name=name).select_related("team").first()
        if row is None:
            raise CommandError(f"There is no deployment {deployment}. Its page shows its name under Endpoint.")
        try:
            run = wishes.begin_measuring(row, actor="portal")
        except NotNow as error:
            raise CommandError(str(error)) from error
        measuring.carry_out(run.pk)
        run = ThroughputRun.objects.get(pk=run.pk)
        if run.status != ThroughputRun.Status.DONE:
            raise CommandError(f"It {run.status_text}. {run.get_ended_display()}. {run.detail}".strip())
        self.stdout.write(f"{'callers':>7} {'first token ms':>15} {'prefill tokens/s':>17} {'decode tokens/s':>16}")
        for one in measurements.of_runs([run.pk])[run.pk].rows:
            prefill = "-" if one.prefill_tokens_per_s is None else f"{one.prefill_tokens_per_s:.0f}"
            self.stdout.write(
                f"{one.callers:>7} {one.first_token_ms:>15.0f} {prefill:>17} {one.decode_tokens_per_s:>16.1f}"
            )
