"""With no message: what nobody works on is rung for or ended, and what is due by the clock begins."""

import logging
from datetime import datetime, timedelta
from typing import TypeVar

from django.db.models import Q
from django.utils import timezone

from deployments.errors import NotNow
from deployments.lifecycle import SERVING, Status
from deployments.validation import running, wishes, work
from deployments.validation.models import OPEN, Ended, ThroughputRun, ValidationPlan, ValidationRun, Work

log = logging.getLogger(__name__)

MOST_BEGUN = 50
# What was asked by the clock is kept for so long; other reports stay.
KEEP_FOR = timedelta(days=90)
W = TypeVar("W", bound=Work)


def sweep() -> None:
    now = timezone.now()
    for run in _left(ValidationRun, now):
        if why := _hopeless(run, now):
            running.finish(run, ValidationRun.Status.ENDED, why)
        else:
            work.ring(run)
    for measuring in _left(ThroughputRun, now):
        if why := _hopeless(measuring, now):
            work.finish(measuring, ThroughputRun.Status.ENDED, ended=why)
        else:
            work.ring(measuring)
    _begin_due(now)


def forget_old() -> None:
    old = ValidationRun.objects.filter(trigger=ValidationRun.Trigger.SCHEDULE, created_at__lt=timezone.now() - KEEP_FOR)
    old.exclude(status__in=OPEN).delete()


def _left(kind: type[W], now: datetime) -> list[W]:
    """Open, and nobody holds it."""
    free = kind._default_manager.filter(Q(lease_until=None) | Q(lease_until__lt=now), status__in=OPEN)
    return list(free.select_related("deployment__team"))  # type: ignore[arg-type]


def _hopeless(run: Work, now: datetime) -> Ended | None:
    if run.lapses > work.MOST_LAPSES:
        return Ended.WORKER_DIED
    return Ended.TOO_LONG if now > run.deadline_at else None


def _begin_due(now: datetime) -> None:
    """Each once, whoever sweeps: the one who moves the clock on begins it."""
    due = ValidationPlan.objects.filter(next_at__lte=now).exclude(deployment__status=Status.STOPPED)
    due = due.select_related("deployment__team", "prompt_set")
    for plan in due.order_by("next_at")[:MOST_BEGUN]:
        moved = ValidationPlan.objects.filter(pk=plan.pk, next_at=plan.next_at)
        if not moved.update(next_at=wishes.next_after(plan.every)):
            continue
        row = plan.deployment
        if not plan.wakes and row.status not in SERVING:
            ValidationPlan.objects.filter(pk=plan.pk).update(skipped_at=now)
            continue
        try:
            trigger = ValidationRun.Trigger.SCHEDULE
            wishes.validate(row, plan.prompt_set, actor="portal", trigger=trigger, wakes=plan.wakes)
        except NotNow as error:
            log.info("%s is not asked by the clock: %s", row, error)
