"""What is done in Django's admin stands in the audit trail, too: each line of the admin's own log is told to it."""

import json
from typing import Any

from django.contrib.admin.models import ADDITION, CHANGE, DELETION, LogEntry
from django.db.models.signals import post_save

from accounts import audit
from accounts.models import Team

VERBS = {
    ADDITION: "added, as administrator,",
    CHANGE: "changed, as administrator,",
    DELETION: "deleted, as administrator,",
}


def connect() -> None:
    post_save.connect(_told, sender=LogEntry, dispatch_uid="audit")


def _told(instance: LogEntry, created: bool, **_: Any) -> None:
    """The team of the row that was changed, where it has one and is still there; which fields, and no values."""
    if not created or instance.content_type is None:
        return
    kind = instance.content_type.model_class()
    row = kind._default_manager.filter(pk=instance.object_id).first() if kind is not None else None
    team = row if isinstance(row, Team) else getattr(row, "team", None)
    fields = [name for change in _changes(instance) for name in change.get("fields", [])]
    audit.record(
        team if isinstance(team, Team) else None,
        actor=str(instance.user),
        verb=VERBS.get(instance.action_flag, "touched, as administrator,"),
        subject=f"{instance.content_type.name} {instance.object_repr}",
        after={"fields": fields} if fields else {},
    )


def _changes(entry: LogEntry) -> list[dict[str, Any]]:
    """As Django keeps them: [{"changed": {"name": ..., "fields": [...]}}, ...], or a text."""
    try:
        found = json.loads(entry.change_message or "[]")
    except ValueError:
        return []
    return [part for each in found if isinstance(each, dict) for part in each.values() if isinstance(part, dict)]
