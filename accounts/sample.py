"""The team named Sample: people and keys that nobody can use, and what it takes to put it away."""

import secrets
from collections.abc import Mapping

from django.db import transaction
from django.utils import timezone

from accounts import audit, keys
from accounts.errors import NameTaken
from accounts.models import ApiKey, Membership, Role, Team, User

SLUG, NAME = "sample", "Sample"
PEOPLE = (("ada", Role.OWNER), ("ben", Role.DEVELOPER), ("chi", Role.DEVELOPER), ("dora", Role.BILLING))


def find() -> Team | None:
    """The sample team, if there is one. Raises NameTaken when a real team has its name."""
    team = Team.objects.filter(slug=SLUG).first()
    if team is not None and not team.is_sample:
        raise NameTaken(f"A real team is called {SLUG!r}: it is left alone, and no sample data is made.")
    return team


def make(*, time_zone: str, keys_of: Mapping[str, tuple[str, str]]) -> tuple[Team, dict[str, ApiKey]]:
    """The team with made-up people, who can't sign in, and keys (name -> whose, tag) whose text nobody has. Raises
    NameTaken."""
    if find() is not None:
        raise NameTaken("The sample team is there already.")
    team = Team.objects.create(slug=SLUG, name=NAME, time_zone=time_zone, is_sample=True)
    people = {}
    for name, role in PEOPLE:
        user, _ = User.objects.get_or_create(email=f"{name}@sample.invalid", defaults={"is_active": False})
        Membership.objects.create(team=team, user=user, role=role)
        people[name] = user
    made = {
        name: keys.issue(team, name=name, created_by=people[whose], tag=tag)[0]
        for name, (whose, tag) in keys_of.items()
    }
    audit.record(team, actor="portal", verb="made the sample team", subject=NAME)
    return team, made


def let_in(team: Team, user: User, *, role: str) -> None:
    """Let somebody look at it; again changes nothing but the role."""
    Membership.objects.update_or_create(team=team, user=user, defaults={"role": role})


def archive(team: Team) -> None:
    """Out of everybody's sight, and its name is free again. Its ledger stays: no ledger can be removed."""
    with transaction.atomic():
        team.api_keys.filter(revoked_at=None).update(revoked_at=timezone.now())
        Membership.objects.filter(team=team).delete()
        before = {"slug": team.slug, "name": team.name}
        slug = f"{SLUG}-{secrets.token_hex(3)}"
        Team.objects.filter(pk=team.pk).update(slug=slug, name=f"{NAME} (archived)")
        after = {"slug": slug, "name": f"{NAME} (archived)"}
        audit.record(team, actor="portal", verb="archived the sample team", subject=slug, before=before, after=after)
