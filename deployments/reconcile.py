"""Look, plan, act: observed -> wished. Safe to run twice and at once; a lost message costs one tick of `sweep`."""

import contextlib
import logging
import time
from collections.abc import Callable, Iterator
from uuid import UUID

from django.db import OperationalError, connection
from django.utils import timezone
from psycopg.errors import LockNotAvailable

from deployments import acting, loads, looking, news, orphans, uptime
from deployments.backends import backends
from deployments.errors import IllegalTransition
from deployments.models import Deployment, Replica
from deployments.planning import CRASHES_ALLOWED, View, is_in_motion, plan

__all__ = ["CRASHES_ALLOWED", "alone", "follow", "step", "sweep"]

log = logging.getLogger(__name__)

# How often an engine that starts is asked: a fiftieth of the time that it has taken so far, within these bounds.
PART_OF_WAIT, SHORTEST_PAUSE_S, LONGEST_PAUSE_S = 1 / 50, 0.005, 0.5
# How long the rows are not read again while nothing is told and the backend says the same.
REREAD_S = 0.5
ALONE_WITHIN_MS = 1000


def follow(deployment_id: UUID, *, seconds: float) -> bool:
    """Step until it is settled for now, or `seconds` are over. True if it is still in motion and nobody follows it.

    One follower at a time: the others leave it to the first, which reads every wish anew.
    """
    end = time.monotonic() + seconds
    with alone(deployment_id, within_ms=ALONE_WITHIN_MS) as mine:
        if not mine:
            return False
        with news.listening() as wait:
            while deployment := _unsettled(deployment_id):
                view, changed = _step(deployment)
                if changed:
                    continue
                if not is_in_motion(view):
                    return False
                if time.monotonic() > end:
                    return True
                _until_something_changes(view, wait)
    return False


def step(deployment: Deployment) -> None:
    """Look once and do what is to be done. Somebody else's newer truth is left alone."""
    _step(deployment)


def sweep() -> list[UUID]:
    """The truth with no message: all that runs or should run is looked at once, as a set; only what differs gets a
    step. What runs and belongs to nobody is removed.

    Returns those still in motion that nobody follows: each deserves a follower.
    """
    views, listed = looking.look_at_all()
    _note_all(views)
    followed = looking.followed()
    unfollowed = []
    for view in views:
        if _number(view.row.pk) in followed:
            continue
        moving = _step_alone(view.row.pk) if plan(view) else is_in_motion(view)
        unfollowed += [view.row.pk] if moving else []
    known = {replica.name for view in views for replica in view.replicas}
    for alias, names in listed.items():
        _remove_orphans(alias, names - known)
        orphans.note_gone(alias, listed=names)
    loads.forget_old()
    return unfollowed


@contextlib.contextmanager
def alone(deployment_id: UUID, *, within_ms: int = 0) -> Iterator[bool]:
    """True if nobody else works on this deployment, now or within that time. Postgres forgets the claim when the
    worker dies."""
    number = _number(deployment_id)
    mine = _try_lock(number) or (within_ms > 0 and _wait_for_lock(number, within_ms))
    try:
        yield mine
    finally:
        if mine:
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_advisory_unlock(%s)", [number])


def _number(deployment_id: UUID) -> int:
    return int.from_bytes(deployment_id.bytes[:8], "big", signed=True)


def _try_lock(number: int) -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_lock(%s)", [number])
        return bool(cursor.fetchone()[0])


def _wait_for_lock(number: int, within_ms: int) -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT set_config('lock_timeout', %s, false)", [f"{within_ms}ms"])
        try:
            cursor.execute("SELECT pg_advisory_lock(%s)", [number])
        except OperationalError as error:
            if not isinstance(error.__cause__, LockNotAvailable):
                raise
            return False
        finally:
            if connection.is_usable():
                cursor.execute("SELECT set_config('lock_timeout', '0', false)")
    return True


def _unsettled(deployment_id: UUID) -> Deployment | None:
    return looking.rows_to_look_at(Deployment.objects.unsettled()).filter(pk=deployment_id).first()


def _step(deployment: Deployment) -> tuple[View, bool]:
    """What was seen, and whether anything was done that has to be looked at again at once."""
    view = looking.look(deployment)
    uptime.note_all((replica, view.of(replica)) for replica in view.replicas)
    try:
        return view, acting.carry_out(plan(view), view)
    except IllegalTransition:
        deployment.refresh_from_db()
        return view, True


def _step_alone(deployment_id: UUID) -> bool:
    """One step; True if it is in motion afterwards."""
    try:
        with alone(deployment_id) as mine:
            if not mine or not (deployment := _unsettled(deployment_id)):
                return False
            _step(deployment)
            return is_in_motion(looking.look(deployment))
    except Exception:  # one broken deployment must not keep the others waiting
        log.exception("sweep: %s", deployment_id)
        return False


def _until_something_changes(view: View, wait: Callable[[float], bool]) -> None:
    """Returns when something was told, when the backend says something else than before, or after REREAD_S."""
    backend = backends[view.row.backend]
    until = time.monotonic() + REREAD_S
    ending = any(replica.remove_asked_at and not view.of(replica).alive for replica in view.replicas)
    while (now := time.monotonic()) < until:
        if wait(min(_pause_s(view), until - now)) or ending:
            return
        if any(backend.observe(replica.name).seen != view.of(replica).seen for replica in view.replicas):
            return


def _pause_s(view: View) -> float:
    """A part of what the youngest of the engines that start or end has taken so far."""
    moving = [one.remove_asked_at or one.created_at for one in view.replicas if one.remove_asked_at or not one.ready_at]
    if not moving:
        return LONGEST_PAUSE_S
    taken_s = (timezone.now() - max(moving)).total_seconds()
    return min(max(taken_s * PART_OF_WAIT, SHORTEST_PAUSE_S), LONGEST_PAUSE_S)


def _note_all(views: list[View]) -> None:
    pairs = [(replica, view.of(replica)) for view in views for replica in view.replicas]
    try:
        uptime.note_all(pairs)
    except Exception:  # one that can't be billed must not keep the others unbilled: each is noted in its own step, too
        log.exception("sweep: uptime of all at once")
        for pair in pairs:
            with contextlib.suppress(Exception):
                uptime.note(*pair)
    alive = [replica.pk for replica, seen in pairs if seen.alive]
    if alive:
        Replica.objects.filter(pk__in=alive).update(seen_at=timezone.now())


def _remove_orphans(alias: str, names: set[str]) -> None:
    """A replica's row is written before its engine, so an engine without a live row belongs to nobody. The rows are
    asked again: what has been started since they were read is no orphan."""
    if not names:
        return
    rows = Replica.objects.filter(exited_at=None, deployment__backend=alias)
    for name in sorted(names - {replica.name for replica in rows.only("id")}):
        orphans.remove(alias, name)
