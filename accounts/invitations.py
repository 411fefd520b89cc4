"""Invitations: a place in a team, offered by mail. The token is signed, works once and for a week; its hash is kept."""

import hashlib
import hmac
import logging
import secrets
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from urllib.parse import urljoin

from allauth.account.adapter import get_adapter
from allauth.account.models import EmailAddress
from django.conf import settings
from django.core import signing
from django.db import IntegrityError, transaction
from django.db.models import Count, QuerySet, Subquery
from django.urls import reverse
from django.utils import timezone

from accounts import audit, keys, proving, quotas, roles
from accounts.errors import AlreadyThere, DeadInvitation, NotAllowed
from accounts.models import Invitation, Membership, Quota, Role, Team, User

log = logging.getLogger(__name__)

LASTS = timedelta(days=7)
# Mails go to addresses that nobody has confirmed: so many a team and hour, and a pause before the same again.
MOST_AN_HOUR = 50
PAUSE = timedelta(minutes=1)
_signer = signing.Signer(salt="accounts.invitation")


def invite(email: str, role: str, *, by: Membership, actor: str = "") -> tuple[Invitation, str]:
    """Offer a place, and send the mail. The link is returned this once. `actor` is the key that acts for `by`, if one
    does.

    Raises NotAllowed, AlreadyThere or QuotaReached. A mail that could not be sent leaves `sent_at` empty.
    """
    _may_give(role, by=by)
    email = email.strip().lower()
    if Membership.objects.filter(team=by.team, user__email__iexact=email).exists():
        raise AlreadyThere(f"{email} is a member already: change the role in the list.")
    if by.team.invitations.filter(created_at__gt=timezone.now() - timedelta(hours=1)).count() >= MOST_AN_HOUR:
        raise NotAllowed(f"A team invites {MOST_AN_HOUR} people an hour at most: go on later.")
    text = _new_token()
    try:
        with transaction.atomic():
            quotas.check(by.team, Quota.What.MEMBERS, used=lambda: places_taken(by.team))
            row = Invitation.objects.create(
                team=by.team, email=email, role=role, digest=_digest(text), invited_by=by.user,
                expires_at=timezone.now() + LASTS,
            )  # fmt: skip
            audit.record(by.team, actor=actor or by.user.email, verb="invited", subject=email, after={"role": role})
    except IntegrityError as error:
        raise AlreadyThere(f"{email} is invited already: send that invitation again, or take it back.") from error
    return row, _sent(row, text, by=by)


def resend(row: Invitation, *, by: Membership, actor: str = "") -> str:
    """A new token, good for a week from now, in a new mail; the old link is dead. The new one is returned this once.

    Raises NotAllowed, DeadInvitation, or AlreadyThere within a minute of the last mail."""
    _may_give(row.role, by=by)
    text = _new_token()
    with transaction.atomic():
        found = _open(row, for_update=True)
        if found.sent_at and timezone.now() - found.sent_at < PAUSE:
            raise AlreadyThere(f"A mail went to {row.email} less than a minute ago: wait a little.")
        until = timezone.now() + LASTS
        Invitation.objects.filter(pk=row.pk).update(digest=_digest(text), expires_at=until, sent_at=None)
        audit.record(
            row.team, actor=actor or by.user.email, verb="sent again the invitation of", subject=row.email,
            before={"good until": found.expires_at}, after={"good until": until},
        )  # fmt: skip
    row.refresh_from_db()
    return _sent(row, text, by=by)


def revoke(row: Invitation, *, by: Membership, actor: str = "") -> None:
    """The link opens nothing from now on."""
    _may_give(row.role, by=by)
    with transaction.atomic():
        _open(row, for_update=True)
        Invitation.objects.filter(pk=row.pk).update(revoked_at=timezone.now())
        audit.record(
            row.team, actor=actor or by.user.email, verb="took back the invitation of", subject=row.email,
            before={"role": row.role},
        )  # fmt: skip


def digest_of(token: str) -> str:
    """What is known of a token after it has been shown: what can be looked up, but not guessed back."""
    try:
        return _digest(_signer.unsign(token))
    except signing.BadSignature as error:
        raise DeadInvitation("This link is not whole. Copy all of it from the mail.") from error


@dataclass(frozen=True, slots=True)
class Joined:
    """`lost`: the account had other ways in, which are gone (accounts.proving)."""

    member: Membership
    lost: bool


def find(digest: str) -> Invitation:
    """The live invitation, or DeadInvitation with one text for each way in which it can be dead."""
    row = Invitation.objects.filter(digest=digest).select_related("team", "invited_by").first()
    if row is None or row.revoked_at:
        raise DeadInvitation("This invitation was taken back, or sent again with a newer link.")
    if row.accepted_at:
        raise DeadInvitation("This invitation is used up: it works once.")
    if row.expires_at <= timezone.now():
        raise DeadInvitation(f"This invitation was good until {row.expires_at:%d %B %Y}. Ask for a new one.")
    return row


