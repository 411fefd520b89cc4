"""Celery's doorbells into imports: the sweep is the truth, a message only makes it quick. And what is forgotten."""

import logging
import threading
from typing import Any
from uuid import UUID

from celery import shared_task
from celery.signals import worker_shutting_down
from django.db import transaction

from catalog import fetching, shelf

log = logging.getLogger(__name__)

SWEEP_EVERY_S = 5


@worker_shutting_down.connect
def _stop_downloads(**_signal: Any) -> None:
    fetching.ending.set()


@shared_task(name="catalog.fetch_weights")
def fetch_weights(weights_id: str) -> None:
    fetching.fetch(UUID(weights_id))


@shared_task(name="catalog.sweep_imports")
def sweep_imports() -> None:
    fetching.give_up_overdue()
    for weights_id in fetching.waiting():
        fetch_weights.apply_async([str(weights_id)], expires=SWEEP_EVERY_S)


@shared_task(name="catalog.forget_weights")
def forget_weights() -> None:
    fetching.forget_old()


@shared_task(name="catalog.forget_changes")
def forget_changes() -> None:
    shelf.forget_old_changes()


def ring(weights_id: UUID) -> None:
    """Call a worker once the wish is durable; a broker that is away costs a tick of the sweep, and no one waits."""
    transaction.on_commit(threading.Thread(target=_send, args=[weights_id], name="ring").start)


def _send(weights_id: UUID) -> None:
    try:
        fetch_weights.apply_async([str(weights_id)], retry=False)
    except Exception as error:
        log.warning("no worker was called for the import %s (%s); the sweep will see it", weights_id, error)
