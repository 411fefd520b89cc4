"""Holding a piece of work: one worker at a time, each for a lease that it renews, and an end that is said once."""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar
from uuid import UUID, uuid4

from celery import current_app
from django.db import transaction
from django.db.models import F, Q
from django.db.models.functions import Coalesce
from django.utils import timezone

from deployments.validation.models import RUNNING, Ended, ThroughputRun, ValidationRun, Work

log = logging.getLogger(__name__)

LEASE = timedelta(seconds=90)
# So many workers may die over it; then it is the work.
MOST_LAPSES = 2
# Of each kind at once, whatever the number of workers: others have to go on being served.
MOST_AT_ONCE = 3

W = TypeVar("W", ValidationRun, ThroughputRun)
TASKS = {ValidationRun: "deployments.validate", ThroughputRun: "deployments.measure"}


class Broken(Exception):
    """The work can't go on. `why` is what its report says, `detail` the evidence."""

    def __init__(self, why: Ended, detail: str = "") -> None:
        super().__init__(f"{why.label}. {detail}")
        self.why = why
        self.detail = detail


class Lost(Exception):
    """Somebody else holds it now, or it is over: this worker has nothing more to say."""


@dataclass(frozen=True, slots=True)
class Hold:
    """A claim of one worker on one piece of work."""

    kind: type[Work]
    pk: UUID
    owner: UUID

    def renew(self) -> None:
        """It is alive. Raises Lost."""
        if not self._mine(lease_until=timezone.now() + LEASE):
            raise Lost

    def _mine(self, **fields: object) -> int:
        return self.kind._default_manager.filter(pk=self.pk, owner=self.owner, status=RUNNING).update(**fields)

    def let_go(self) -> None:
        self._mine(owner=None, lease_until=None)


@contextmanager
def held(kind: type[W], pk: UUID, *, in_a_hurry: bool = False) -> Iterator[tuple[W, Hold] | None]:
    """The work, if it is to be done and nobody else does it; None if not, or if enough of its kind is being done.

    Who `in_a_hurry` is does not count. Leaving lets it go, unless it is over.
    """
    hold = _claimed(kind, pk, in_a_hurry=in_a_hurry)
    if hold is None:
        yield None
        return
    try:
        yield kind.objects.select_related("team", "deployment__team").get(pk=pk), hold  # type: ignore[misc]
    finally:
        hold.let_go()


def finish(work: Work, status: str, *, ended: Ended = Ended.NONE, detail: str = "") -> bool:
    """It is over; True for the one who says so first."""
    fields = {"status": status, "ended": ended, "detail": detail, "finished_at": timezone.now()}
    done = type(work).objects.open().filter(pk=work.pk).update(**fields, owner=None, lease_until=None)
    for name, value in fields.items():
        setattr(work, name, value)
    return bool(done)


def ring(work: Work) -> None:
    """Call a worker once the row is durable; the sweep looks for those whom nobody heard of."""
    name = TASKS[type(work)]
    transaction.on_commit(threading.Thread(target=_send, args=[name, work.pk], name="ring").start)


def _send(name: str, pk: UUID) -> None:
    try:
        current_app.send_task(name, args=[str(pk)], retry=False)
    except Exception as error:
        log.warning("no worker was called for %s %s (%s); the sweep will see it", name, pk, error)


def _claimed(kind: type[Work], pk: UUID, *, in_a_hurry: bool) -> Hold | None:
    now, owner = timezone.now(), uuid4()
    rows = kind.objects.open()
    if not in_a_hurry and rows.filter(lease_until__gte=now).exclude(pk=pk).count() >= MOST_AT_ONCE:
        return None
    free = rows.filter(Q(lease_until=None) | Q(lease_until__lt=now), pk=pk)
    lapsed = free.filter(lease_until__isnull=False).update(lapses=F("lapses") + 1, lease_until=None, owner=None)
    if lapsed:
        log.warning("%s %s: its worker died", kind.__name__, pk)
    taken = free.filter(lease_until=None, lapses__lte=MOST_LAPSES).update(
        status=RUNNING, owner=owner, lease_until=now + LEASE, started_at=Coalesce(F("started_at"), now)
    )
    return Hold(kind, pk, owner) if taken else None
