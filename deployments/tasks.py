"""Celery's doorbells into deployments: the sweep is the truth, a message only makes it quick."""

import logging
import threading
from uuid import UUID

from celery import shared_task
from django.db import transaction

from deployments import capacity, pruning, reconcile, tallies

log = logging.getLogger(__name__)

FOLLOW_S = 20.0
SWEEP_EVERY_S = 5


@shared_task(name="deployments.reconcile")
def reconcile_deployment(deployment_id: str) -> None:
    if reconcile.follow(UUID(deployment_id), seconds=FOLLOW_S):
        reconcile_deployment.delay(deployment_id)
    for waiting in capacity.served_after(UUID(deployment_id)):
        reconcile_deployment.delay(str(waiting))


@shared_task(name="deployments.sweep")
def sweep() -> None:
    for deployment_id in reconcile.sweep():
        reconcile_deployment.apply_async([str(deployment_id)], expires=SWEEP_EVERY_S)


@shared_task(name="deployments.forget_old")
def forget_old() -> None:
    """What engines that ended long ago have left, and what was counted before yesterday."""
    pruning.prune()
    tallies.forget_old()


def ring(deployment_id: UUID) -> None:
    """Call a worker once the wish is durable. A broker that is away costs a tick of the sweep, nothing more; and
    nobody's click waits for it, because its client waits and tries again for seconds."""
    transaction.on_commit(threading.Thread(target=_send, args=[deployment_id], name="ring").start)


def _send(deployment_id: UUID) -> None:
    try:
        reconcile_deployment.apply_async([str(deployment_id)], retry=False)
    except Exception as error:
        log.warning("no worker was called for %s (%s); the sweep will see it", deployment_id, error)
