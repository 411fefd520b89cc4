from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from accounts import audit, keyring, keys
from accounts.models import ApiKey


class Command(BaseCommand):
    help = "Revoke an API key, known by its prefix (mp_ and 8 characters). It opens nothing within 5 s."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("prefix", help="the key's first 11 characters, as the keys page lists them")

    def handle(self, *args: Any, **options: Any) -> None:
        key = ApiKey.objects.filter(prefix=options["prefix"][:11]).select_related("team").first()
        if key is None:
            raise CommandError(f"No key begins with {options['prefix'][:11]!r}")
        keys.revoke(key)
        audit.record(key.team, actor="portal", verb="revoked a key", subject=key.prefix, before=keyring.described(key))
        self.stdout.write(f"Revoked {key.name} ({key.prefix}) of team {key.team.slug}")
