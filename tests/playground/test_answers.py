"""Answers for pages: told as they come, found again after a reload, stopped, and billed once whatever happens."""

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import pytest
from asgiref.sync import sync_to_async
from django.db import connections
from django.db.models import Sum
from django.test import AsyncClient
from django.utils import timezone

from accounts import sealing
from accounts.models import Membership
from billing import budgets
from billing.models import LedgerEntry, UsageEvent
from catalog.models import Provider as ProviderRow
from gateway.runtime import close_for_this_loop
from playground import sent
from playground.models import SentAnswer
from playground.said import Said
from playground.sent import Send
from tests.factories.accounts import MembershipFactory
from tests.fakes import openai_upstream
from tests.fakes.openai_upstream import HOSTILE, Provider
from tests.gateway.conftest import PRICES, offer

pytestmark = pytest.mark.django_db(transaction=True)
HELLO = [{"role": "user", "content": "Count to three."}]
MODELS = ("good", "long", "endless", "cut", "hostile")


@pytest.fixture
def provider(transactional_db: None) -> Iterator[Provider]:
    with openai_upstream.running() as fake:
        row = ProviderRow.objects.create(
            slug="fake", name="Fake Provider", base_url=fake.base_url, sealed_key=sealing.seal("sk-provider-secret")
        )
        for name in MODELS:
            offer(name, row, PRICES)
        yield fake


@pytest.fixture
def member(provider: Provider) -> Membership:
    return MembershipFactory()


@pytest.fixture
async def client(member: Membership) -> AsyncIterator[AsyncClient]:
    client = AsyncClient()
    await client.aforce_login(member.user)
    yield client
    await close_for_this_loop()
    await sync_to_async(connections.close_all)()  # those of the thread that the ORM was asked in


async def ask(client: AsyncClient, model: str, *, send_id: UUID | None = None, **more: Any) -> Any:
    body = json.dumps({"model": model, "messages": HELLO, **more})
    return await client.post(
        "/playground/answer",
        body,
        content_type="application/json",
        headers={"idempotency-key": str(send_id or uuid4())},
    )


async def told(response: Any, *, until: int = 10_000) -> dict[str, Any]:
    """What a page knows after so many events, and lets go of the stream then."""
    assert response.status_code == 200, response.content
    said: dict[str, Any] = {"text": "", "reasoning": ""}
    async with aclosing(aiter(response.streaming_content)) as events:
        async for event in events:
            for name, value in json.loads(event.removeprefix(b"data: ")).items():
                said[name] = said[name] + value if name in ("text", "reasoning") else value
            until -= 1
            if not until:
                break
    return said


async def test_an_answer_comes_with_what_the_ledger_says_it_cost(client: AsyncClient, provider: Provider) -> None:
    said = await told(await ask(client, "good"))
    assert (said["text"], said["state"], said["finish"]) == ("One two three", "done", "stop")
    receipt = said["receipt"]
    paid = (await LedgerEntry.objects.aaggregate(sum=Sum("amount")))["sum"]
    assert Decimal(receipt["cost_usd"]) == paid > 0
    assert receipt["tokens"] == {"tokens.input": 7, "tokens.input.cached": 4, "tokens.output": 3}
    assert (receipt["tokens_in"], receipt["tokens_out"], receipt["path"]) == (11, 3, "hosted")
    assert receipt["budget"]["exact"] == f"{paid:f}"
    assert 0 < receipt["first_s"] <= receipt["total_s"]


async def test_the_same_id_is_answered_and_billed_once(client: AsyncClient, provider: Provider) -> None:
    send_id = uuid4()
    first, second = [await told(await ask(client, "good", send_id=send_id)) for _ in range(2)]
    assert first == second
    assert len(provider.calls) == await UsageEvent.objects.acount() == 1


async def test_another_request_under_the_same_id_is_a_conflict(client: AsyncClient) -> None:
    send_id = uuid4()
    await told(await ask(client, "good", send_id=send_id))
    other = await ask(client, "good", send_id=send_id, temperature=1)
    assert (other.status_code, other.json()["error"]["code"]) == (409, "idempotency_key_reused")


async def test_a_page_that_left_in_mid_answer_hears_all_of_it_when_it_is_back(
    client: AsyncClient, provider: Provider
) -> None:
    send_id = uuid4()
    before = await told(await ask(client, "long", send_id=send_id), until=3)
    assert before["state"] == "running"
    after = await told(await client.get(f"/playground/answers/{send_id}"))
    assert (after["text"], after["state"]) == ("One two three" * 20, "done")
    assert after["text"].startswith(before["text"])
    assert len(provider.calls) == await UsageEvent.objects.acount() == 1
    assert provider.gone == 0


async def test_what_is_stopped_ends_upstream_and_is_billed_until_then(client: AsyncClient, provider: Provider) -> None:
    send_id = uuid4()
    response = await ask(client, "endless", send_id=send_id)
    async with aclosing(aiter(response.streaming_content)) as events:
        async for event in events:
            if b"two" in event:
                assert (await client.post(f"/playground/answers/{send_id}/stop")).status_code == 204
            if b'"stopped"' in event:
                break
    said = await told(await client.get(f"/playground/answers/{send_id}"))
    assert (said["state"], provider.gone) == ("stopped", 1)
    assert 0 < len(said["text"]) < len("One two three" * 200)
    usage = await UsageEvent.objects.aget()
    assert usage.quality == "estimated"
    assert Decimal(said["receipt"]["cost_usd"]) == (await LedgerEntry.objects.aaggregate(sum=Sum("amount")))["sum"] > 0


