"""The unmodified OpenAI SDK against both paths of a running portal, and the ledger that it leaves."""

import collections
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import httpx
import pytest
from openai import AuthenticationError, BadRequestError, OpenAI

from tests.calls import deployed_smollm2, wait_until
from tests.running import RunningPortal

pytestmark = [pytest.mark.portal, pytest.mark.xdist_group("portal")]

HOSTED = "smollm2-135m-instruct"
PICTURE: Any = [
    {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}]}
]


@pytest.fixture
def client(running_portal: RunningPortal) -> OpenAI:
    return OpenAI(base_url=f"{running_portal.url}/v1", api_key=running_portal.key, max_retries=0, timeout=120)


def test_the_sdk_lists_chats_and_streams_on_both_paths(client: OpenAI, running_portal: RunningPortal) -> None:
    with deployed_smollm2(running_portal, name="sdk") as endpoint:
        assert {HOSTED, endpoint} <= {model.id for model in client.models.list()}
        for model in (HOSTED, endpoint):
            answer = client.chat.completions.create(model=model, messages=_ask("Say hello."), max_tokens=12)
            assert answer.choices[0].message.content
            assert answer.model == model
            assert answer.usage
            assert answer.usage.completion_tokens > 0
            chunks = list(
                client.chat.completions.create(model=model, messages=_ask("Say hello."), max_tokens=12, stream=True)
            )
            assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
            assert all(chunk.usage is None for chunk in chunks), "usage is shown only to those who ask for it"
            with pytest.raises(BadRequestError, match="reads text alone"):
                client.chat.completions.create(model=model, messages=PICTURE)


def test_200_calls_leave_a_ledger_equal_to_what_the_clients_received(
    client: OpenAI, running_portal: RunningPortal
) -> None:
    key = running_portal.manage("issue_key", "--team", "demo", "--name", "two-hundred").strip()
    counted = OpenAI(base_url=f"{running_portal.url}/v1", api_key=key, max_retries=0, timeout=300)
    with deployed_smollm2(running_portal, name="load") as endpoint, ThreadPoolExecutor(20) as pool:
        usages = list(pool.map(lambda n: _call(counted, (HOSTED, endpoint)[n // 2 % 2], n), range(200)))
    received: collections.Counter[str] = collections.Counter()
    for usage in usages:
        received.update(usage)
    with running_portal.db() as connection:
        rows = connection.execute(
            "SELECT meter, sum(quantity) FROM billing_ledgerentry WHERE api_key_name LIKE 'two-hundred%' GROUP BY meter"
        ).fetchall()
        events = connection.execute(
            "SELECT count(*), count(*) FILTER (WHERE quality = 'measured') FROM billing_usageevent"
            " WHERE api_key_name LIKE 'two-hundred%'"
        ).fetchone()
    assert events == (200, 200)
    assert {meter: int(quantity) for meter, quantity in rows} == {m: q for m, q in received.items() if q}


def test_the_management_api_deploys_reads_and_stops(running_portal: RunningPortal) -> None:
    api = httpx.Client(base_url=f"{running_portal.url}/api/v1", headers=_bearer(running_portal.key), timeout=30)
    assert api.get("/models", params={"q": "smollm2"}).json()["results"][0]["slug"] == HOSTED
    made = api.post("/deployments", json={"model": HOSTED, "hardware": "cpu-small", "name": "by-api"})
    assert made.status_code == 201, made.text
    path = f"/deployments/{made.json()['id']}"
    assert made.json()["endpoint_model"] == "demo/by-api"
    wait_until(lambda: api.get(path).json()["status"] == "ready", seconds=60)
    assert [event["after"] for event in api.get(f"{path}/events").json()["results"]][-1] == "ready"
    assert api.get(f"{path}/logs").status_code == 200
    assert api.delete(path).status_code == 202
    wait_until(lambda: api.get(path).json()["status"] == "stopped", seconds=30)
    usage = api.get("/usage", params={"group_by": "meter"}).json()
    seconds = next(row for row in usage["results"] if row["meter"] == "compute.seconds")
    assert Decimal(seconds["cost"]) > 0


def test_a_revoked_key_opens_nothing_within_five_seconds(running_portal: RunningPortal) -> None:
    key = running_portal.manage("issue_key", "--team", "demo", "--name", "short-lived").strip()
    client = OpenAI(base_url=f"{running_portal.url}/v1", api_key=key, max_retries=0)
    assert client.models.list().data
    running_portal.manage("revoke_key", key[:11])

    def refused() -> bool:
        try:
            client.models.list()
        except AuthenticationError:
            return True
        return False

    wait_until(refused, seconds=7)


def _call(client: OpenAI, model: str, number: int) -> dict[str, int]:
    """One call, half of them streamed; its usage per disjoint class."""
    body: dict[str, Any] = {"model": model, "messages": _ask(f"Count to {number % 7}."), "max_tokens": 4 + number % 5}
    if number % 2:
        usage = client.chat.completions.create(**body).usage
    else:
        stream = client.chat.completions.create(**body, stream=True, stream_options={"include_usage": True})
        usage = [chunk.usage for chunk in stream if chunk.usage][-1]
    assert usage
    details = usage.prompt_tokens_details
    cached = (details.cached_tokens if details else 0) or 0
    return {
        "tokens.input": usage.prompt_tokens - cached,
        "tokens.input.cached": cached,
        "tokens.output": usage.completion_tokens,
    }


def _ask(text: str) -> list[Any]:
    return [{"role": "user", "content": text}]


def _bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}
