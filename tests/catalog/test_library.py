"""The starter catalog, its pages and its API."""

import io
import sys
from decimal import Decimal

import pytest
from django.core.management import call_command
from django.test import Client

from accounts import keys
from accounts.models import Team
from billing import pricing
from billing.models import Price
from catalog import advisor, offers
from catalog.models import Model, Offer, Provider
from tests.factories.accounts import MembershipFactory, TeamFactory
from tests.factories.catalog import load_starter, model

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def starter(db: None) -> None:
    load_starter()


@pytest.fixture
def page(client: Client) -> Client:
    client.force_login(MembershipFactory().user)
    return client


def per_million(slug: str) -> dict[str, Decimal]:
    return {meter: (amount * 1_000_000).normalize() for meter, amount in pricing.prices_at(f"hosted:{slug}").items()}


def test_it_holds_sixty_real_models_each_with_its_source() -> None:
    assert Model.objects.count() >= 60
    assert not Model.objects.filter(source="").exists()
    assert not Price.objects.filter(source="").exists()
    assert Model.objects.values("publisher").distinct().count() >= 8


def test_loading_twice_changes_nothing() -> None:
    before = list(Price.objects.order_by("pk").values_list("pk", flat=True)), Offer.objects.count()
    load_starter()
    call_command("load_catalog", stdout=io.StringIO())
    assert before == (list(Price.objects.order_by("pk").values_list("pk", flat=True)), Offer.objects.count())


def test_the_three_that_the_mission_names_are_exactly_right() -> None:
    opus = model("claude-opus-4.7")
    assert (opus.name, opus.openness) == ("Claude Opus 4.7", "closed")
    assert per_million("claude-opus-4.7")["tokens.input"] == 5
    assert per_million("claude-opus-4.7")["tokens.output"] == 25
    deepseek = model("deepseek-v4-pro")
    assert (deepseek.openness, deepseek.licence.spdx_id) == ("open-weight", "MIT")
    assert per_million("deepseek-v4-pro")["tokens.input"] == Decimal("1.39")
    smol = model("smollm2-135m-instruct")
    assert (smol.openness, smol.licence.spdx_id) == ("open-weight", "Apache-2.0")
    deployable = offers.deployable_offer(smol)
    assert deployable
    assert [hardware.slug for hardware in deployable.hardware.all()] == ["cpu-small"]
    assert smol.offers.get(path="hosted").provider_id == "platform"


def test_a_price_that_no_source_gives_is_not_listed(page: Client) -> None:
    assert "tokens.output" not in per_million("deepseek-v4-pro")
    assert "Output price: not listed" in page.get("/models/deepseek-v4-pro/").content.decode()


def test_closed_weights_show_why_they_cannot_be_deployed(page: Client) -> None:
    text = page.get("/models/claude-opus-4.7/").content.decode()
    assert "Not possible: closed weights" in text
    assert "Anthropic has no key set on this portal" in text
    assert "/deployments/new" not in text


def test_the_library_finds_by_words_and_facets(page: Client) -> None:
    assert page.get("/models/?q=smollm2").context["page"].paginator.count == 1
    assert page.get("/models/?q=anthropic+opus+4.7").context["page"].paginator.count == 1
    assert page.get("/models/?available=deploy").context["page"].paginator.count == 1
    assert "No model has all of that" in page.get("/models/?q=nothing-like-this").content.decode()
    opened = page.get("/models/?openness=open-weight").context["page"].paginator.count
    assert opened == Model.objects.filter(openness="open-weight").count()


def test_the_library_takes_few_queries_whatever_the_rows(page: Client, django_assert_max_num_queries: object) -> None:
    page.get("/models/")
    with django_assert_max_num_queries(16):  # type: ignore[operator]
        page.get("/models/")


def test_only_what_htmx_asks_for_is_rendered(page: Client) -> None:
    text = page.get("/models/?q=glm", headers={"hx-request": "true"}).content.decode()
    assert "<html" not in text
    assert "GLM-5" in text


def test_the_api_gives_exact_prices_and_reasons(client: Client) -> None:
    _, key = keys.issue(TeamFactory(), name="k")
    headers = {"authorization": f"Bearer {key}"}
    found = client.get("/api/v1/models/claude-opus-4.7", headers=headers).json()
    hosted, serverless = found["offers"]
    assert hosted["prices"][0] | {"source": "", "source_date": ""} == {
        "meter": "tokens.input", "unit_price": "0.000005", "quoted_price": "5", "quoted": "per M input tokens",
        "currency": "USD", "source": "", "source_date": "",
    }  # fmt: skip
    assert serverless == {
        "path": "serverless", "available": False, "reason": "not possible: closed weights", "prices": []
    }  # fmt: skip
    assert client.get("/api/v1/models?q=smollm2", headers=headers).json()["count"] == 1
    assert client.get("/api/v1/models").status_code == 401
    missing = client.get("/api/v1/models/none", headers=headers)
    assert (missing.status_code, missing.headers["content-type"]) == (404, "application/problem+json")


def test_another_teams_own_weights_do_not_exist_here(page: Client) -> None:
    smol = model("smollm2-135m-instruct")
    Model.objects.create(
        slug="theirs", name="Theirs", publisher="x", openness="own-weights", licence=smol.licence, source="t",
        source_date=smol.source_date, team=TeamFactory(),
    )  # fmt: skip
    assert page.get("/models/theirs/").status_code == 404


def test_a_providers_key_is_kept_sealed_and_never_shown(page: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("sk-very-secret\n"))
    call_command("set_provider_key", "anthropic", stderr=io.StringIO())
    row = Provider.objects.get(slug="anthropic")
    assert "sk-very-secret" not in row.sealed_key
    route = next(route for route in offers.hosted_routes() if route.model_slug == "claude-opus-4.7")
    assert (route.api_key, route.callable_now) == ("sk-very-secret", True)
    assert "sk-very-secret" not in repr(route)
    assert "sk-very-secret" not in page.get("/models/claude-opus-4.7/").content.decode()


def test_the_platform_team_is_there_once() -> None:
    load_starter()
    assert Team.objects.filter(is_platform=True).count() == 1


@pytest.mark.parametrize(
    ("openness", "has_key", "has_weights", "hosted", "deployable"),
    [
        ("closed", True, False, True, False),
        ("closed", False, False, False, False),
        ("open-weight", True, True, True, True),
        ("open-weight", True, False, True, False),
    ],
)
def test_which_path_is_open(openness: str, has_key: bool, has_weights: bool, hosted: bool, deployable: bool) -> None:
    facts = advisor.Facts(openness, "P", "Provider", has_key, True, has_weights, True)
    assert advisor.hosted(facts).is_open is hosted
    assert advisor.deployable(facts).is_open is deployable
    assert advisor.hosted(facts).reason
    assert advisor.deployable(facts).reason
