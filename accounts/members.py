"""Who belongs to a team: roles changed, members removed, a team left. A team always keeps an owner."""

from django.db import models, transaction
from django.utils import timezone

from accounts import audit, keys, roles
from accounts.errors import LastOwner, NotAllowed
from accounts.models import ApiKey, Invitation, Membership, Role, Team


def change_role(member: Membership, role: str, *, by: Membership, actor: str = "") -> None:
    """Give the member another role. The invitations that they made and could make no longer go with the old one.
    `actor` is the key that acts for `by`, if one does. Raises NotAllowed, or LastOwner where no owner would be left."""
    with transaction.atomic():
        row = _locked(member)
        if not (roles.may_manage(by, row.role) and roles.may_manage(by, role)):
            raise NotAllowed(f"As {by.role} you can't make {row.user.email}, who is {row.role}, {_a(role)}.")
        if row.role == role:
            return
        _keep_an_owner(row, says=f"{row.user.email} is the only owner: make somebody else an owner first.")
        before, row.role = row.role, role
        row.save(update_fields=["role"])
        _take_back(row, keep=roles.grantable(row))
        audit.record(
            row.team,
            actor=actor or by.user.email,
            verb="changed the role of",
            subject=row.user.email,
            before={"role": before},
            after={"role": role},
        )


def remove(member: Membership, *, by: Membership, revoke_keys: bool, actor: str = "") -> int:
    """Take the member out of the team, and with `revoke_keys` the keys that they made: how many. Same errors."""
    with transaction.atomic():
        row = _locked(member)
        if not roles.may_manage(by, row.role):
            raise NotAllowed(f"As {by.role} you can't remove {row.user.email}, who is {row.role}.")
        _keep_an_owner(row, says=f"{row.user.email} is the only owner: make somebody else an owner first.")
        return _taken_out(row, actor=actor or by.user.email, verb="removed the member", revoke_keys=revoke_keys)


def leave(member: Membership) -> None:
    """The member goes by themselves; the keys that they made stay. Raises LastOwner."""
    with transaction.atomic():
        row = _locked(member)
        _keep_an_owner(row, says="You are the only owner: make somebody else an owner, then you can leave.")
        _taken_out(row, actor=row.user.email, verb="left the team", revoke_keys=False)


def live_keys_of(member: Membership) -> int:
    """Those that open something; one that has expired does not."""
    return keys.live(member.team).filter(created_by=member.user_id).count()


def _taken_out(row: Membership, *, actor: str, verb: str, revoke_keys: bool) -> int:
    """The invitations that they made, and nobody has taken yet, go with them."""
    revoked = _unrevoked(row).update(revoked_at=timezone.now()) if revoke_keys else 0
    _take_back(row, keep=[])
    before = {"role": row.role} | ({"keys revoked": revoked} if revoke_keys else {})
    audit.record(row.team, actor=actor, verb=verb, subject=row.user.email, before=before)
    row.delete()
    return revoked


def _take_back(row: Membership, *, keep: list[Role]) -> None:
    """The member's open invitations, but for those as one of these roles: else a second address of their own would
    keep what they have lost."""
    theirs = Invitation.objects.open().filter(team=row.team_id, invited_by=row.user_id)
    theirs.exclude(role__in=keep).update(revoked_at=timezone.now())


def _unrevoked(member: Membership) -> models.QuerySet[ApiKey]:
    return ApiKey.objects.filter(team_id=member.team_id, created_by_id=member.user_id, revoked_at=None)


def _locked(member: Membership) -> Membership:
    """The row as it is now. The team is locked first: two owners who leave at once can't both go."""
    Team.objects.select_for_update(no_key=True).get(pk=member.team_id)
    return Membership.objects.select_related("team", "user").get(pk=member.pk)


def _keep_an_owner(row: Membership, *, says: str) -> None:
    others = Membership.objects.filter(team=row.team_id, role=Role.OWNER).exclude(pk=row.pk)
    if row.role == Role.OWNER and not others.exists():
        raise LastOwner(says)


def _a(role: str) -> str:
    return f"{'an' if role[0] in 'ao' else 'a'} {role}"
