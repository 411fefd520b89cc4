"""Looking: what the rows, the backends and the gateways say now, as one View a deployment."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from decimal import Decimal
from uuid import UUID

from django.conf import settings
from django.db import connection
from django.db.models import Max, QuerySet, Subquery
from django.db.models.functions import Coalesce
from django.utils import timezone

from billing import budgets, rating
from billing.budgets import Ask
from billing.meters import COMPUTE_SECONDS
from deployments import capacity, causes, loads, logs
from deployments.backends import Observation, Seen, backends
from deployments.causes import Cause
from deployments.lifecycle import Status
from deployments.loads import Loads
from deployments.models import Deployment, Replica
from deployments.planning import CRASH_WINDOW, View

EVIDENCE_LINES = 12


def look(row: Deployment, *, seen: Mapping[str, Observation] | None = None) -> View:
    """One deployment. `seen` is what the backend has just said, if it was asked already."""
    backend = backends[row.backend]
    replicas = tuple(_live(deployment=row))
    for replica in replicas:
        replica.deployment = row
    known = seen or {}
    now_seen = {one.name: known.get(one.name) or backend.observe(one.name) for one in replicas}
    ending = [one for one in replicas if one.remove_asked_at and not now_seen[one.name].alive]
    ended = [one for one in replicas if not one.remove_asked_at and now_seen[one.name].seen == Seen.EXITED]
    said = loads.now() if any(replica.ready_at for replica in replicas) else Loads()
    return View(
        row,
        replicas,
        now_seen,
        timezone.now(),
        calls=said.calls,
        waiting=said.waiting[str(row.pk)],
        routed=said.routed,
        listed=frozenset(backend.running()) if ending else None,
        causes={one.name: _cause(row, one, now_seen[one.name]) for one in ended},
        crashes=_crashes(row) if ended or row.status in {Status.STARTING, Status.WAKING} else 0,
        may_spend=not _spent({row: replicas}),
    )


def look_at_all() -> tuple[list[View], dict[str, set[str]]]:
    """Every deployment that is not quiet, and what each backend lists; in a number of queries that does not grow."""
    rows = {row.pk: row for row in rows_to_look_at(Deployment.objects.astir())}
    replicas = list(_live().select_related("deployment__team", "deployment__hardware", "version__hardware"))
    by_row: dict[UUID, list[Replica]] = defaultdict(list)
    for replica in replicas:
        row = rows.setdefault(replica.deployment_id, replica.deployment)
        replica.deployment = row
        by_row[row.pk].append(replica)
    listed = {alias: set(backends[alias].running()) for alias in settings.DEPLOYMENT_BACKENDS}
    seen = _observed(replicas)
    said, now = loads.now(), timezone.now()
    room = _room(rows.values())
    spent = _spent({row: tuple(by_row[row.pk]) for row in rows.values()})
    views = [
        View(
            row,
            tuple(by_row[row.pk]),
            seen,
            now,
            calls=said.calls,
            waiting=said.waiting[str(row.pk)],
            routed=said.routed,
            listed=frozenset(listed.get(row.backend, ())),
            room=room.get(row.pk),
            may_spend=row.pk not in spent,
        )
        for row in rows.values()
    ]
    return views, listed


def rows_to_look_at(rows: QuerySet[Deployment]) -> QuerySet[Deployment]:
    return rows.select_related("team", "model", "hardware", "weights", "version", "next_version")


def followed() -> set[int]:
    """The numbers of the deployments that somebody works on now."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT classid::bigint << 32 | objid::bigint FROM pg_locks WHERE locktype = 'advisory' AND granted"
            " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
        )
        return {row[0] for row in cursor.fetchall()}


def evidence(row: Deployment, replica: Replica) -> str:
    """Its last lines, as people may see them."""
    return "\n".join(logs.tail(row, replica, lines=EVIDENCE_LINES))


def _live(**where: object) -> QuerySet[Replica]:
    live = Replica.objects.filter(exited_at=None, **where)
    return live.select_related("version__hardware", "version__weights").order_by("ordinal")


def _spent(rows: Mapping[Deployment, tuple[Replica, ...]]) -> set[UUID]:
    """Those that a hard budget forbids to go on: it would be passed within the time that it takes to sleep."""
    asks = {row.pk: Ask(row.team_id, row.name, _soon(replicas)) for row, replicas in rows.items()}
    tight = budgets.refused(set(asks.values()), now=timezone.now())
    return {pk for pk, ask in asks.items() if ask in tight}


def _soon(replicas: Iterable[Replica]) -> Decimal:
    """What the replicas that run cost in the next AHEAD, by the prices of their start."""
    seconds = Decimal(int(budgets.AHEAD.total_seconds()))
    books = [{name: Decimal(price) for name, price in one.prices.items()} for one in replicas if one.prices]
    return rating.add(rating.total(rating.rate({COMPUTE_SECONDS.name: seconds}, book)) for book in books)


def _observed(replicas: Iterable[Replica]) -> dict[str, Observation]:
    names: dict[str, list[str]] = defaultdict(list)
    for replica in replicas:
        names[replica.deployment.backend].append(replica.name)
    seen: dict[str, Observation] = {}
    for alias, asked in names.items():
        seen |= backends[alias].observe_all(asked)
    return seen


def _room(rows: Iterable[Deployment]) -> dict[UUID, int]:
    """For each whose hardware has a bound: how many more replicas it may have, after those who came before it."""
    free = capacity.room()
    bound = [row for row in rows if row.hardware_id in free]
    bound.sort(key=lambda row: (row.queued_at is None, row.queued_at or row.created_at, row.pk))
    found: dict[UUID, int] = {}
    for row in bound:
        found[row.pk] = max(0, free[row.hardware_id])
        if row.queued_at is not None:
            free[row.hardware_id] -= 1
    return found


def _cause(row: Deployment, replica: Replica, seen: Observation) -> Cause:
    return causes.of_exit(seen.exit_code, evidence(row, replica).splitlines())


def _crashes(row: Deployment) -> int:
    """In the last minutes, and since somebody last asked for it: who starts it again gives it all its tries again."""
    recent = row.replicas.filter(crashed=True, exited_at__gte=timezone.now() - CRASH_WINDOW)
    asked_at = (
        row.events.filter(after=Status.PENDING).order_by().values("deployment").annotate(at=Max("at")).values("at")
    )
    return recent.filter(created_at__gte=Coalesce(Subquery(asked_at), row.created_at)).count()
