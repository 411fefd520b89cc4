"""A team's keys as its people and programs change them: made, changed, rotated, revoked, each with its line in the
audit trail. Who asks is a member; `actor` is how the trail names them: their address, or the key that acts for them.

A key with the scope `manage` acts in its maker's name. So nobody gets hold of another's but who may manage its maker.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction

from accounts import audit, keys, quotas, roles
from accounts.errors import NotAllowed, UnknownKey
from accounts.models import ApiKey, Membership, Quota, Role, Scope, Team, User


def issue(team: Team, *, actor: str, created_by: User | None, **fields: Any) -> tuple[ApiKey, str]:
    """As keys.issue, where the team's quota has room for one more; else QuotaReached."""
    with transaction.atomic():
        quotas.check(team, Quota.What.KEYS, used=keys.live(team).count)
        row, text = keys.issue(team, created_by=created_by, **fields)
        audit.record(team, actor=actor, verb="issued the key", subject=str(row), after=described(row))
    return row, text


def change(key: ApiKey, *, by: Membership | None, actor: str, **fields: Any) -> None:
    """Name, scopes, tag. Raises NotAllowed, or UnknownKey for one that is revoked or over."""
    _guard(key, {*key.scopes, *fields.get("scopes", ())}, by=by)
    with transaction.atomic():
        row = _live(key)
        before = described(row)
        for name, value in fields.items():
            setattr(row, name, value)
        row.save(update_fields=list(fields))
        audit.record(
            row.team, actor=actor, verb="changed the key", subject=str(row), before=before, after=described(row)
        )
    key.refresh_from_db()


def rotate(key: ApiKey, *, by: Membership | None, actor: str, overlap: timedelta, **fields: datetime | None) -> str:
    """As keys.rotate: the new secret, this once. Raises NotAllowed or UnknownKey."""
    _guard(key, key.scopes, by=by)
    with transaction.atomic():
        row = _live(key)
        before = described(row)
        text = keys.rotate(row, overlap=overlap, **fields)
        row.refresh_from_db()
        until = {"the old secret works until": row.old_until.isoformat() if row.old_until else "now"}
        audit.record(
            row.team, actor=actor, verb="rotated the key", subject=str(row), before=before,
            after=described(row) | until,
        )  # fmt: skip
    key.refresh_from_db()
    return text


def revoke(key: ApiKey, *, actor: str) -> bool:
    """Whether it was there to be revoked."""
    with transaction.atomic():
        if not ApiKey.objects.select_for_update().filter(pk=key.pk, revoked_at=None).exists():
            return False
        keys.revoke(key)
        audit.record(key.team, actor=actor, verb="revoked the key", subject=str(key), before=described(key))
    return True


def described(key: ApiKey) -> dict[str, Any]:
    """For the audit trail."""
    until = key.expires_at.isoformat() if key.expires_at else "for ever"
    return {"name": key.name, "scopes": sorted(key.scopes), "tag": key.tag, "works until": until}


def _live(key: ApiKey) -> ApiKey:
    row = keys.live(key.team).select_for_update().filter(pk=key.pk).first()
    if row is None:
        raise UnknownKey(f"{key.name} opens nothing any more: make a new key.")
    return row


def _guard(key: ApiKey, scopes: Iterable[str], *, by: Membership | None) -> None:
    """`by` is None for a key of the command line's: whoever runs the portal is asked nothing."""
    if Scope.MANAGE not in scopes or by is None or key.created_by_id == by.user_id:
        return
    if not roles.may_manage(by, _role_of_the_maker(key)):
        whose = key.created_by.email if key.created_by else "whoever runs the portal"
        raise NotAllowed(
            f"{key.name} has, or would get, the scope `manage`, and so acts for {whose}: only they, or who may change "
            "their role, may change or rotate it."
        )


def _role_of_the_maker(key: ApiKey) -> str:
    """Of the command line's, and of whom the team has no more: an admin's, so that owners and admins may."""
    found = Membership.objects.filter(team=key.team_id, user=key.created_by_id).values_list("role", flat=True).first()
    return found or Role.ADMIN
