from typing import Any

from django.apps import AppConfig
from django.db.models.signals import post_migrate
from django.utils import timezone


class BillingConfig(AppConfig):
    name = "billing"

    def ready(self) -> None:
        post_migrate.connect(_make_months, sender=self)


def _make_months(**_: Any) -> None:
    from billing import partitions

    partitions.ensure(now=timezone.now())
