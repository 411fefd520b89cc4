"""Who may do what, over every URL: role x route, another team's ids, and nobody at all.

A route that ROUTES does not name fails the first test, so a new page says here who may use it. What may be done is
tried with an empty body: whoever may not is refused before it is read; whoever may gets any other answer.
"""

import logging
from collections.abc import Iterator
from http import HTTPStatus

import pytest
from django.db import transaction
from django.http import HttpResponseBase
from django.test import Client

from accounts.models import Role
from tests.security.world import Route, TeamWorld, methods, routes

EVERYONE = frozenset(Role.values)
MAKERS = frozenset({"owner", "admin", "developer"})
MANAGERS = frozenset({"owner", "admin"})
KEEPERS = frozenset({"owner", "admin", "billing"})
NOBODY: frozenset[str] = frozenset()  # whom the portal itself trusts: staff alone; to the rest there is no such page

# name -> who may read, who may write
READ = (EVERYONE, NOBODY)
WORK = (EVERYONE, MAKERS)
WORKSHOP = (MAKERS, MAKERS)
MONEY = (EVERYONE, KEEPERS)
SAFE = (KEEPERS, KEEPERS)
HOUSE = (EVERYONE, MANAGERS)
OWN = (EVERYONE, EVERYONE)
STAFF = (NOBODY, NOBODY)
PUBLIC = {"healthz", "readyz", "schema", "docs", "join", "join-link"}
# One person's alone, whatever their role; and the page that a team sends those to who lack a second factor.
PERSONAL = {"playground-answer-again", "playground-answer-stop", "two-factor-required"}
# A link that was mailed; and answers, which are their asker's alone (tests/playground/test_answers.py).
NO_TEAMS = {"join-link", "playground-answer-stop", "playground-answer-again"}
ROUTES = {
    "home": READ,
    "team": READ,
    "team-edit": HOUSE,
    "team-new": OWN,
    "team-switch": OWN,
    "team-two-factor": HOUSE,
    "team-leave": OWN,
    "member-role": HOUSE,
    "member-remove": (MANAGERS, MANAGERS),
    "invite": HOUSE,
    "invitation-resend": HOUSE,
    "invitation-revoke": HOUSE,
    "audit": (MANAGERS, NOBODY),
    "audit-csv": (MANAGERS, NOBODY),
    "keys": WORK,
    "key-detail": WORK,
    "key-rotate": WORK,
    "key-revoke": WORK,
    "model-list": READ,
    "model-detail": READ,
    "model-compare": READ,
    "advisor": READ,
    "advisor-brief": READ,
    "weights-list": READ,
    "weights-import": WORK,
    "hub-token": WORK,
    "hub-token-remove": WORK,
    "weights-detail": READ,
    "weights-notes": WORK,
    "weights-terms": WORK,
    "weights-retry": WORK,
    "weights-remove": WORK,
    "weights-upload": READ,
    "draft-bases": READ,
    "draft-detail": READ,
    "draft-finish": WORK,
    "draft-give-up": WORK,
    "deployment-list": READ,
    "deployment-list-stream": READ,
    "deploy-new": WORKSHOP,
    "deployment-detail": READ,
    "deployment-logs": READ,
    "deployment-versions": READ,
    "deployment-cost": READ,
    "deployment-stream": READ,
    "deployment-log-more": READ,
    "deployment-log-text": READ,
    "deployment-next-step": WORK,
    "deployment-settings": WORKSHOP,
    "deployment-rollback": WORK,
    "deployment-stop": WORK,
    "deployment-retry": WORK,
    "prompt-set-list": READ,
    "prompt-set-new": WORKSHOP,
    "prompt-set": WORK,
    "prompt-set-remove": WORK,
    "platform-measure": STAFF,
    "deployment-validation": WORK,
    "deployment-validate": WORK,
    "deployment-measure": WORK,
    "validation-report": READ,
    "validation-call-off": WORK,
    "playground": READ,
    "playground-ask": WORK,
    "playground-answer": WORK,
    "playground-models": READ,
    "playground-check": OWN,
    "prompt-list": READ,
    "prompt-save": WORK,
    "prompt-detail": READ,
    "prompt-save-version": WORK,
    "prompt-change": HOUSE,
    "prompt-delete": HOUSE,
    "prompt-restore": WORK,
    "costs": READ,
    "costs-idle": READ,
    "costs-filters": READ,
    "costs-chart-csv": READ,
    "costs-rows": READ,
    "costs-rows-csv": READ,
    "invoices": READ,
    "invoice-settings": MONEY,
    "invoice": READ,
    "invoice-pdf": READ,
    "reconciliation": STAFF,
    "reconciliation-report": STAFF,
    "statement-csv": READ,
    "statement-parquet": READ,
    "alias-list": READ,
    "alias-new": WORKSHOP,
    "alias-edit": WORKSHOP,
    "alias-delete": WORK,
    "limits": HOUSE,
    "budget-list": READ,
    "budget-new": SAFE,
    "budget-edit": SAFE,
    "budget-delete": MONEY,
    "alerts-set": MONEY,
    "alerts-test": MONEY,
    "alerts-secret": MONEY,
    "licences": HOUSE,
    "licence-agree": WORK,
    "request-list": READ,
    "request-detail": READ,
    "prompt-logging": HOUSE,
    "request-csv": READ,
    "api-aliases": WORK,
    "api-alias": WORK,
    "api-budgets": MONEY,
    "api-budget": MONEY,
    "api-audit": (MANAGERS, NOBODY),
    "api-members": READ,
    "api-member": HOUSE,
    "api-invitations": (MANAGERS, MANAGERS),
    "api-invitation": (MANAGERS, MANAGERS),
    "api-invitation-resend": (MANAGERS, MANAGERS),
    "api-keys": WORK,
    "api-key": WORK,
    "api-key-rotate": WORK,
    "api-licences": READ,
    "api-licence-policy": HOUSE,
    "api-licence-agreements": WORK,
    "api-advice": OWN,
    "api-models": READ,
    "api-model-measurements": WORK,
    "api-model": READ,
    "api-uploads": WORK,
    "api-upload": WORK,
    "api-drafts": READ,
    "api-draft": WORK,
    "api-draft-finish": WORK,
    "api-weights": READ,
    "api-imports": WORK,
    "api-import-preflight": WORK,
    "api-hub-token": WORK,
    "api-weights-detail": WORK,
    "api-weights-retry": WORK,
    "api-deployments": WORK,
    "api-deployment": WORK,
    "api-deployment-rollback": WORK,
    "api-deployment-versions": READ,
    "api-deployment-events": READ,
    "api-deployment-logs": READ,
    "api-prompt-sets": WORK,
    "api-prompt-set": WORK,
    "api-validation-plan": WORK,
    "api-validations": WORK,
    "api-validation": WORK,
    "api-throughputs": WORK,
    "api-throughput": READ,
    "api-usage": READ,
    "api-statement": READ,
}
PAGES = [route for route in routes() if not route.is_api]
API = [route for route in routes() if route.is_api]


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Hundreds of refusals are not news."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def test_every_route_says_who_may_use_it() -> None:
    assert {route.name for route in routes()} == set(ROUTES) | PUBLIC | PERSONAL
    assert "" not in ROUTES


