"""/healthz says that the process lives; /readyz names what is missing and never fails itself."""

import pytest
from django.core.cache import cache
from django.test import Client, override_settings

from portal.tasks import heartbeat

pytestmark = pytest.mark.django_db

NOWHERE = "redis://127.0.0.1:1/0"


def test_healthz_asks_nobody(client: Client) -> None:
    answer = client.get("/healthz")
    assert (answer.status_code, answer.content) == (200, b"ok\n")


def test_ready_once_a_worker_has_given_a_sign_of_life(client: Client) -> None:
    before = client.get("/readyz")
    assert before.status_code == 503
    assert before.json()["missing"] == ["worker"]
    heartbeat()
    after = client.get("/readyz")
    assert after.status_code == 200
    assert after.json() == {"ready": True, "missing": [], "waking": []}


def test_a_sign_of_life_is_not_believed_for_ever() -> None:
    heartbeat()
    client = cache._cache.get_client()  # type: ignore[attr-defined]
    assert 0 < client.ttl(cache.make_key("portal.heartbeat")) <= 20


@override_settings(CACHES={"default": {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": NOWHERE}})
def test_a_cache_that_is_away_makes_no_error(client: Client) -> None:
    answer = client.get("/readyz")
    assert answer.status_code == 503
    assert "worker" in answer.json()["missing"]


@pytest.mark.django_db(databases=[])
def test_a_database_that_is_away_is_named(client: Client) -> None:
    heartbeat()
    answer = client.get("/readyz")
    assert answer.status_code == 503
    assert answer.json()["missing"] == ["database"]
