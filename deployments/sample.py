"""Deployments of the sample team as they would have been left: at rest, with the engines that are said to have run."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID, uuid5

from django.db import transaction

from accounts.models import Team
from catalog.models import Hardware, Model
from deployments import acting, operations
from deployments.errors import DeploymentError
from deployments.lifecycle import QUIET, Reason, Status
from deployments.models import Deployment, DeploymentEvent, Replica


@dataclass(frozen=True, slots=True)
class Past:
    """An engine that is over. Times as Replica has them."""

    started_at: datetime
    ready_at: datetime
    exited_at: datetime

    def id_in(self, team: Team, name: str) -> UUID:
        return uuid5(team.pk, f"{name}/{self.started_at.isoformat()}")


def left(
    team: Team,
    *,
    model: Model,
    hardware: Hardware,
    name: str,
    born: datetime,
    since: datetime,
    status: Status,
    reason: Reason,
    detail: str = "",
    engines: Iterable[Past] = (),
) -> Deployment | None:
    """A deployment in a state in which nothing runs or is started; None where it could not be made here at all."""
    if not team.is_sample or status not in QUIET:
        raise ValueError("only a sample team's deployments are written so, and only at rest")
    try:
        wish = operations.check(team, model=model, hardware=hardware, name=name, options={}, env={}, secrets={})
    except DeploymentError:
        return None
    with transaction.atomic():
        row = Deployment.objects.create(
            team=team, name=name, model=model, weights=wish.what.loaded.chosen, hardware=hardware,
            engine=wish.what.loaded.engine_name, backend=hardware.backend, options=wish.what.options,
            created_by="sample data", status=status, reason=reason, detail=detail, status_since=since,
            **wish.numbers,
        )  # fmt: skip
        acting.record_birth(row, wish.what, actor="sample data")
        row.events.update(at=born)
        past = list(engines)
        Replica.objects.bulk_create(_replica(row, one) for one in past)
        DeploymentEvent.objects.bulk_create(_events(row, past, since=since))
        last = max((one.exited_at for one in past), default=None)
        Deployment.objects.filter(pk=row.pk).update(created_at=born, last_call_at=last)
    return row


def _events(row: Deployment, past: list[Past], *, since: datetime) -> list[DeploymentEvent]:
    """How the last of its engines came and went; of one that had none, how it ended."""
    moves = [(Status.PENDING, Status(row.status), Reason(row.reason), since)]
    if past:
        last = max(past, key=lambda one: one.started_at)
        moves = [
            (Status.ASLEEP, Status.WAKING, Reason.CALLED, last.started_at),
            (Status.WAKING, Status.READY, Reason.ENGINE_HEALTHY, last.ready_at),
            (Status.READY, Status(row.status), Reason(row.reason), since),
        ]
    return [
        DeploymentEvent(deployment=row, before=before, after=after, reason=reason, at=at)
        for before, after, reason, at in moves
    ]


def _replica(row: Deployment, one: Past) -> Replica:
    return Replica(
        id=one.id_in(row.team, row.name), deployment=row, version=row.version, created_at=one.started_at,
        started_at=one.started_at, ready_at=one.ready_at, seen_at=one.exited_at, exited_at=one.exited_at,
        exit_code=0, remove_asked_at=one.exited_at, billed_until=one.exited_at,
    )  # fmt: skip
