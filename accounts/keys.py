"""API keys: issue, hash, look up, rotate, revoke. `mp_` + 8 characters of prefix + `_` + 40 of secret."""

import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import Q, QuerySet
from django.utils import timezone

from accounts.errors import UnknownKey
from accounts.models import ApiKey, Team, User, every_scope

ALPHABET = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
LONGEST_TAG = 64
SHAPE = re.compile(r"mp_[A-Za-z0-9]{8}_[A-Za-z0-9]{40}")


def issue(
    team: Team,
    *,
    name: str,
    created_by: User | None = None,
    expires_at: datetime | None = None,
    tag: str = "",
    scopes: Iterable[str] | None = None,
) -> tuple[ApiKey, str]:
    """Make a key, with every scope if none is named. The text is returned this once; only its HMAC-SHA256 and its
    prefix are kept."""
    prefix = f"mp_{_random(8)}"
    text = f"{prefix}_{_random(40)}"
    row = ApiKey.objects.create(
        team=team, name=name, prefix=prefix, digest=digest(text), created_by=created_by, expires_at=expires_at, tag=tag,
        scopes=every_scope() if scopes is None else sorted(scopes),
    )  # fmt: skip
    return row, text


def look_up(text: str) -> ApiKey | None:
    """The live key for this text, with its team and maker; None for garbled, unknown, revoked, expired ones alike.

    The secret before the last rotation opens until its overlap ends; `by_old_secret` says that it did.
    """
    if not SHAPE.fullmatch(text):
        return None
    now, found = timezone.now(), digest(text)
    either = Q(digest=found) | Q(old_digest=found, old_until__gt=now)
    key = ApiKey.objects.filter(_lives(), either).select_related("team", "created_by").first()
    if key is not None:
        key.by_old_secret = key.digest != found
    return key


def rotate(key: ApiKey, *, overlap: timedelta, **fields: Any) -> str:
    """Give the key a new secret, and return it this once. The one that it had works for `overlap` more; an older one
    dies now. `fields` are set along with it. A key that is revoked or over raises UnknownKey."""
    text = f"{key.prefix}_{_random(40)}"
    now = timezone.now()
    with transaction.atomic():
        row = ApiKey.objects.select_for_update().filter(_lives(), pk=key.pk).first()
        if row is None:
            raise UnknownKey(f"{key.name} opens nothing any more: make a new key.")
        has_overlap = overlap > timedelta(0)
        ApiKey.objects.filter(pk=row.pk).update(
            digest=digest(text),
            old_digest=row.digest if has_overlap else None,
            old_until=now + overlap if has_overlap else None,
            old_last_used_at=None,
            **fields,
        )
    return text


def live(team: Team) -> QuerySet[ApiKey]:
    """The team's keys that open something."""
    return team.api_keys.filter(_lives())


def at_hand(team: Team, user: User) -> list[ApiKey]:
    """Live keys that somebody may want to use in an example: their own first, then the newest; at most 50."""
    newest = live(team).order_by("-created_at")[:50]
    return sorted(newest, key=lambda key: key.created_by_id != user.pk)


def is_tag(text: str) -> bool:
    """It can label calls: at most LONGEST_TAG characters, all of which can be printed."""
    return len(text) <= LONGEST_TAG and text.isprintable()


def revoke(key: ApiKey) -> None:
    """From now on the key opens nothing (gateways forget it within 5 s). Safe to call twice."""
    ApiKey.objects.filter(pk=key.pk, revoked_at=None).update(revoked_at=timezone.now())


def touch(key: ApiKey) -> None:
    """The key was used now, by its present secret or the one before; each is written down at most once a minute."""
    now = timezone.now()
    names = ["last_used_at", "old_last_used_at"] if key.by_old_secret else ["last_used_at"]
    stale = [name for name in names if (at := getattr(key, name)) is None or now - at > timedelta(minutes=1)]
    if stale:
        ApiKey.objects.filter(pk=key.pk).update(**dict.fromkeys(stale, now))


def digest(text: str) -> str:
    return hmac.new(settings.API_KEY_PEPPER.encode(), text.encode(), hashlib.sha256).hexdigest()


def _lives() -> Q:
    return Q(revoked_at=None) & (Q(expires_at=None) | Q(expires_at__gt=timezone.now()))


def _random(length: int) -> str:
    return "".join(secrets.choice(ALPHABET) for _ in range(length))