@pytest.mark.parametrize("some", [PAGES, API], ids=["pages", "api"])
def test_a_role_may_what_its_route_says_and_no_more(some: list[Route], ours: TeamWorld) -> None:
    clients = {role: ours.client(role) for role in Role.values}
    wrong = []
    for route in some:
        if route.name in PERSONAL:
            continue
        for method in methods(route):
            may = ROUTES[route.name][method not in {"get", "head"}] if route.name in ROUTES else EVERYONE
            for role, client in clients.items():
                status = _ask(client, route, method, ours).status_code
                if status >= HTTPStatus.INTERNAL_SERVER_ERROR and route.name != "readyz":
                    wrong.append((route.name, method, role, status))
                refused = status == HTTPStatus.FORBIDDEN or (status == HTTPStatus.NOT_FOUND and may == NOBODY)
                if refused == (role in may):
                    wrong.append((route.name, method, role, status))
    assert wrong == []


def test_another_teams_id_is_not_there_for_anybody(ours: TeamWorld, theirs: TeamWorld) -> None:
    clients = [ours.client("owner"), ours.client("viewer")]
    wrong = []
    for route in routes():
        if not route.has_ids or route.kinds == {"month"} or route.name in NO_TEAMS:
            continue
        for method in methods(route):
            for client in clients:
                status = _ask(client, route, method, theirs).status_code
                # Who may not write at all is told so; of what is there, that says nothing.
                told = {HTTPStatus.NOT_FOUND, HTTPStatus.FORBIDDEN} if client is clients[1] else {HTTPStatus.NOT_FOUND}
                if status not in told:
                    wrong.append((route.name, method, status))
    assert wrong == []


def test_nobody_sees_nothing(ours: TeamWorld) -> None:
    client = Client(raise_request_exception=False)
    wrong = []
    for route in routes():
        for method in methods(route):
            answer = _ask(client, route, method, ours)
            to_login = answer.status_code == HTTPStatus.FOUND and answer["location"].startswith("/accounts/login/")
            open_door = to_login or answer.status_code == HTTPStatus.UNAUTHORIZED
            if open_door == (route.name in PUBLIC):
                wrong.append((route.name, method, answer.status_code))
    assert wrong == []


def test_a_write_needs_its_token(ours: TeamWorld) -> None:
    client = Client(enforce_csrf_checks=True, raise_request_exception=False)
    client.force_login(ours.people["owner"])
    wrong = [
        (route.name, method)
        for route in routes()
        for method in methods(route)
        if method != "get" and _ask(client, route, method, ours).status_code != HTTPStatus.FORBIDDEN
    ]
    assert wrong == []


def _ask(client: Client, route: Route, method: str, world: TeamWorld) -> HttpResponseBase:
    """With an empty body, and undone again."""
    with transaction.atomic():
        kind = {"content_type": "application/json"} if route.is_api and method != "get" else {}
        answer: HttpResponseBase = getattr(client, method)(
            route.path(world.ids), headers={"tus-resumable": "1.0.0"}, **kind
        )
        transaction.set_rollback(True)
    return answer