async def test_an_answer_is_told_to_its_asker_alone(client: AsyncClient, member: Membership) -> None:
    send_id = uuid4()
    await told(await ask(client, "good", send_id=send_id))
    same_team = await sync_to_async(MembershipFactory)(team=member.team)
    for other in (same_team, await sync_to_async(MembershipFactory)()):
        stranger = AsyncClient()
        await stranger.aforce_login(other.user)
        assert (await stranger.get(f"/playground/answers/{send_id}")).status_code == 404
    assert (await AsyncClient().get(f"/playground/answers/{send_id}")).status_code == 401


async def test_a_spent_budget_is_said_in_plain_words_with_where_to_go(
    client: AsyncClient, member: Membership, provider: Provider
) -> None:
    await sync_to_async(budgets.set_monthly)(member.team, Decimal("0.01"))
    said = await told(await ask(client, "good", max_tokens=100_000))
    assert (said["state"], said["receipt"]) == ("failed", None)
    assert said["problem"]["title"] == "The budget leaves no room"
    assert said["problem"]["href"] == "/budgets/"
    assert provider.calls == []


async def test_what_breaks_off_keeps_what_came_and_says_why(client: AsyncClient) -> None:
    said = await told(await ask(client, "cut"))
    assert (said["state"], said["text"]) == ("failed", "One two three")
    assert said["problem"]["title"] == "The model's side failed"


async def test_an_answer_is_held_against_the_schema_that_was_asked_for(client: AsyncClient) -> None:
    schema = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
    wanted = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}
    assert (await told(await ask(client, "good", response_format=wanted)))["fits"]["is_so"] is True
    schema["required"].append("mayor")
    assert (await told(await ask(client, "good", response_format=wanted)))["fits"]["is_so"] is False


async def test_a_tools_call_is_told_whole(client: AsyncClient) -> None:
    parameters = {"type": "object", "properties": {"city": {"type": "string"}}}
    tools = [{"type": "function", "function": {"name": "get_weather", "parameters": parameters}}]
    said = await told(await ask(client, "good", tools=tools))
    assert said["calls"] == [{"id": "call_1", "name": "get_weather", "arguments": '{"city": "Paris"}'}]


async def test_what_is_kept_is_sealed_and_forgotten_after_a_day(client: AsyncClient) -> None:
    await told(await ask(client, "good"))
    row = await SentAnswer.objects.aget()
    assert row.sealed_said
    assert "One two" not in row.sealed_said
    await SentAnswer.objects.aupdate(created_at=timezone.now() - timedelta(hours=25))
    assert await sync_to_async(sent.forget_old)() == 1


async def test_an_answer_of_another_process_is_followed_to_its_end(client: AsyncClient, member: Membership) -> None:
    send = await _begun_elsewhere(member, Said(text="One"))
    response = await client.get(f"/playground/answers/{send.id}")
    events = aiter(response.streaming_content)
    assert json.loads((await anext(events)).removeprefix(b"data: "))["text"] == "One"
    await sync_to_async(sent.write)(send, state="done", said=Said(text="One two", state="done").json())
    assert json.loads((await anext(events)).removeprefix(b"data: ")) == {"text": " two", "state": "done"}
    assert [event async for event in events] == []


async def test_a_stop_reaches_the_process_that_answers(client: AsyncClient, member: Membership) -> None:
    send = await _begun_elsewhere(member, Said(text="One"))
    await client.post(f"/playground/answers/{send.id}/stop")
    assert await sync_to_async(sent.write)(send, state="running", said=Said(text="One two").json())


async def test_an_answer_whose_process_is_gone_says_so(client: AsyncClient, member: Membership) -> None:
    send = await _begun_elsewhere(member, Said(text="One"))
    await SentAnswer.objects.aupdate(heard_at=timezone.now() - timedelta(seconds=sent.GONE_AFTER_S + 1))
    said = await told(await client.get(f"/playground/answers/{send.id}"))
    assert (said["text"], said["state"], said["problem"]["title"]) == ("One", "failed", "It was cut off")


async def test_without_javascript_one_prompt_is_answered_once_and_as_text(
    client: AsyncClient, provider: Provider
) -> None:
    form = {
        "model": "hostile",
        "message": "Hello <b>",
        "system": "Be brief.",
        "send_id": str(uuid4()),
        "max_tokens": "50",
    }
    for _ in range(2):
        page = (await client.post("/playground/ask", form)).content.decode()
        assert "Hello &lt;b&gt;" in page
        assert "&lt;script&gt;window.hacked = 1&lt;/script&gt;" in page
        assert "<script>window.hacked" not in page
        assert "data-receipt" in page
    assert len(provider.calls) == await UsageEvent.objects.acount() == 1
    assert provider.calls[0]["messages"][0] == {"role": "system", "content": "Be brief."}
    assert "<script>" in HOSTILE


async def _begun_elsewhere(member: Membership, said: Said) -> Send:
    send = Send(member.team_id, member.user_id, uuid4())
    await sync_to_async(sent.claim)(send, b"{}")
    await sync_to_async(sent.write)(send, state=said.state, said=said.json())
    return send
