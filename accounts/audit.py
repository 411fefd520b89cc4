"""The audit trail: a row for each thing that somebody did, with what was so before and after. Never a secret."""

from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any

from accounts.models import AuditEvent, Team

# Where the request that is being answered came from; accounts.middleware sets it.
came_from: ContextVar[str | None] = ContextVar("came_from", default=None)


def record(
    team: Team | None,
    *,
    actor: str,
    verb: str,
    subject: str,
    before: Mapping[str, Any] | None = None,
    after: Mapping[str, Any] | None = None,
) -> None:
    """`before` and `after` hold what people may read, by the fields' names: of two, only what differs is kept."""
    was, now = _differing(before or {}, after or {})
    AuditEvent.objects.create(
        team=team, actor=actor, verb=verb, subject=subject[:200], before=was, after=now, ip=came_from.get()
    )


def _differing(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    same = {name for name in before.keys() & after.keys() if before[name] == after[name]}
    was, now = ({name: _plain(each[name]) for name in each if name not in same} for each in (before, after))
    return was, now


def _plain(value: Any) -> Any:
    """As JSON has it: numbers, texts and truths as they are, lists of texts, and the rest as its text."""
    if value is None or isinstance(value, bool | int | str):
        return value[:500] if isinstance(value, str) else value
    if isinstance(value, list | tuple | set | frozenset):
        return [str(one)[:200] for one in value][:50]
    return str(value)[:500]
