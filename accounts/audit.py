"""The audit trail: one row per thing that somebody did."""

from accounts.models import AuditEvent, Team


def record(team: Team | None, *, actor: str, verb: str, subject: str) -> None:
    AuditEvent.objects.create(team=team, actor=actor, verb=verb, subject=subject[:200])
