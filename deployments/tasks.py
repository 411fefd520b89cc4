"""Celery's doorbells into deployments: the sweep is the truth, a message only makes it quick."""

from uuid import UUID

from celery import shared_task

from deployments import reconcile

FOLLOW_S = 20.0


@shared_task(name="deployments.reconcile")
def reconcile_deployment(deployment_id: str) -> None:
    if reconcile.follow(UUID(deployment_id), seconds=FOLLOW_S):
        reconcile_deployment.delay(deployment_id)


@shared_task(name="deployments.sweep")
def sweep() -> None:
    reconcile.sweep()
