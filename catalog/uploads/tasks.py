"""Celery's doorbells into uploads: the sweep is the truth, a message only makes it quick."""

import logging
import threading
from uuid import UUID

from celery import shared_task
from django.db import transaction

from catalog.uploads import drafts, verifying

log = logging.getLogger(__name__)

SWEEP_EVERY_S = 15


@shared_task(name="catalog.verify_upload")
def verify_upload(draft_id: str) -> None:
    verifying.verify(UUID(draft_id))


@shared_task(name="catalog.sweep_uploads")
def sweep_uploads() -> None:
    for draft_id in drafts.waiting():
        verify_upload.apply_async([str(draft_id)], expires=SWEEP_EVERY_S)


@shared_task(name="catalog.forget_uploads")
def forget_uploads() -> None:
    drafts.forget_old()


def ring(draft_id: UUID) -> None:
    """Call a worker once the wish is durable; a broker that is away costs a tick of the sweep, and no one waits."""
    transaction.on_commit(threading.Thread(target=_send, args=[draft_id], name="ring").start)


def _send(draft_id: UUID) -> None:
    try:
        verify_upload.apply_async([str(draft_id)], retry=False)
    except Exception as error:
        log.warning("no worker was called for the upload %s (%s); the sweep will see it", draft_id, error)
