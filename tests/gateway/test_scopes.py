"""A key without the scope `models` calls nothing, in each API's own words; a change is noticed within seconds."""

import time
from datetime import timedelta

import httpx
import pytest

from accounts import keys
from accounts.models import ApiKey
from tests.gateway.conftest import Gateway

pytestmark = pytest.mark.django_db(transaction=True)


def _asked(gateway: Gateway, key: str, path: str = "/v1/models", **headers: str) -> httpx.Response:
    return httpx.get(f"{gateway.url}{path}", headers={"authorization": f"Bearer {key}"} | headers)


def test_a_key_without_the_scope_is_refused_in_the_api_s_own_shape(gateway: Gateway) -> None:
    _, key = keys.issue(gateway.team, name="bookkeeper", scopes=["billing"])
    answer = _asked(gateway, key)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["type"]) == (403, "missing_scope", "invalid_request_error")
    assert "`models`" in error["message"]
    answer = _asked(gateway, key, **{"anthropic-version": "2023-06-01"})
    assert (answer.status_code, answer.json()["error"]["type"]) == (403, "permission_error")


def test_keys_that_are_known_lose_what_is_taken_from_them(gateway: Gateway) -> None:
    revoked, first = keys.issue(gateway.team, name="a")
    narrowed, second = keys.issue(gateway.team, name="b", scopes=["models"])
    rotated, third = keys.issue(gateway.team, name="c")
    assert [_asked(gateway, key).status_code for key in (first, second, third)] == [200, 200, 200]
    keys.revoke(revoked)
    ApiKey.objects.filter(pk=narrowed.pk).update(scopes=["billing"])
    fresh = keys.rotate(rotated, overlap=timedelta(0))
    assert _asked(gateway, fresh).status_code == 200
    wanted, seen = [401, 403, 401], [200]
    for _ in range(100):
        seen = [_asked(gateway, key).status_code for key in (first, second, third)]
        if seen == wanted:
            break
        time.sleep(0.1)
    assert seen == wanted
