"""The advisor's page and its API: what is said, what is missing, what is refused, and to whom."""

import uuid
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts import keys
from accounts.models import Membership, Role
from billing import traces
from billing.models import Discount, UsageEvent
from catalog import measurements
from catalog.measurements import Figures
from catalog.models import Model
from deployments.advice.traffic import MOST_CALLS
from tests.factories.accounts import MembershipFactory, TeamFactory
from tests.factories.billing import billed, priced
from tests.factories.catalog import hardware, load_starter, model
from tests.factories.deployments import own_weights

pytestmark = pytest.mark.django_db
DEEPSEEK = "/advisor/?model=deepseek-v4-pro&volume=2+B&unit=tokens"
NAME = "8 \N{MULTIPLICATION SIGN} H200 141 GB"
ENTERED = "&price_output=2.78&hour-h200-8=25&reads-h200-8=40000&writes-h200-8=6000&at_once-h200-8=64&start-h200-8=300"


@pytest.fixture(autouse=True)
def starter(db: None) -> None:
    load_starter()


@pytest.fixture
def member() -> Membership:
    return MembershipFactory()


@pytest.fixture
def page(client: Client, member: Membership) -> Client:
    client.force_login(member.user)
    return client


def measured(*, callers: int = 4) -> Model:
    found = model("smollm2-135m-instruct")
    measurements.record(
        Figures(callers, 12, 256, 128, 260.0, 2600.0, 210.0), run=uuid.uuid4(), model=found,
        weights=found.weights.get(), hardware=hardware("cpu-small"), engine="llama_cpp", engine_version="1",
        options={}, disturbed=False, measured_at=timezone.now(),
    )  # fmt: skip
    return found


def text_of(page: Client, address: str, status: int = 200) -> str:
    answer = page.get(address)
    assert answer.status_code == status
    return " ".join(answer.content.decode().split())


def test_a_price_that_is_not_listed_is_named_and_can_be_entered(page: Client) -> None:
    text = text_of(page, DEEPSEEK)
    assert (
        "the price of output tokens is not listed. What is listed of it comes to $2,224 at 2 B tokens a month" in text
    )
    assert 'href="#id_price_output"' in text
    assert "hosts ask from $0.66 to $1.74 per million input tokens, $1.98 to $3.96 output" in text
    assert 'id="figure"' not in text, "no line without all its numbers"
    entered = text_of(page, DEEPSEEK + "&price_output=2.78")
    assert "At 2 B tokens a month hosted costs $3,336" in entered
    assert "entered by you" in entered


def test_with_all_entered_the_break_even_is_said_drawn_and_proved(page: Client) -> None:
    text = text_of(page, DEEPSEEK + ENTERED + "&source-h200-8=a+vendor")
    assert f"At 2 B tokens a month hosted is cheaper: $3,336 against $18,250 for serverless on {NAME}." in text
    assert "becomes cheaper than hosted at 10.9 B tokens a month" in text
    assert 'id="figure"' in text
    assert "No backend of this portal offers it yet" in text
    assert "a vendor" in text


def test_a_speed_needs_its_source(page: Client) -> None:
    text = text_of(page, DEEPSEEK + ENTERED, 400)
    assert "Say where these figures come from." in text


def test_what_was_measured_here_is_compared_without_a_word_entered(page: Client) -> None:
    measured()
    text = text_of(page, "/advisor/?model=smollm2-135m-instruct&volume=2+B")
    assert "1 always-on replica, 730 h a month" in text
    assert "is cheaper: $26.28 against $48.00 hosted." in text
    assert "measured here" in text
    assert "4 callers, 256 tokens in, 128 out" in text


def test_not_measured_draws_no_line_of_its_own(page: Client) -> None:
    text = text_of(page, "/advisor/?model=smollm2-135m-instruct")
    assert "measure_throughput" in text
    assert '"meta": "serverless"' not in text


def test_closed_weights_have_only_the_hosted_path(page: Client) -> None:
    text = text_of(page, "/advisor/?model=claude-opus-4.7&volume=2+B")
    assert "Claude Opus 4.7 can only be hosted. At 2 B tokens a month hosted costs $18,000." in text
    assert "not possible: closed weights" in text
    assert "id_hour-" not in text, "nothing is asked of hardware"


