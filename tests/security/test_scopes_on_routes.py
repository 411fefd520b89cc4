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
# The key that is asked about has every scope: one with less neither changes nor rotates it.
HOLDS_MORE = {("api-key", "patch"), ("api-key-rotate", "post")}
NO_KEY = {"schema", "docs"}
CLIENT = Client(raise_request_exception=False)
"""One for all: each client reads the middleware, and with it all static files, anew."""


def test_a_key_opens_the_routes_of_its_scope_and_no_other(ours: TeamWorld) -> None:
    wrong = []
    with_it = {scope: _key(ours, [scope]) for scope in Scope.values}
    without = {scope: _key(ours, [other for other in Scope.values if other != scope]) for scope in Scope.values}
    for route in routes():
        if not route.is_api or route.name in NO_KEY:
            continue
        needed = scopes.of_path("/" + route.pattern)
        for method in methods(route):
            may = (route.name, method) not in SIGNED_IN | HOLDS_MORE
            if (_ask(route, method, with_it[needed], ours).status_code != HTTPStatus.FORBIDDEN) != may:
                wrong.append((route.name, method, needed))
            if _ask(route, method, without[needed], ours).status_code != HTTPStatus.FORBIDDEN:
                wrong.append((route.name, method, f"all but {needed}"))
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


def _key(world: TeamWorld, some: list[str]) -> str:
    return keys.issue(world.team, name="+".join(some), scopes=some, created_by=world.people["owner"])[1]


def _ask(route: Route, method: str, key: str, world: TeamWorld) -> HttpResponseBase:
    """With an empty body, and undone again."""
    headers = {"authorization": f"Bearer {key}", "tus-resumable": "1.0.0"}
    kind = {"content_type": "application/json"} if route.is_api and method != "get" else {}
    with transaction.atomic():
        answer: HttpResponseBase = getattr(CLIENT, method)(route.path(world.ids), headers=headers, **kind)
        transaction.set_rollback(True)
    return answer
