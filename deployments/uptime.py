"""A replica's uptime, from its engine's real start to its real exit, billed once, in one transaction with its row.

Until its first Ready it is on the meter of starting; how that time is charged is known once the start has succeeded or
failed, so it is billed after that. From Ready on, each full minute is billed when it is over, the rest at the exit.
"""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from uuid import UUID

from django.db import transaction
from django.db.models import Sum
from django.utils import timezone

from billing import metering, pricing
from billing.meters import COMPUTE_SECONDS, COMPUTE_STARTING, COMPUTE_STARTING_FAILED
from billing.models import LedgerEntry
from deployments.backends import Observation
from deployments.models import Replica

Seen = tuple[Replica, Observation]


def note(replica: Replica, seen: Observation) -> None:
    note_all([(replica, seen)])


def note_all(pairs: Iterable[Seen]) -> None:
    """Copy onto the rows what the backend says, as soon as it is known; bill the full minutes until now. As many
    queries for a thousand replicas as for one."""
    known = [(replica, seen) for replica, seen in pairs if seen.alive]
    if fresh := [pair for pair in known if _says_more(*pair)]:
        _copy(fresh)
    if due := {replica.pk: seen for replica, seen in known if _full_minutes(replica, seen)}:
        with transaction.atomic():
            rows = list(_locked(due))
            metering.record_uptime([stretch for row in rows for stretch in _until(row, _minute_end(row, due[row.pk]))])
            for row in rows:  # what it has taken so far is told along with the minute
                row.peak_bytes = due[row.pk].peak_bytes or row.peak_bytes
            Replica.objects.bulk_update(rows, ["billed_until", "peak_bytes"])
        billed = {row.pk: row.billed_until for row in rows}
        for replica, _ in known:
            replica.billed_until = billed.get(replica.pk, replica.billed_until)


def ready(replica: Replica, at: datetime) -> bool:
    """Calls are sent to it from now on. True the first time, and if it was not asked to go. Its start is billed, as
    one that succeeded, with its first full minute: nobody who waits for it waits for that."""
    at = max(at, replica.started_at or at)
    first = Replica.objects.filter(pk=replica.pk, ready_at=None, remove_asked_at=None, exited_at=None)
    if not first.update(ready_at=at):
        return False
    replica.ready_at = at
    return True


def close(replica: Replica, seen: Observation, *, crashed: bool, detail: str) -> None:
    """The engine is gone: bill it to its real exit and close its row. Closing it again changes nothing."""
    with transaction.atomic():
        row = next(_locked([replica.pk]), None)
        if row is None:
            return
        if row.started_at is None and seen.started_at is not None:
            row.started_at, row.prices = seen.started_at, _prices_of(row, seen.started_at)
        ended = [moment for moment in (seen.exited_at, row.billed_until, row.ready_at) if moment]
        row.exited_at = max(ended) if ended else row.started_at or timezone.now()
        row.exit_code, row.crashed, row.exit_detail = seen.exit_code, crashed, detail
        row.peak_bytes = seen.peak_bytes or row.peak_bytes
        row.address, row.sealed_key = "", ""
        metering.record_uptime(_until(row, row.exited_at))
        row.save()
    replica.refresh_from_db()


