from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from billing import chain


class Command(BaseCommand):
    help = (
        "Check an exported month (the detail CSV) offline: no database is asked. Names the first row that was "
        "altered and exits 1; --head is the last digest as the invoice has it."
    )
    requires_system_checks: tuple[str, ...] = ()

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", type=Path)
        parser.add_argument("--head", default="")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            with options["file"].open("rb") as file:
                held, last, altered = chain.check(chain.lines_of(file), head=options["head"].strip().lower())
        except OSError as error:
            raise CommandError(f"{options['file']} can't be read: {error}") from error
        if altered is not None:
            entry = f" (entry {altered.entry})" if altered.entry else ""
            raise CommandError(f"row {altered.row}{entry}: {altered.text}. {held} rows before it hold.")
        self.stdout.write(f"{held} rows are as they were exported. Last digest: {last or 'none'}")
        if not options["head"]:
            self.stdout.write("Compare it with the invoice's: only that shows rows cut off at the end.")
