"""Celery's doorbells into validations and measurements."""

from uuid import UUID

from celery import shared_task

from deployments.validation import measuring, running, sweeping
from deployments.validation.models import ValidationRun
from deployments.validation.work import ring

# A worker gives other messages a turn after so long; the broker would deliver one again after ten minutes.
TURN_S = 60.0


@shared_task(name="deployments.validate")
def validate(run_id: str) -> None:
    if running.carry_on(UUID(run_id), seconds=TURN_S) and (run := ValidationRun.objects.filter(pk=run_id).first()):
        ring(run)


@shared_task(name="deployments.measure")
def measure(run_id: str) -> None:
    measuring.carry_out(UUID(run_id))


@shared_task(name="deployments.sweep_validations")
def sweep_validations() -> None:
    sweeping.sweep()


@shared_task(name="deployments.forget_validations")
def forget_validations() -> None:
    sweeping.forget_old()
