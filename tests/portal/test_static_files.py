"""Pages are light, and what they load is kept by browsers for ever."""

import re

import pytest
from django.test import Client
from django.urls import reverse

from accounts import keys
from accounts.models import Team
from tests.factories import libraries
from tests.factories.accounts import MembershipFactory

LINK = re.compile(r'(?:href|src)="(/static/[^"]+)"')
LIGHT = 150_000
PAGES = [
    "home", "model-list", "model-compare", "weights-list", "deployment-list", "playground", "costs", "keys", "team",
    "request-list", "alias-list", "limits", "budget-list", "prompt-set-list",
]  # fmt: skip


@pytest.fixture
def page(client: Client, db: None) -> Client:
    libraries.make()
    member = MembershipFactory()
    keys.issue(Team.objects.get(pk=member.team_id), name="k")
    client.force_login(member.user)
    return client


def test_no_page_is_heavy_before_plotly(page: Client) -> None:
    addresses = [reverse(name) for name in PAGES]
    addresses += [f"/models/smollm2-135m-instruct/?tab={tab}" for tab in ("overview", "use", "versions", "licence")]
    sizes: dict[str, int] = {}
    for address in addresses:
        text = page.get(address).content
        loaded = {link for link in LINK.findall(text.decode()) if "plotly" not in link}
        for link in loaded - sizes.keys():
            sizes[link] = len(b"".join(page.get(link).streaming_content))  # type: ignore[attr-defined]
        weight = len(text) + sum(sizes[link] for link in loaded)
        assert weight < LIGHT, f"{address} weighs {weight}: {len(text)} and {loaded}"


def test_what_a_page_loads_may_be_kept_for_ever_and_changes_its_name_with_its_content(page: Client) -> None:
    links = LINK.findall(page.get("/models/").content.decode())
    assert any("css/portal." in link for link in links)
    for link in links:
        answer = page.get(link)
        assert answer.status_code == 200, link
        assert "immutable" in answer.headers["cache-control"], link
    plain = page.get("/static/css/portal.css")
    assert plain.status_code == 200
    assert "immutable" not in plain.headers["cache-control"]
    assert page.get("/static/css/portal.000000000000.css").status_code == 404
