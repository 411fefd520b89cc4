"""Making teams: every team has an owner and an address that is free."""

import re
import secrets

from django.db import IntegrityError, transaction

from accounts import audit
from accounts.models import Membership, Role, Team, User


def create(owner: User, *, name: str, time_zone: str = "UTC") -> Team:
    """A team with this name, owned by `owner`; its slug is made from the name and is free."""
    base = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:30] or "team"
    slug = base
    while True:
        try:
            with transaction.atomic():
                team = Team.objects.create(slug=slug, name=name, time_zone=time_zone)
                Membership.objects.create(team=team, user=owner, role=Role.OWNER)
                said = {"slug": slug, "time zone": time_zone}
                audit.record(team, actor=owner.email, verb="created the team", subject=name, after=said)
                return team
        except IntegrityError:
            slug = f"{base}-{secrets.token_hex(2)}"
