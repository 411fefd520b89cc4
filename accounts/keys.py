"""API keys: issue, hash, look up, revoke. `mp_` + 8 characters of prefix + `_` + 40 of secret."""

import hashlib
import hmac
import re
import secrets
from datetime import datetime, timedelta

from django.conf import settings
from django.db.models import Q
from django.utils import timezone

from accounts.models import ApiKey, Team, User

ALPHABET = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
LONGEST_TAG = 64
SHAPE = re.compile(r"mp_[A-Za-z0-9]{8}_[A-Za-z0-9]{40}")


def issue(
    team: Team, *, name: str, created_by: User | None = None, expires_at: datetime | None = None, tag: str = ""
) -> tuple[ApiKey, str]:
    """Make a key. The text is returned this once; only its HMAC-SHA256 and its prefix are kept."""
    prefix = f"mp_{_random(8)}"
    text = f"{prefix}_{_random(40)}"
    row = ApiKey.objects.create(
        team=team, name=name, prefix=prefix, digest=digest(text), created_by=created_by, expires_at=expires_at, tag=tag
    )
    return row, text


def look_up(text: str) -> ApiKey | None:
    """The live key for this text, with its team and maker; None for garbled, unknown, revoked, expired ones alike."""
    if not SHAPE.fullmatch(text):
        return None
    live = Q(revoked_at=None) & (Q(expires_at=None) | Q(expires_at__gt=timezone.now()))
    return ApiKey.objects.filter(live, digest=digest(text)).select_related("team", "created_by").first()


def is_tag(text: str) -> bool:
    """It can label calls: at most LONGEST_TAG characters, all of which can be printed."""
    return len(text) <= LONGEST_TAG and text.isprintable()


def revoke(key: ApiKey) -> None:
    """From now on the key opens nothing (gateways forget it within 5 s). Safe to call twice."""
    ApiKey.objects.filter(pk=key.pk, revoked_at=None).update(revoked_at=timezone.now())


def touch(key: ApiKey) -> None:
    """The key was used now; written down at most once a minute."""
    now = timezone.now()
    if key.last_used_at is None or now - key.last_used_at > timedelta(minutes=1):
        ApiKey.objects.filter(pk=key.pk).update(last_used_at=now)


def digest(text: str) -> str:
    return hmac.new(settings.API_KEY_PEPPER.encode(), text.encode(), hashlib.sha256).hexdigest()


def _random(length: int) -> str:
    return "".join(secrets.choice(ALPHABET) for _ in range(length))