def test_own_weights_have_only_the_other_and_are_nobody_elses(page: Client, member: Membership, tmp_path: Any) -> None:
    mine = own_weights(member.team, tmp_path / "tuned", {"model.gguf": b"GGUF"})
    text = text_of(page, f"/advisor/?model={mine.model.slug}")
    assert "Hosted: not possible: your own weights, nobody else serves them." in text
    others = own_weights(TeamFactory(), tmp_path / "others", {"model.gguf": b"GGUF"})
    assert page.get(f"/advisor/?model={others.model.slug}").status_code == 404
    assert page.get(f"/advisor/brief?model={others.model.slug}").status_code == 404


def test_bad_input_is_said_beside_its_field_and_costs_nothing(page: Client) -> None:
    text = text_of(page, "/advisor/?model=smollm2-135m-instruct&input=-3&volume=x", 400)
    assert "Something in the form is not right." in text
    assert "&#x27;x&#x27; is not a number: write it like 2 B, 350 M or 1,200." in text


def test_an_unknown_model_is_404(page: Client) -> None:
    for slug in ("nothing", "%00", "a" * 300, "../x"):
        text_of(page, f"/advisor/?model={slug}", 404)


def test_extreme_but_possible_numbers_are_reckoned(page: Client) -> None:
    measured()
    for extreme in (
        "volume=10+T&reads-cpu-small=1&writes-cpu-small=1&source-cpu-small=x",
        "volume=1",
        "volume=10+T&peak=100&days=1&minutes=1",
    ):
        text_of(page, f"/advisor/?model=smollm2-135m-instruct&{extreme}")


def test_while_somebody_types_only_the_advice_comes(page: Client) -> None:
    answer = page.get(DEEPSEEK, headers={"hx-request": "true"})
    assert answer.content.decode().strip().startswith('<div id="advice"')
    wrong = page.get(DEEPSEEK + "&input=-3", headers={"hx-request": "true"})
    assert wrong.status_code == 200
    assert "not right" in wrong.content.decode()


def test_without_a_model_one_is_chosen(page: Client) -> None:
    assert 'href="/advisor/?model=deepseek-v4-pro"' in text_of(page, "/advisor/?q=deepseek")
    assert "No model of that name" in text_of(page, "/advisor/?q=zzzz")
    text_of(page, "/advisor/?q=%00")


def test_the_part_for_a_models_page_says_the_answer(page: Client) -> None:
    measured()
    text = text_of(page, "/advisor/brief?model=smollm2-135m-instruct")
    assert "At 100 M tokens a month hosted is cheaper: $2.40 against $26.28" in text


def test_the_page_takes_few_queries_whatever_is_measured(page: Client) -> None:
    measured()
    measured(callers=1)
    with CaptureQueriesContext(
        connection,
    ) as asked:
        page.get("/advisor/?model=smollm2-135m-instruct")
    assert len(asked) <= 12, [one["sql"][:90] for one in asked]


def test_the_last_thirty_days_are_replayed_from_the_ledger(page: Client, member: Membership) -> None:
    measured()
    sku = "hosted:smollm2-135m-instruct"
    for hours in (1, 30, 200, 24 * 31):
        billed(member.team, {"tokens.input": 1_000_000, "tokens.output": 500_000}, sku=sku,
               started_at=timezone.now() - timedelta(hours=hours))  # fmt: skip
    billed(TeamFactory(), sku=sku, started_at=timezone.now() - timedelta(hours=2))
    text = text_of(page, "/advisor/?model=smollm2-135m-instruct&shape=trace")
    assert "3 in 30 days" in text
    assert "At 4.5 M tokens a month" in text
    assert "$0.12" in text, "3 x (1 M x $0.02 + 0.5 M x $0.04) / M"
    assert "nothing to replay" in text_of(page, "/advisor/?model=claude-opus-4.7&shape=trace")
    assert "3 in 30 days" in text_of(page, "/advisor/?model=claude-opus-4.7&shape=trace-all")


def test_a_long_trace_is_put_together_by_the_hour_and_costs_the_same_hosted(member: Membership) -> None:
    now = timezone.now()
    UsageEvent.objects.bulk_create(
        UsageEvent(
            id=uuid.uuid4(), team=member.team, started_at=now - timedelta(minutes=5 * n), ended_at=now, recorded_at=now,
            path="hosted", sku="hosted:x", source="x", model_name="X", quality="measured", cost=0,
            quantities={"tokens.input": "100", "tokens.output": "7"},
        )
        for n in range(1, 201)
    )  # fmt: skip
    asked: dict[str, Any] = {"begins": now - timedelta(days=30), "ends": now, "sku": "hosted:x", "model_name": "X"}
    each = traces.of(member.team, most=MOST_CALLS, **asked)
    hours = traces.of(member.team, most=100, **asked)
    assert (len(each.moments), each.by_hour, hours.by_hour) == (200, False, True)
    assert sum(one.calls for one in hours.moments) == 200
    assert len(hours.moments) < 20
    for meter in ("tokens.input", "tokens.output"):
        assert sum(one.quantities[meter] for one in hours.moments) == sum(one.quantities[meter] for one in each.moments)


