"""Search, facets and counts of the library; what a process keeps of it in memory."""

from datetime import timedelta
from decimal import Decimal

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts.models import Team
from billing import pricing
from catalog import finding, shelf
from catalog.finding import Found
from catalog.models import Change, Model, Provider
from tests.factories import libraries
from tests.factories.accounts import MembershipFactory, TeamFactory
from tests.factories.catalog import model

pytestmark = pytest.mark.django_db


@pytest.fixture
def team(db: None) -> Team:
    libraries.make()
    return TeamFactory()


def found(team: Team, **asked: str | list[str]) -> Found:
    lists = {name: value if isinstance(value, list) else [value] for name, value in asked.items()}
    return finding.find(team, finding.asked(lists))


def slugs(result: Found) -> list[str]:
    return [result.shelf.items[number].slug for number in result.numbers]


def counts(result: Found, facet: str) -> dict[str, int]:
    return {one.value: one.count for each in result.facets if each.name == facet for one in each.choices}


@pytest.mark.parametrize(
    ("typed", "first"),
    [
        ("smolm2", "smollm2-135m-instruct"),
        ("smo", "smollm2-135m-instruct"),
        ("smol lm", "smollm2-135m-instruct"),
        ("135M", "smollm2-135m-instruct"),
        ("claude opus 4.7", "claude-opus-4.7"),
        ("anthropic 4.7", "claude-opus-4.7"),
        ("opus-4.7", "claude-opus-4.7"),
        ("cluade opus 4.7", "claude-opus-4.7"),
        ("deep seek v4 pro", "deepseek-v4-pro"),
        ("depseek-v4-pro", "deepseek-v4-pro"),
    ],
)
def test_a_name_is_found_by_its_beginnings_and_in_spite_of_slips(team: Team, typed: str, first: str) -> None:
    assert slugs(found(team, q=typed))[0] == first


def test_what_is_only_near_says_so_and_what_is_not_near_names_the_nearest(team: Team) -> None:
    assert found(team, q="smolm2").is_near
    assert not found(team, q="smollm2").is_near
    far = found(team, q="smoxyzqq")
    assert (far.numbers, far.is_near) == ([], False)
    assert far.nearest[0].slug == "smollm2-135m-instruct"


@pytest.mark.parametrize("typed", ["'", "a' & !b", "&|!():*", "\\", "%", "..", "\0x", "ß" * 300, "a " * 100, ":*"])
def test_no_text_breaks_a_search(team: Team, typed: str) -> None:
    assert found(team, q=typed) is not None


def test_the_models_own_name_comes_before_others_that_mention_it(team: Team) -> None:
    smol = model("smollm2-135m-instruct")
    Model.objects.create(
        slug="another", name="Another", publisher="x", openness="open-weight", licence=smol.licence, source="t",
        source_date=smol.source_date, description="Tuned from SmolLM2. SmolLM2, SmolLM2.",
    )  # fmt: skip
    assert slugs(found(team, q="smollm2")) == ["smollm2-135m-instruct", "another"]


def test_a_licence_is_a_word_too(team: Team) -> None:
    names = slugs(found(team, q="apache"))
    assert "smollm2-135m-instruct" in names
    assert "claude-opus-4.7" not in names


def test_each_facets_counts_respect_the_others_and_not_itself(team: Team) -> None:
    everything = found(team)
    anthropic = found(team, publisher="Anthropic")
    assert counts(anthropic, "publisher") == counts(everything, "publisher")
    assert counts(anthropic, "openness") == {"closed": len(anthropic.numbers)}
    both = found(team, publisher="Anthropic", openness="closed")
    for value, count in counts(both, "publisher").items():
        assert count == len(found(team, publisher=value, openness="closed").numbers)


def test_any_value_of_a_facet_will_do_and_all_of_what_it_reads(team: Team) -> None:
    one, other = found(team, publisher="Anthropic"), found(team, publisher="DeepSeek")
    assert len(found(team, publisher=["Anthropic", "DeepSeek"]).numbers) == len(one.numbers) + len(other.numbers)
    both = slugs(found(team, modality=["text", "image"]))
    assert both == slugs(found(team, modality="image"))
    assert set(both) < set(slugs(found(team, modality="text")))


def test_a_count_is_what_choosing_it_shows(team: Team) -> None:
    for facet in found(team, context="128k").facets:
        for choice in facet.choices:
            if facet.name != "context":
                assert len(found(team, context="128k", **{facet.name: choice.value}).numbers) == choice.count, choice


def test_only_what_fits_is_said_to_fit_and_only_here_to_be_ready(team: Team) -> None:
    assert slugs(found(team, hardware="cpu-small")) == ["smollm2-135m-instruct"]
    assert slugs(found(team, available="deploy")) == ["smollm2-135m-instruct"]
    assert slugs(found(team, path="here")) == ["smollm2-135m-instruct"]
    opened = {row.slug for row in Model.objects.filter(openness="open-weight", offers__path="hosted")}
    assert set(slugs(found(team, path="both"))) == opened


def test_a_value_that_does_not_exist_finds_nothing_and_a_facet_that_does_not_is_no_filter(team: Team) -> None:
    assert found(team, licence="none").numbers == []
    assert found(team, licence="none").without == {"licence": Model.objects.count()}
    assert len(found(team, colour="red").numbers) == Model.objects.count()
    assert finding.asked({"sort": ["drop table"]}).sort == "relevance"


