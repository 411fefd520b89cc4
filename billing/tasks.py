"""Celery's doorbells into billing."""

from celery import shared_task
from django.utils import timezone

from billing import chaining, metering


@shared_task(name="billing.sweep")
def sweep() -> None:
    while metering.sweep(now=timezone.now()) == metering.SWEEP_BATCH:
        pass


@shared_task(name="billing.seal")
def seal() -> None:
    chaining.seal()
