"""Engines that run and belong to nobody: removed, and reported for those who run the portal."""

import contextlib
import logging
from collections.abc import Collection
from uuid import UUID

from django.utils import timezone

from deployments.backends import backends
from deployments.models import Orphan, Replica

log = logging.getLogger(__name__)


def remove(alias: str, name: str) -> None:
    """Begin to end it. The first time it is written down: what, when, and since when it ran."""
    ran_since = backends[alias].observe(name).started_at
    facts = {"ran_since": ran_since, "belonged_to": _owner(name)}
    orphan, is_new = Orphan.objects.get_or_create(backend=alias, name=name, defaults=facts)
    if is_new:
        log.warning("sweep: removing the orphan engine %s, running since %s %s", name, ran_since, orphan.belonged_to)
    backends[alias].remove(name)


def note_gone(alias: str, *, listed: Collection[str]) -> None:
    """Those that the backend lists no more are gone."""
    here = Orphan.objects.filter(backend=alias, gone_at=None)
    here.exclude(name__in=listed).update(gone_at=timezone.now())


def removed() -> int:
    """How many there have been, ever."""
    return Orphan.objects.count()


def _owner(name: str) -> str:
    with contextlib.suppress(ValueError):
        row = Replica.objects.filter(pk=UUID(name.removeprefix("r-"))).select_related("deployment__team").first()
        return f"{row.deployment.endpoint_model}, whose row had ended" if row else ""
    return ""
