"""Every answer says what a browser may do with it, and no page of ours may run a script that stands in it."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from django.test import Client

from accounts.content_policy import CSP, of_page
from tests.security.world import TeamWorld, methods, routes

# What a page may hold: scripts of a file, and data, which is no script.
SCRIPT = re.compile(r"<script(?![^>]*\bsrc=)([^>]*)>")
HANDLER = re.compile(r"<[a-z][^>]*\son[a-z]+=", re.I)


def test_every_route_s_answer_carries_the_policy(ours: TeamWorld) -> None:
    client = ours.client("owner")
    wrong = []
    for route in routes():
        if "get" not in methods(route) or route.name.endswith("stream"):
            continue
        answer = client.get(route.path(ours.ids))
        policy, kind = answer.headers.get(CSP, ""), answer.headers.get("content-type", "")
        is_sealed = "default-src 'none'" in policy and "frame-ancestors 'none'" in policy
        if not is_sealed or answer.headers.get("x-content-type-options") != "nosniff":
            wrong.append((route.name, answer.status_code, policy))
        if kind.startswith("text/html") and _scripts(answer.content.decode()):
            wrong.append((route.name, answer.status_code, "a script stands in the page"))
    assert wrong == []


@pytest.mark.django_db
def test_errors_and_static_files_carry_it_too(client: Client) -> None:
    for path in ("/no-such-page/", "/static/js/portal.js", "/static/icon.svg", "/api/v1/models", "/accounts/login/"):
        assert "default-src 'none'" in client.get(path).headers[CSP], path
    refused = Client(enforce_csrf_checks=True).post("/accounts/login/", {"login": "a@example.com"})
    assert (refused.status_code, "script-src 'self';" in refused.headers[CSP]) == (403, True)


def test_only_the_administration_may_read_expressions() -> None:
    assert "unsafe-eval" in of_page("/admin/accounts/user/")
    for path in ("/", "/models/", "/playground/", "/accounts/login/", "/api/docs", "/administration/"):
        (scripts,) = re.findall(r"script-src ([^;]*);", of_page(path))
        assert scripts == "'self'", path


def test_a_form_leads_elsewhere_for_a_sign_on_alone(settings: Any) -> None:
    app = {"provider_id": "oidc", "settings": {"server_url": "http://sso.local:8080/realms/x"}}
    settings.SOCIALACCOUNT_PROVIDERS = {"openid_connect": {"APPS": [app]}}
    assert "form-action 'self' https: http://sso.local:8080;" in of_page("/accounts/login/")
    assert "form-action 'self';" in of_page("/keys/")


def _scripts(page: str) -> list[str]:
    return list(_inline(page)) + HANDLER.findall(page)


def _inline(page: str) -> Iterator[str]:
    for found in SCRIPT.finditer(page):
        if "application/json" not in found[1]:
            yield found[0]
