"""The database made ready by one process, safe to run at every start.

It tells its steps on stdout, one JSON object a line: {"step": text} or {"demo": {email, password, key}}.
"""

import json
import sys
from dataclasses import asdict
from typing import Any

from django.core.cache import cache
from django.core.management import call_command
from django.core.management.base import BaseCommand

from accounts.demo import make_demo
from deployments.operations import host_platform_models
from portal.tasks import HEARTBEAT


class Command(BaseCommand):
    help = "Migrate, load the catalog, make the demo team, host the platform's own models. scripts/up runs it."
    requires_system_checks = []

    def handle(self, *args: Any, **options: Any) -> None:
        cache.delete(HEARTBEAT)  # an earlier run's worker says nothing about this one's
        self._tell(step="Migrating the database")
        call_command("migrate", interactive=False, skip_checks=True, stdout=sys.stderr)
        self._tell(step="Loading the catalog")
        call_command("load_catalog", stdout=sys.stderr)
        if demo := make_demo():
            self._tell(demo=asdict(demo))
        host_platform_models()

    def _tell(self, **said: object) -> None:
        self.stdout.write(json.dumps(said))
        self.stdout.flush()
