"""Scope x route over the whole management API: a key opens the routes of its scope, and no page."""

from http import HTTPStatus

from django.db import transaction
from django.http import HttpResponseBase
from django.test import Client

from accounts import keys, scopes
from accounts.models import Scope
from tests.security.world import Route, TeamWorld, methods, routes

# What only people may, signed in: no key may widen itself.
SIGNED_IN = {("api-budgets", "post"), ("api-budget", "put"), ("api-budget", "delete"), ("api-licence-policy", "patch")}
NO_KEY = {"schema", "docs"}


def test_a_key_opens_the_routes_of_its_scope_and_no_other(ours: TeamWorld) -> None:
    wrong = []
    texts = {scope: keys.issue(ours.team, name=scope, scopes=[scope], created_by=ours.people["owner"])[1]
             for scope in Scope.values}  # fmt: skip
    for route in routes():
        if not route.is_api or route.name in NO_KEY:
            continue
        needed = scopes.of_path("/" + route.pattern)
        for method in methods(route):
            for scope, text in texts.items():
                may = scope == needed and (route.name, method) not in SIGNED_IN
                if (_ask(route, method, text, ours).status_code != HTTPStatus.FORBIDDEN) != may:
                    wrong.append((route.name, method, scope))
    assert wrong == []


def test_a_key_with_every_scope_opens_no_page(ours: TeamWorld) -> None:
    public = {"healthz", "readyz", "join", "join-link"}
    opened = [
        (route.name, method)
        for route in routes()
        for method in methods(route)
        if not route.is_api and route.name not in public
        if _ask(route, method, ours.key, ours).status_code not in {HTTPStatus.FOUND, HTTPStatus.UNAUTHORIZED}
    ]
    assert opened == []


def _ask(route: Route, method: str, key: str, world: TeamWorld) -> HttpResponseBase:
    client = Client(raise_request_exception=False, headers={"authorization": f"Bearer {key}", "tus-resumable": "1.0.0"})
    kind = {"content_type": "application/json"} if route.is_api and method != "get" else {}
    with transaction.atomic():
        answer: HttpResponseBase = getattr(client, method)(route.path(world.ids), **kind)
        transaction.set_rollback(True)
    return answer