def test_programs_get_the_same_answer_in_exact_decimals(client: Client, member: Membership) -> None:
    measured()
    _, key = keys.issue(member.team, name="ci", created_by=member.user)
    asked = {"model": "smollm2-135m-instruct", "tokens_per_month": "2 B", "shape": "office"}
    answer = client.post("/api/v1/advice", asked, "application/json", headers={"authorization": f"Bearer {key}"})
    assert answer.status_code == 200
    body = answer.json()
    hosted, asleep, always = body["ways"][:3]
    assert (hosted["way"], hosted["usd_per_month"]) == ("hosted", "48")
    assert [line["amount"] for line in hosted["lines"]] == ["32", "16"]
    assert asleep["hardware"] == "cpu-small"
    assert (asleep["usd_per_month"], asleep["not_known"]) == (
        None,
        ["how long a start takes on CPU small is not measured"],
    )
    assert Decimal(always["usd_per_month"]) == sum(Decimal(line["amount"]) for line in always["lines"])
    assert body["ways"][body["cheapest"]]["usd_per_month"] is not None
    assert "At 2 B tokens a month" in body["answer"]
    assert {"of": "cpu-small", "label": "Writes", "value": "210 tokens/s"}.items() <= next(
        one for one in body["assumptions"] if one["label"] == "Writes"
    ).items()


def test_the_team_pays_less_a_discount_there_too(page: Client, member: Membership) -> None:
    Discount.objects.create(
        team=member.team, pattern="hosted:*", percent=Decimal(25), valid_from=timezone.now(), reason="x", agreed_by="x"
    )
    text = text_of(page, "/advisor/?model=claude-opus-4.7&volume=2+B")
    assert "$13,500" in text
    assert "25 %" in text


def test_every_role_may_ask_and_strangers_may_not(client: Client) -> None:
    asked = {"model": "claude-opus-4.7"}
    assert client.get("/advisor/").status_code == 302
    assert client.post("/api/v1/advice", asked, "application/json").status_code == 401
    client.force_login(MembershipFactory(role=Role.VIEWER).user)
    assert client.post("/api/v1/advice", asked, "application/json").status_code == 200


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"tokens_per_month": "x"}, "tokens_per_month"),
    ({"calls_per_month": "1", "tokens_per_month": "1"}, "calls_per_month"),
    ({"prices": {"zz": "1"}}, "prices"),
    ({"prices": {"tokens.output": "-1"}}, "prices.tokens.output"),
    ({"hardware": [{"hardware": "abacus"}]}, "hardware"),
    ({"hardware": [{"hardware": "h100", "reads_tokens_per_s": 7}]}, "hardware.h100.writes_tokens_per_s"),
    ({"shape": "round"}, "shape"),
    ({"input_tokens": -1}, "input_tokens"),
]


def test_the_api_names_what_is_wrong_as_a_problem(client: Client) -> None:
    client.force_login(MembershipFactory().user)
    for change, field in WRONG:
        answer = client.post("/api/v1/advice", {"model": "deepseek-v4-pro"} | change, "application/json")
        assert answer.status_code == 400, change
        assert answer["content-type"] == "application/problem+json"
        assert field in answer.json()["errors"]


def test_another_teams_model_is_404_for_programs_too(client: Client, tmp_path: Any) -> None:
    others = own_weights(TeamFactory(), tmp_path / "others", {"model.gguf": b"GGUF"})
    client.force_login(MembershipFactory().user)
    assert client.post("/api/v1/advice", {"model": others.model.slug}, "application/json").status_code == 404


def test_entered_prices_are_no_prices_of_the_portal(page: Client) -> None:
    priced("hosted:deepseek-v4-pro", tokens_input="0.000001")
    text_of(page, DEEPSEEK + "&price_input=99&price_output=99")
    assert "99" not in text_of(page, "/models/deepseek-v4-pro/").split("<main")[1][:3000]
