from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from billing import money, reconciliation
from billing.errors import BadFile


class Command(BaseCommand):
    help = "Compare a provider's usage file with the ledger, by model and UTC day; exit 1 where they differ."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file")
        parser.add_argument("--name", action="append", default=[], metavar="THEIRS=OURS", help="A model's other name.")

    def handle(self, *args: Any, **options: Any) -> None:
        names = dict(text.split("=", 1) for text in options["name"] if "=" in text)
        path = Path(options["file"])
        try:
            source = reconciliation.read_in(path.read_bytes(), filename=path.name, actor="manage.py", names=names)
        except (BadFile, OSError) as error:
            raise CommandError(f"{path}: {error}") from error
        found = reconciliation.report(source)
        for drift in found.apart:
            ours, theirs = ("none" if side is None else money.quantity(side) for side in (drift.ours, drift.theirs))
            self.stdout.write(f"{drift.day} {drift.model} {drift.meter or 'all'}: ledger {ours}, provider {theirs}")
        for one in found.unsure:
            self.stdout.write(f"{one.day} {one.source}: {one.events} events, {one.what}: {one.reason}")
        for model in found.unknown:
            self.stdout.write(f"only the provider knows {model}")
        if found.coverage is not None:
            self.stdout.write(f"coverage: {found.coverage} % of what the provider says was used is in the ledger")
        self.stdout.write(f"measured: {found.measured} % of {found.events} hosted events")
        if found.apart:
            raise CommandError(f"{len(found.apart)} of {len(found.drifts)} rows differ")