def differences(team_ids: Sequence[UUID], begins: datetime, ends: datetime) -> dict[UUID, list[str]]:
    """Asked before a month is billed: where what was billed is not what the teams' replicas lived in it. Teams without
    a difference are left out."""
    lived, billed, found = _lived(team_ids, begins, ends), _billed(team_ids, begins, ends), {}
    for team in team_ids:
        rows = lived.get(team, [])
        behind = [row for row in rows if row.exited_at is None and (row.billed_until or begins) < ends]
        total = sum((_inside(row, begins, ends) for row in rows), timedelta(0))
        seconds = Decimal(total // timedelta(microseconds=1)).scaleb(-6)
        if behind:
            found[team] = [f"replicas that are not billed to the month's end yet: {', '.join(r.name for r in behind)}"]
        elif billed.get(team, 0) != seconds:
            found[team] = [f"replicas lived {seconds} s, {billed.get(team, 0)} s are billed"]
    return found


def _lived(team_ids: Sequence[UUID], begins: datetime, ends: datetime) -> dict[UUID, list[Replica]]:
    """Whoever ran for some of the time, by team."""
    rows = Replica.objects.filter(deployment__team__in=team_ids, started_at__lt=ends).exclude(exited_at__lte=begins)
    found: dict[UUID, list[Replica]] = {}
    for row in rows.select_related("deployment"):
        found.setdefault(row.deployment.team_id, []).append(row)
    return found


def _billed(team_ids: Sequence[UUID], begins: datetime, ends: datetime) -> dict[UUID, Decimal]:
    """Seconds, by team."""
    rows = LedgerEntry.objects.filter(
        team__in=team_ids, kind="usage", meter__startswith="compute.", at__gte=begins, at__lt=ends
    )
    return dict(rows.order_by().values_list("team").annotate(total=Sum("quantity")))


def _inside(row: Replica, begins: datetime, ends: datetime) -> timedelta:
    assert row.started_at is not None  # noqa: S101 - only those are asked for
    return min(row.exited_at or ends, ends) - max(row.started_at, begins)


def _says_more(replica: Replica, seen: Observation) -> bool:
    return seen.started_at is not None and (replica.started_at, replica.address) != (seen.started_at, seen.address)


def _copy(pairs: list[Seen]) -> None:
    """The engine's own start, its address, and the prices in force then: those of all its life."""
    for replica, seen in pairs:
        replica.address = seen.address
        if replica.started_at is None and seen.started_at is not None:
            replica.started_at, replica.prices = seen.started_at, _prices_of(replica, seen.started_at)
    live = Replica.objects.filter(exited_at=None)
    if len(pairs) == 1:
        replica = pairs[0][0]
        live.filter(pk=replica.pk).update(started_at=replica.started_at, address=replica.address, prices=replica.prices)
    else:
        live.bulk_update([replica for replica, _ in pairs], ["started_at", "address", "prices"])


def _prices_of(replica: Replica, at: datetime) -> dict[str, str]:
    prices = pricing.prices_at(_sku(replica), at=at, team_id=replica.deployment.team_id)
    prices.setdefault(COMPUTE_STARTING_FAILED.name, Decimal(0))
    return {meter: format(price, "f") for meter, price in prices.items()}


def _full_minutes(replica: Replica, seen: Observation) -> bool:
    if replica.ready_at is None or seen.alive_at is None:
        return False
    begin = replica.billed_until or replica.started_at
    return begin is not None and _minute(seen.alive_at) > begin


def _minute_end(row: Replica, seen: Observation) -> datetime:
    assert seen.alive_at is not None  # noqa: S101 - only those are asked for
    return _minute(seen.alive_at)


def _minute(moment: datetime) -> datetime:
    return moment.replace(second=0, microsecond=0)


def _locked(ids: Iterable[object]) -> Iterator[Replica]:
    """Those that are not closed yet, locked in one order by everybody."""
    rows = Replica.objects.select_related(
        "deployment__team", "deployment__hardware", "deployment__model", "version__hardware"
    )
    return iter(rows.select_for_update(of=("self",)).filter(pk__in=list(ids), exited_at=None).order_by("pk"))


def _until(row: Replica, until: datetime) -> list[metering.Stretch]:
    """What is to be billed up to that moment; the row's `billed_until` moves with it."""
    begin = row.billed_until or row.started_at
    if begin is None or until <= begin:
        return []
    turns = [begin, min(max(row.ready_at or until, begin), until), until]
    starting = COMPUTE_STARTING if row.ready_at else COMPUTE_STARTING_FAILED
    row.billed_until = until
    meters = (starting.name, COMPUTE_SECONDS.name)
    return [_stretch(row, turns[n], turns[n + 1], meters[n]) for n in (0, 1) if turns[n] < turns[n + 1]]


def _stretch(row: Replica, begin: datetime, end: datetime, meter: str) -> metering.Stretch:
    deployment = row.deployment
    prices = row.prices or _prices_of(row, row.started_at or begin)
    return metering.Stretch(
        replica_id=row.pk,
        team=deployment.team,
        sku=_sku(row),
        source=deployment.endpoint_model,
        model_name=deployment.model.name,
        deployment_name=deployment.name,
        started_at=begin,
        ended_at=end,
        prices={name: Decimal(price) for name, price in prices.items()},
        meter=meter,
    )


def _sku(row: Replica) -> str:
    return row.version.hardware.sku if row.version else row.deployment.hardware.sku
