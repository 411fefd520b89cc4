"""The demo team that a fresh portal starts with."""

import secrets
from dataclasses import dataclass, field

from allauth.account.models import EmailAddress
from django.db import transaction

from accounts import audit, keyring, keys
from accounts.models import Membership, Role, Team, User

EMAIL = "demo@modelport.local"


@dataclass(frozen=True, slots=True)
class Demo:
    email: str
    password: str = field(repr=False)
    key: str = field(repr=False)


@transaction.atomic
def make_demo() -> Demo | None:
    """The team `demo`, its owner and a key, whose secrets are returned this once; None if the team is there."""
    team, made = Team.objects.get_or_create(slug="demo", defaults={"name": "Demo team"})
    if not made:
        return None
    password = secrets.token_urlsafe(12)
    owner = User.objects.create_user(EMAIL, password)
    EmailAddress.objects.create(user=owner, email=EMAIL, verified=True, primary=True)
    Membership.objects.create(team=team, user=owner, role=Role.OWNER)
    row, key = keys.issue(team, name="first key", created_by=owner)
    audit.record(team, actor="portal", verb="issued a key", subject=row.prefix, after=keyring.described(row))
    return Demo(email=EMAIL, password=password, key=key)
