from typing import Any

from django.core.management.base import BaseCommand, CommandError

from catalog import starter_catalog
from catalog.errors import CatalogError


class Command(BaseCommand):
    help = "Load the starter catalog; what is there already stays as it is."

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            self.stdout.write(f"{starter_catalog.load()} models")
        except CatalogError as error:
            raise CommandError(str(error)) from error
