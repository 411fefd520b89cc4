"""Secrets that a running portal was given stand in no log, page, table, message or answer of it."""

import re
import secrets
from collections.abc import Iterator

import httpx
import psycopg
import pytest
import redis

from tests.calls import api, wait_until
from tests.running import RunningPortal

pytestmark = [pytest.mark.portal, pytest.mark.xdist_group("portal")]
# What a portal needs to run, and whom it has let read it; a secret must stand in what it sent or logged.
KEPT = ("env", "redis", "postgres", "run")
PAGES = ("/", "/keys/", "/team/", "/weights/", "/deployments/", "/requests/", "/budgets/", "/models/claude-opus-4.7/")


def test_no_secret_is_told(running_portal: RunningPortal) -> None:
    client = api(running_portal)
    provider_key, spare = (f"c4n4ry-{secrets.token_hex(8)}" for _ in range(2))
    running_portal.manage("set_provider_key", "anthropic", typed=provider_key)
    key = running_portal.manage("issue_key", "--team", "demo", "--name", "canary").strip()
    door = {"authorization": f"Bearer {key}"}
    body = {"model": "smollm2-135m-instruct", "messages": [{"role": "user", "content": spare}], "max_tokens": 2}
    answer = httpx.post(f"{running_portal.url}/v1/chat/completions", json=body, headers=door, timeout=60)
    assert answer.status_code == 200, answer.text
    made = client.post(
        "/deployments",
        json={
            "model": "smollm2-135m-instruct",
            "hardware": "cpu-small",
            "name": "canary",
            "secrets": {"TOKEN": provider_key},
        },
    )
    assert made.status_code == 201, made.text
    path = f"/deployments/{made.json()['id']}"
    wait_until(lambda: client.get(path).json()["status"] == "ready", seconds=60)
    client.delete(path)
    wait_until(lambda: client.get(path).json()["status"] == "stopped", seconds=30)
    told = {
        provider_key: "the provider's key",
        key: "an API key",
        running_portal.password: "a password",
        spare: "a prompt",
    }
    texts = list(_texts(running_portal))
    named = {place for place, text in texts if "canary" in text}
    assert {"the table accounts_apikey", "/keys/"} <= named, "what is no secret is found, so a secret would be"
    found = [f"{told[secret]} in {place}" for place, text in texts for secret in told if secret in text]
    assert found == []


def _texts(portal: RunningPortal) -> Iterator[tuple[str, str]]:
    """Everything that the portal wrote down or shows: its logs, every table, all of Redis, its pages."""
    for path in portal.data_dir.rglob("*"):
        if (
            path.is_file()
            and path.relative_to(portal.data_dir).parts[0] not in KEPT
            and path.stat().st_size < 5_000_000
        ):
            yield str(path.relative_to(portal.data_dir)), path.read_text(errors="replace")
    with portal.db() as connection:
        names = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
        for (name,) in names:
            rows = connection.execute(psycopg.sql.SQL("SELECT t::text FROM {} t").format(psycopg.sql.Identifier(name)))
            yield f"the table {name}", "\n".join(row[0] for row in rows)
    store = redis.Redis.from_url(_setting(portal, "REDIS_URL"))
    for name in store.scan_iter():
        yield f"Redis {name!r}", f"{name!r} {store.dump(name)!r}"
    with httpx.Client(base_url=portal.url, follow_redirects=True) as pages:
        hidden = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', pages.get("/accounts/login/").text)
        assert hidden
        form = {"login": portal.email, "password": portal.password, "csrfmiddlewaretoken": hidden[1]}
        assert "login" not in str(pages.post("/accounts/login/", data=form, headers={"referer": portal.url}).url)
        for page in PAGES:
            yield page, pages.get(page).text


def _setting(portal: RunningPortal, name: str) -> str:
    line = next(x for x in (portal.data_dir / "env").read_text().splitlines() if x.startswith(f"{name}="))
    return line.partition("=")[2]
