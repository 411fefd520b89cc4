"""What is kept of engines that have ended, their logs above all, and when it is dropped."""

from collections import Counter
from collections.abc import Mapping
from datetime import datetime, timedelta
from uuid import UUID

from django.conf import settings
from django.utils import timezone

from deployments.backends import backends
from deployments.models import Replica

# A name is never started again while somebody slow may still mean to: nothing younger than this is dropped.
AT_LEAST = timedelta(hours=1)
MOST_AT_ONCE = 1000


def prune() -> int:
    """Drop what is kept of engines that ended more than ENGINE_LOG_DAYS ago, and of each deployment all but the last
    ENGINE_LOGS_KEPT. What runs, or has a live row, is never touched. How many were dropped."""
    dropped = 0
    for alias in settings.DEPLOYMENT_BACKENDS:
        kept = backends[alias].kept()
        for name in _outdated(kept, now=timezone.now())[:MOST_AT_ONCE]:
            backends[alias].forget(name)
            dropped += 1
    return dropped


def _outdated(kept: Mapping[str, datetime], *, now: datetime) -> list[str]:
    ids = {name: UUID(name.removeprefix("r-")) for name in kept if _is_replica(name)}
    rows = {row.pk: row for row in Replica.objects.filter(pk__in=ids.values()).only("deployment", "exited_at")}
    ended: list[tuple[datetime, str]] = []
    outdated = []
    oldest = now - timedelta(days=settings.ENGINE_LOG_DAYS)
    for name, written_at in kept.items():
        row = rows.get(ids[name]) if name in ids else None
        if row is None:
            outdated += [name] if written_at < min(oldest, now - AT_LEAST) else []
        elif row.exited_at is not None:
            ended.append((row.exited_at, name))
    seen: Counter[UUID] = Counter()
    for exited_at, name in sorted(ended, reverse=True):
        deployment_id = rows[ids[name]].deployment_id
        seen[deployment_id] += 1
        is_spare = seen[deployment_id] > settings.ENGINE_LOGS_KEPT or exited_at < oldest
        if is_spare and exited_at < now - AT_LEAST:
            outdated.append(name)
    return outdated


def _is_replica(name: str) -> bool:
    hexed = name.removeprefix("r-")
    return len(hexed) == 32 and all(letter in "0123456789abcdef" for letter in hexed)
