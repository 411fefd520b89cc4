import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from accounts import audit, sealing
from catalog.models import Provider


class Command(BaseCommand):
    help = "Read a provider's API key from standard input and keep it sealed. An empty input removes the key."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("provider")

    def handle(self, *args: Any, **options: Any) -> None:
        provider = Provider.objects.filter(slug=options["provider"]).first()
        if provider is None:
            known = ", ".join(Provider.objects.order_by("slug").values_list("slug", flat=True))
            raise CommandError(f"No provider {options['provider']}; there are {known}")
        before = bool(provider.sealed_key)
        provider.sealed_key = sealing.seal(sys.stdin.read().strip())
        provider.save(update_fields=["sealed_key"])
        audit.record(
            None, actor="manage.py", verb="set the provider key of", subject=provider.slug,
            before={"has a key": before}, after={"has a key": bool(provider.sealed_key)},
        )  # fmt: skip
        self.stderr.write(f"{provider.name}: {'key set' if provider.sealed_key else 'key removed'}")
