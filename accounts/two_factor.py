"""Second factors: who has one, and the teams that ask for it. What changes about one stands in the audit trail."""

from typing import Any

from allauth.account.signals import email_changed, password_changed, password_reset, password_set
from allauth.mfa.models import Authenticator
from allauth.mfa.signals import authenticator_added, authenticator_removed, authenticator_reset
from allauth.socialaccount.signals import social_account_added, social_account_removed
from django.db.models import Exists, OuterRef

from accounts import audit
from accounts.errors import TwoFactorRequired
from accounts.models import Membership, Team, User

NAMES = {"totp": "the authenticator app", "webauthn": "a passkey", "recovery_codes": "recovery codes"}
SECONDS = [Authenticator.Type.TOTP, Authenticator.Type.WEBAUTHN]

# Of a membership's user, in the same query.
EXISTS = Exists(Authenticator.objects.filter(user=OuterRef("user"), type__in=SECONDS))


def has_one(user: User) -> bool:
    """An app or a passkey; recovery codes alone are none."""
    return Authenticator.objects.filter(user=user, type__in=SECONDS).exists()


def ask(membership: Membership) -> None:
    """Raise TwoFactorRequired where the team asks for a second factor and the member has none."""
    if membership.team.require_two_factor and not has_one(membership.user):
        raise TwoFactorRequired(f"{membership.team.name} asks its members for a second factor. Set one up first.")


def connect() -> None:
    """Changes of how somebody signs in are told to the trails of their teams."""
    authenticator_added.connect(_added, dispatch_uid="audit")
    authenticator_removed.connect(_removed, dispatch_uid="audit")
    authenticator_reset.connect(_renewed, dispatch_uid="audit")
    for signal in (password_changed, password_reset, password_set):
        signal.connect(_password, dispatch_uid="audit")
    email_changed.connect(_address, dispatch_uid="audit")
    social_account_added.connect(_linked, dispatch_uid="audit")
    social_account_removed.connect(_unlinked, dispatch_uid="audit")


def _added(user: User, authenticator: Authenticator, **_: Any) -> None:
    _told(user, "set up", NAMES[authenticator.type])


def _removed(user: User, authenticator: Authenticator, **_: Any) -> None:
    _told(user, "removed", NAMES[authenticator.type])


def _renewed(user: User, authenticator: Authenticator, **_: Any) -> None:
    _told(user, "renewed", NAMES[authenticator.type])


def _password(user: User, **_: Any) -> None:
    _told(user, "changed", "the password")


def _address(user: User, from_email_address: Any, to_email_address: Any, **_: Any) -> None:
    before = from_email_address.email if from_email_address else ""
    _told(user, "changed", "the primary address", before={"email": before}, after={"email": to_email_address.email})


def _linked(sociallogin: Any, **_: Any) -> None:
    _told(sociallogin.user, "connected", sociallogin.account.provider)


def _unlinked(socialaccount: Any, **_: Any) -> None:
    _told(socialaccount.user, "disconnected", socialaccount.provider)


def _told(user: User, verb: str, subject: str, **changes: Any) -> None:
    """Once for each of the user's teams; for none where there is none."""
    teams: list[Team | None] = [*user.teams.all()]
    for team in teams or [None]:
        audit.record(team, actor=user.email, verb=verb, subject=subject, **changes)
