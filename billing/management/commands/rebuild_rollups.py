from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from billing import rollups


class Command(BaseCommand):
    help = "Sum the ledger anew and compare with the sums that the pages read. Changes nothing unless --keep is given."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--keep", action="store_true", help="put the new sums in the place of those of before")

    def handle(self, *args: Any, **options: Any) -> None:
        differing = rollups.rebuild(keep=options["keep"])
        for text in differing:
            self.stderr.write(text)
        if not differing:
            self.stdout.write("The sums are those of the ledger.")
        elif options["keep"]:
            self.stdout.write("The sums are made anew.")
        else:
            raise CommandError("The sums are not those of the ledger: run again with --keep.")
