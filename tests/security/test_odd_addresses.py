"""Whatever stands in an address, the answer is a clear one."""

from http import HTTPStatus

import pytest
from django.test import Client

from accounts.models import Membership
from tests.factories.accounts import MembershipFactory
from tests.security.world import TeamWorld, methods, routes

# The names that pages and the API read out of an address.
NAMES = (
    "q", "m", "model", "key", "as", "tab", "page", "path", "status", "use", "licence", "publisher", "hardware", "sort",
    "view", "prompt", "version", "with", "name", "since", "until", "from", "to", "month", "actor", "verb", "subject",
    "group_by", "format", "limit", "offset", "repo", "revision", "split", "scope", "deployment", "member", "tag",
    "kind", "after", "volume", "shape", "cursor", "day",
)  # fmt: skip


@pytest.mark.parametrize("odd", ["a%00b", "%ff%ed%a0%80", "9" * 40, "%3Cb%3E%27%22-1"])
def test_no_word_of_an_address_breaks_a_page(odd: str, ours: TeamWorld) -> None:
    client = ours.client("owner")
    query = "&".join(f"{name}={odd}" for name in NAMES)
    wrong = []
    for route in routes():
        if "get" not in methods(route) or route.name == "readyz" or route.name.endswith("stream"):
            continue
        answer = client.get(f"{route.path(ours.ids).split('?')[0]}?{query}")
        if answer.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR or b"<b>'" in answer.getvalue():
            wrong.append((route.name, answer.status_code))
    assert wrong == []


@pytest.fixture
def member(client: Client) -> Membership:
    member = MembershipFactory()
    client.force_login(member.user)
    return member


@pytest.mark.django_db
@pytest.mark.parametrize(
    "address",
    [
        "/models/%00/", "/models/compare?m=%00", "/playground/?model=%00",
        "/deployments/new?model=%00", "/api/v1/models/%00",
    ],
)  # fmt: skip
def test_nothing_has_a_name_with_a_nul(address: str, client: Client, member: Membership) -> None:
    answer = client.get(address)
    assert answer.status_code == HTTPStatus.NOT_FOUND
    kind = "application/problem+json" if address.startswith("/api/") else "text/html"
    assert answer.headers["content-type"].startswith(kind)


@pytest.mark.django_db
def test_nothing_with_a_nul_is_taken(client: Client, member: Membership) -> None:
    answer = client.post("/limits/", {"key": "a\0b"})
    assert answer.status_code == HTTPStatus.BAD_REQUEST