def accept(digest: str, *, user: User, session_key: str = "") -> Joined:
    """Make the user a member, once; the link shows that the address is theirs, who are here in that session.

    Raises DeadInvitation, NotAllowed for another's address, or QuotaReached."""
    with transaction.atomic():
        row = find(digest)
        row = Invitation.objects.select_for_update(of=("self",)).select_related("team").get(pk=row.pk)
        if row.accepted_at or row.revoked_at or row.digest != digest:
            raise DeadInvitation("This invitation is used up: it works once.")
        if not is_for(row, user):
            raise NotAllowed(f"This invitation is for {row.email}; you are signed in as {user.email}.")
        Invitation.objects.filter(pk=row.pk).update(accepted_at=timezone.now(), accepted_by=user)
        lost = proving.prove(user, row.email, session_key=session_key)
        member, made = Membership.objects.get_or_create(team=row.team, user=user, defaults={"role": row.role})
        if made:
            audit.record(
                row.team, actor=user.email, verb="joined the team", subject=row.email,
                after={"role": row.role} | ({"other ways in": "removed"} if lost else {}),
            )  # fmt: skip
    return Joined(member, lost)


def join_as_new(digest: str, *, password: str) -> Joined:
    """Make the account that was invited, its address confirmed by the link that came there, and the membership."""
    try:
        with transaction.atomic():
            row = find(digest)
            user = User.objects.create_user(row.email, password)
            EmailAddress.objects.create(user=user, email=row.email, verified=True, primary=True)
            return accept(digest, user=user)
    except IntegrityError as error:
        raise AlreadyThere("There is an account with this address by now: sign in with it.") from error


def is_for(row: Invitation, user: User) -> bool:
    """The address is the user's own: the one they sign in with, or another that they have confirmed."""
    if user.email.lower() == row.email.lower():
        return True
    return EmailAddress.objects.filter(user=user, email__iexact=row.email, verified=True).exists()


def account_of(row: Invitation) -> User | None:
    return User.objects.filter(email__iexact=row.email).first()


def places_taken(team: Team) -> int:
    """Members, and places that are offered."""
    return team.memberships.count() + team.invitations.open().filter(expires_at__gt=timezone.now()).count()


def used(team: Team) -> quotas.Uses:
    """What this app counts, for the team's page; in one query."""
    offered = team.invitations.open().filter(expires_at__gt=timezone.now())
    row = Team.objects.filter(pk=team.pk).values_list(
        _count(keys.live(team)), _count(team.memberships.all()), _count(offered)
    )
    live, members, invited = (number or 0 for number in row.get())
    return {(Quota.What.KEYS, ""): live, (Quota.What.MEMBERS, ""): members + invited}


def _count(rows: QuerySet[Any]) -> Subquery:
    return Subquery(rows.order_by().values("team").annotate(number=Count("pk")).values("number"))


def _may_give(role: str, *, by: Membership) -> None:
    if not roles.may_manage(by, role):
        raise NotAllowed(f"As {by.role} you can't invite somebody as {role}.")


def _open(row: Invitation, *, for_update: bool = False) -> Invitation:
    rows = Invitation.objects.open()
    found = (rows.select_for_update() if for_update else rows).filter(pk=row.pk).first()
    if found is None:
        raise DeadInvitation("This invitation is used up or taken back.")
    return found


def _new_token() -> str:
    return secrets.token_urlsafe(32)


def _digest(secret: str) -> str:
    return hmac.new(settings.API_KEY_PEPPER.encode(), f"invitation:{secret}".encode(), hashlib.sha256).hexdigest()


def _sent(row: Invitation, secret: str, *, by: Membership) -> str:
    """Send the mail, outside of any transaction; the link. What fails is logged without the link."""
    link = urljoin(settings.PUBLIC_URL, reverse("join-link", args=[_signer.sign(secret)]))
    words = roles.WORDS[Role(row.role)]
    context = {
        "join_url": link, "team": row.team.name, "role": row.role, "may": words.may, "may_not": words.may_not,
        "by": by.user.email, "expires_at": row.expires_at, "email": row.email,
    }  # fmt: skip
    try:
        get_adapter().send_mail("accounts/email/invitation", row.email, context)
    except OSError as error:
        log.warning("the invitation of %s could not be sent: %s", row.pk, type(error).__name__)
    else:
        Invitation.objects.filter(pk=row.pk).update(sent_at=timezone.now())
        row.refresh_from_db()
    return link
