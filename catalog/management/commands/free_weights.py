"""Take weights that nothing uses off the disk; the bucket keeps them, and a deployment brings them back."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from catalog import keeping, removing
from catalog.errors import BucketAway
from catalog.lifecycle import Status
from catalog.models import Weights


class Command(BaseCommand):
    help = __doc__

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--dry-run", action="store_true", help="Say what would go, and free nothing.")

    def handle(self, *args: Any, **options: Any) -> None:
        gone = 0
        rows = Weights.objects.filter(status=Status.READY).exclude(source_kind=Weights.SourceKind.STARTER)
        for weights in rows.select_related("model"):
            if removing.users_of(weights) or _may_be_rolled_back_to(weights) or keeping.is_away(weights):
                continue
            if options["dry_run"]:
                self.stdout.write(f"{weights}: {weights.size_bytes:,} bytes")
                continue
            try:
                freed = keeping.free(weights)
            except BucketAway as error:
                raise CommandError(str(error)) from error
            gone += freed
            self.stdout.write(f"{weights}: {freed:,} bytes")
        self.stdout.write(f"{gone:,} bytes are free now; the bucket keeps them.")


def _may_be_rolled_back_to(weights: Weights) -> bool:
    """A version of a deployment that is not stopped has them: one click back must find them on the disk."""
    live = weights.model.deployments.exclude(status="stopped")
    return live.filter(versions__weights=weights).exists()
