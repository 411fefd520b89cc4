"""Keys: shown once, kept as an HMAC, dead when revoked or expired."""

import hashlib
import hmac
from datetime import timedelta

import pytest
from django.conf import settings
from django.utils import timezone

from accounts import keys
from accounts.models import ApiKey, Membership


def test_a_key_is_its_prefix_and_a_secret(owner: Membership) -> None:
    row, text = keys.issue(owner.team, name="laptop")
    assert keys.SHAPE.fullmatch(text)
    assert text.startswith(row.prefix + "_")
    assert len(row.prefix) == 11


def test_only_an_hmac_of_the_key_is_kept(owner: Membership) -> None:
    row, text = keys.issue(owner.team, name="laptop")
    stored = ApiKey.objects.filter(pk=row.pk).values_list()[0]
    assert text not in str(stored)
    assert text.rpartition("_")[2] not in str(stored)
    assert row.digest == hmac.new(settings.API_KEY_PEPPER.encode(), text.encode(), hashlib.sha256).hexdigest()


def test_a_live_key_finds_its_team(owner: Membership) -> None:
    _, text = keys.issue(owner.team, name="laptop")
    found = keys.look_up(text)
    assert found
    assert found.team == owner.team


def test_a_revoked_key_opens_nothing(owner: Membership) -> None:
    row, text = keys.issue(owner.team, name="laptop")
    keys.revoke(row)
    assert keys.look_up(text) is None


def test_revoking_twice_keeps_the_first_moment(owner: Membership) -> None:
    row, _ = keys.issue(owner.team, name="laptop")
    keys.revoke(row)
    first = ApiKey.objects.get(pk=row.pk).revoked_at
    keys.revoke(row)
    assert ApiKey.objects.get(pk=row.pk).revoked_at == first


def test_an_expired_key_opens_nothing(owner: Membership) -> None:
    _, text = keys.issue(owner.team, name="laptop", expires_at=timezone.now() - timedelta(seconds=1))
    assert keys.look_up(text) is None


def test_a_key_works_until_it_expires(owner: Membership) -> None:
    _, text = keys.issue(owner.team, name="laptop", expires_at=timezone.now() + timedelta(minutes=1))
    assert keys.look_up(text)


@pytest.mark.parametrize("text", ["", "mp_", "mp_\x00", "mp_ä" * 20, "x" * 10_000, "mp_abcdefgh_" + "a" * 40])
def test_garbled_and_unknown_keys_open_nothing(owner: Membership, text: str) -> None:
    assert keys.look_up(text) is None


def test_use_is_written_down_at_most_once_a_minute(owner: Membership) -> None:
    row, text = keys.issue(owner.team, name="laptop")
    keys.touch(row)
    used = keys.look_up(text)
    assert used
    assert used.last_used_at
    keys.touch(used)
    again = keys.look_up(text)
    assert again
    assert again.last_used_at == used.last_used_at