def test_it_sorts_by_price_and_context_with_the_unlisted_last(team: Team) -> None:
    shown = found(team, sort="price_in")
    prices = [item.input.amount if item.input else None for item in map(shown.shelf.items.__getitem__, shown.numbers)]
    listed = [price for price in prices if price is not None]
    assert listed == sorted(listed)
    assert prices[: len(listed)] == listed
    longest = found(team, sort="context")
    contexts = [longest.shelf.items[number].context_tokens or 0 for number in longest.numbers]
    assert contexts == sorted(contexts, reverse=True)


def test_every_change_is_seen_by_the_next_search(team: Team) -> None:
    found(team)
    Provider.objects.filter(slug="anthropic").update(sealed_key="x")
    assert "claude-opus-4.7" in slugs(found(team, available="call"))
    Model.objects.filter(slug="claude-opus-4.7").update(name="Zebra 9")
    assert slugs(found(team, q="zebra")) == ["claude-opus-4.7"]
    model("smollm2-135m-instruct").offers.filter(path="deployable").delete()
    assert found(team, available="deploy").numbers == []


def test_a_price_that_comes_into_force_is_seen_when_it_does(team: Team, monkeypatch: pytest.MonkeyPatch) -> None:
    later = timezone.now() + timedelta(hours=1)
    pricing.set_price(
        "hosted:deepseek-v4-pro", meter="tokens.input", amount=Decimal("0.00003"), valid_from=later, source="t",
        source_date=later.date(),
    )  # fmt: skip
    assert "deepseek-v4-pro" not in slugs(found(team, price="10-up"))
    monkeypatch.setattr(timezone, "now", lambda: later + timedelta(seconds=1))
    assert "deepseek-v4-pro" in slugs(found(team, price="10-up"))


def test_another_teams_own_models_are_in_no_result_and_no_count(team: Team) -> None:
    smol, theirs = model("smollm2-135m-instruct"), TeamFactory()
    Model.objects.create(
        slug="secret-tune", name="Secret tune", publisher="Them", openness="own-weights", licence=smol.licence,
        source="t", source_date=smol.source_date, team=theirs,
    )  # fmt: skip
    assert slugs(found(theirs, q="secret")) == ["secret-tune"]
    for asked in ({}, {"q": "secret"}, {"q": "secrettune"}, {"openness": "own-weights"}, {"publisher": "Them"}):
        mine = found(team, **asked)
        assert "secret-tune" not in [*slugs(mine), *(item.slug for item in mine.nearest)]
        assert counts(mine, "publisher").get("Them", 0) == 0


def test_an_unchanged_library_is_read_once(team: Team) -> None:
    found(team)
    with CaptureQueriesContext(connection) as seen:
        found(team, openness="closed")
    assert len(seen) == 1
    assert shelf.current() is shelf.current()


def test_old_changes_are_forgotten_and_none_is_missed_by_it(team: Team) -> None:
    Change.objects.bulk_create(Change() for _ in range(shelf.MOST_CHANGES - Change.objects.count()))
    before = shelf.current()
    shelf.forget_old_changes()
    assert (Change.objects.count(), shelf.current()) == (shelf.MOST_CHANGES, before), "not yet"
    newest = next(iter(Change.objects.bulk_create([Change()])))
    shelf.forget_old_changes()
    assert Change.objects.count() == shelf.CHANGES_KEPT
    assert Change.objects.filter(pk=newest.pk).exists()
    assert shelf.current().stamp != before.stamp
    Model.objects.filter(slug="claude-opus-4.7").update(name="Anew")
    assert slugs(found(team, q="anew")) == ["claude-opus-4.7"]


def test_a_search_asks_few_questions(team: Team, client: Client) -> None:
    client.force_login(MembershipFactory(team=team).user)
    client.get("/models/")
    for address in ("/models/?q=claude", "/models/?q=smolm2&openness=open-weight", "/models/?view=list&sort=name"):
        with CaptureQueriesContext(connection) as seen:
            client.get(address, headers={"hx-request": "true"})
        assert len(seen) <= 8, [query["sql"] for query in seen]


def test_a_search_can_be_sent_to_others(team: Team, client: Client) -> None:
    client.force_login(MembershipFactory(team=team).user)
    answer = client.get("/models/?q=&sort=relevance&publisher=Anthropic", headers={"hx-request": "true"})
    assert answer.headers["hx-replace-url"] == "/models/?publisher=Anthropic"
    page = client.get("/models/?publisher=Anthropic&licence=mit").content.decode()
    assert "Publisher: Anthropic" in page
    assert "without it" in page


def test_the_api_takes_the_pages_filters(team: Team, client: Client) -> None:
    client.force_login(MembershipFactory(team=team).user)
    one = client.get("/api/v1/models?publisher=Anthropic&sort=price_in&limit=2").json()
    assert one["count"] == len(found(team, publisher="Anthropic").numbers)
    assert [row["slug"] for row in one["results"]] == slugs(found(team, publisher="Anthropic", sort="price_in"))[:2]
    assert client.get("/api/v1/models?q=smolm2").json()["results"][0]["slug"] == "smollm2-135m-instruct"


def test_models_are_compared_by_address_and_four_at_most(team: Team, client: Client) -> None:
    client.force_login(MembershipFactory(team=team).user)
    page = client.get("/models/compare?m=claude-opus-4.7&m=deepseek-v4-pro&m=nothing")
    assert [entry.model.slug for entry, _, _ in page.context["columns"]] == ["claude-opus-4.7", "deepseek-v4-pro"]
    assert "not possible: closed weights" in page.content.decode()
    many = "&".join(f"m={row.slug}" for row in Model.objects.all()[:6])
    assert len(client.get(f"/models/compare?{many}").context["columns"]) == 4
    assert "Nothing to compare yet" in client.get("/models/compare").content.decode()
