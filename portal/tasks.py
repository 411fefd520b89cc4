"""The worker's sign of life, which /readyz looks for."""

import time
from typing import Any

from celery import shared_task
from celery.signals import worker_ready
from django.core.cache import cache

HEARTBEAT = "portal.heartbeat"
FRESH_S = 20


@shared_task(name="portal.heartbeat")
def heartbeat() -> None:
    """Say that a worker consumes from the broker; believed for FRESH_S."""
    cache.set(HEARTBEAT, time.time(), timeout=FRESH_S)


@worker_ready.connect
def _beat_at_once(**_signal: Any) -> None:
    heartbeat.delay()
