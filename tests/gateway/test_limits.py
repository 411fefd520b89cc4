"""Requests and tokens a minute, calls at a time: counted by all gateways together; a refusal says how long to wait."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import anthropic
import httpx
import pytest
from django.db.models import Sum
from openai import OpenAI, RateLimitError

from accounts.models import ApiKey
from billing.models import Budget, LedgerEntry, Reservation, Spend
from gateway.models import Limits
from tests.gateway.conftest import Gateway, serving

pytestmark = pytest.mark.django_db(transaction=True)
ASK: list[Any] = [{"role": "user", "content": "Count to three."}]


def test_requests_a_minute_hold_across_two_gateways(gateway: Gateway) -> None:
    Limits.objects.create(team=gateway.team, requests_per_minute=10)
    with serving() as second, ThreadPoolExecutor(20) as pool:
        urls = [gateway.url, second] * 15
        statuses = Counter(pool.map(lambda url: _post(url, gateway.key).status_code, urls))
    assert set(statuses) == {200, 429}
    assert 10 <= statuses[200] <= 12, "a limit of ten lets ten through, and what refills while the test runs"
    assert len(gateway.provider.calls) == statuses[200]


def test_a_refusal_says_when_to_come_back_and_an_answer_what_is_left(gateway: Gateway) -> None:
    Limits.objects.create(team=gateway.team, requests_per_minute=2)
    first = _post(gateway.url, gateway.key)
    assert (first.headers["x-ratelimit-limit-requests"], first.headers["x-ratelimit-remaining-requests"]) == ("2", "1")
    _post(gateway.url, gateway.key)
    refused = _post(gateway.url, gateway.key)
    error = refused.json()["error"]
    assert (refused.status_code, error["code"], error["type"]) == (429, "rate_limit_exceeded", "rate_limit_error")
    assert 1 <= int(refused.headers["retry-after"]) <= 31
    assert refused.headers["x-ratelimit-remaining-requests"] == "0"
    assert Reservation.objects.count() == 2


def test_tokens_a_minute_are_put_right_when_the_call_ends(gateway: Gateway) -> None:
    Limits.objects.create(team=gateway.team, tokens_per_minute=1000)
    for _ in range(5):  # each asks for 900 and uses 14
        assert _post(gateway.url, gateway.key, max_tokens=900).status_code == 200
    left = int(_post(gateway.url, gateway.key, max_tokens=1).headers["x-ratelimit-remaining-tokens"])
    assert 880 <= left < 1000


def test_asking_for_more_tokens_than_the_limit_is_no_way_around_it(gateway: Gateway) -> None:
    Limits.objects.create(team=gateway.team, tokens_per_minute=1000)
    answers = [_post(gateway.url, gateway.key, model="greedy", max_tokens=9000) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 429, 429]
    assert int(answers[1].headers["retry-after"]) > 400, "nine minutes' worth was used"


def test_calls_at_a_time_are_capped_for_a_key_and_given_back(gateway: Gateway) -> None:
    key = ApiKey.objects.get(team=gateway.team)
    Limits.objects.create(team=gateway.team, api_key=key, concurrency=2)
    with serving() as second, ThreadPoolExecutor(6) as pool:
        urls = [gateway.url, second] * 3
        answers = list(pool.map(lambda url: _post(url, gateway.key, model="slow"), urls))
    statuses = Counter(answer.status_code for answer in answers)
    assert statuses == {200: 2, 429: 4}
    assert any("at a time of this key" in answer.text for answer in answers)
    assert _post(gateway.url, gateway.key).status_code == 200


def test_while_redis_is_away_calls_go_through(gateway: Gateway, settings: Any) -> None:
    Limits.objects.create(team=gateway.team, requests_per_minute=1)
    settings.REDIS_URL = "redis://127.0.0.1:1/0"
    with serving() as url:
        answers = [_post(url, gateway.key) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 200]
    assert not any("x-ratelimit-limit-requests" in answer.headers for answer in answers)


@pytest.mark.parametrize("max_tokens", [400, None])
def test_five_hundred_calls_at_once_stay_under_a_dollar(gateway: Gateway, max_tokens: int | None) -> None:
    Budget.objects.create(team=gateway.team, usd=Decimal(1))
    more = {"max_tokens": max_tokens} if max_tokens else {}
    with serving() as second, ThreadPoolExecutor(50) as pool:
        urls = [gateway.url, second] * 250
        statuses = Counter(pool.map(lambda url: _post(url, gateway.key, model="greedy", **more).status_code, urls))
    assert set(statuses) == {200, 429}
    spent = LedgerEntry.objects.aggregate(total=Sum("amount"))["total"]
    assert Decimal("0.85") < spent <= 1
    spend = Spend.objects.get()
    assert (spend.settled, spend.held) == (spent, 0)
    billed = LedgerEntry.objects.filter(meter="tokens.output").aggregate(total=Sum("quantity"))["total"]
    assert billed == gateway.provider.metered["tokens.output"]


def test_a_keys_own_budget_is_kept_too(gateway: Gateway) -> None:
    key = ApiKey.objects.get(team=gateway.team)
    Budget.objects.create(team=gateway.team, scope="key", subject=str(key.pk), usd=Decimal("0.05"))
    answers = [_post(gateway.url, gateway.key, model="greedy", max_tokens=800) for _ in range(4)]
    assert [answer.status_code for answer in answers] == [200, 200, 429, 429]
    assert answers[-1].json()["error"]["code"] == "insufficient_quota"
    assert answers[-1].headers["x-should-retry"] == "false"


def test_an_sdk_sees_both_kinds_of_429_for_what_they_are(gateway: Gateway) -> None:
    Limits.objects.create(team=gateway.team, requests_per_minute=1)
    client: OpenAI = gateway.client
    client.chat.completions.create(model="good", messages=ASK)
    with pytest.raises(RateLimitError) as failure:
        client.chat.completions.create(model="good", messages=ASK)
    assert failure.value.code == "rate_limit_exceeded"
    with pytest.raises(anthropic.RateLimitError, match="limit of 1 requests a minute of your team"):
        gateway.anthropic.messages.create(model="c-good", max_tokens=5, messages=ASK)


def _post(url: str, key: str, *, model: str = "good", **more: Any) -> httpx.Response:
    headers = {"authorization": f"Bearer {key}"}
    body = {"model": model, "messages": ASK, **more}
    return httpx.post(f"{url}/v1/chat/completions", json=body, headers=headers, timeout=60)
