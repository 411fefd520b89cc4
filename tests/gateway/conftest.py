"""A gateway on a real socket before a provider on a real socket."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest
import uvicorn
from anthropic import Anthropic
from openai import OpenAI

from accounts import keys, sealing
from accounts.models import Team
from billing import pricing
from catalog.models import Licence, Model, Offer
from catalog.models import Provider as ProviderRow
from gateway.app import application
from gateway.runtime import close_for_this_loop
from tests.factories.accounts import TeamFactory
from tests.fakes import anthropic_upstream, openai_upstream
from tests.fakes.anthropic_upstream import AnthropicProvider
from tests.fakes.openai_upstream import Provider

PRICES = {"tokens.input": "0.000005", "tokens.input.cached": "0.0000005", "tokens.output": "0.000025"}
CLAUDE_PRICES = PRICES | {"tokens.input.cache_write": "0.00000625"}
CLAUDES = ["good", "no-usage", "cut", "garbage", "no-done", "endless", "busy", "broken", "html", "overloaded"]
MODELS = ["good", "no-usage", "twice", "cut", "garbage", "no-done", "endless", "busy", "broken", "html", "too-long"]
MODELS += ["slow", "stalled", "long", "greedy", "stillborn", "org/slashed", "odd"]


@dataclass
class Gateway:
    url: str
    team: Team
    key: str
    provider: Provider
    claude: AnthropicProvider

    @property
    def client(self) -> OpenAI:
        return OpenAI(base_url=f"{self.url}/v1", api_key=self.key, max_retries=0, timeout=30)

    @property
    def anthropic(self) -> Anthropic:
        return Anthropic(base_url=self.url, api_key=self.key, max_retries=0, timeout=30)

    @property
    def headers(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.key}"}


@pytest.fixture
def provider() -> Iterator[Provider]:
    with openai_upstream.running() as provider:
        yield provider


@pytest.fixture
def claude() -> Iterator[AnthropicProvider]:
    with anthropic_upstream.running() as provider:
        yield provider


@pytest.fixture
def gateway(transactional_db: None, provider: Provider, claude: AnthropicProvider, settings: Any) -> Iterator[Gateway]:
    """An OpenAI-compatible provider has the models in MODELS, Anthropic those in CLAUDES, after "c-"."""
    settings.GATEWAY_HOLD_S = 1
    offer_models(provider.base_url)
    offer_claudes(claude.base_url)
    team = TeamFactory()
    _, key = keys.issue(team, name="test")
    with serving() as url:
        yield Gateway(url, team, key, provider, claude)


def offer_models(base_url: str) -> None:
    row = ProviderRow.objects.create(
        slug="fake", name="Fake Provider", base_url=base_url, sealed_key=sealing.seal("sk-provider-secret")
    )
    keyless = ProviderRow.objects.create(slug="keyless", name="Keyless", base_url=base_url)
    for name in MODELS:
        offer(name, row, PRICES)
    offer("no-key", keyless, PRICES)
    offer("no-price", row, {})


def offer_claudes(base_url: str) -> None:
    row = ProviderRow.objects.create(
        slug="claude", name="Fake Claude", wire="anthropic", base_url=base_url,
        sealed_key=sealing.seal("sk-provider-secret"),
    )  # fmt: skip
    for name in CLAUDES:
        offer(f"c-{name}", row, CLAUDE_PRICES, upstream_model=name)


def offer(name: str, provider: ProviderRow, prices: dict[str, str], *, upstream_model: str = "") -> None:
    licence, _ = Licence.objects.get_or_create(slug="terms", defaults={"name": "Terms"})
    model = Model.objects.create(
        slug=name, name=name.title(), publisher="P", openness="closed", licence=licence, source="t",
        source_date=date(2026, 1, 1),
    )  # fmt: skip
    Offer.objects.create(model=model, path="hosted", provider=provider, upstream_model=upstream_model or name)
    for meter, amount in prices.items():
        pricing.set_price(
            model.sku, meter=meter, amount=Decimal(amount), valid_from=datetime(2026, 1, 1, tzinfo=UTC), source="t",
            source_date=date(2026, 1, 1),
        )  # fmt: skip


class _Server:
    """uvicorn in a thread, with the gateway's runtime closed in its own loop."""

    def __init__(self) -> None:
        self.socket = socket.socket()
        self.socket.bind(("127.0.0.1", 0))
        self.server = uvicorn.Server(
            uvicorn.Config(_with_lifespan(application), log_level="warning", timeout_graceful_shutdown=2)
        )
        self.thread = threading.Thread(target=self.server.run, kwargs={"sockets": [self.socket]}, daemon=True)

    def __enter__(self) -> str:
        self.thread.start()
        while not self.server.started:
            time.sleep(0.01)
        return f"http://127.0.0.1:{self.socket.getsockname()[1]}"

    def __exit__(self, *_: object) -> None:
        self.server.should_exit = True
        self.thread.join(15)
        self.socket.close()


def serving() -> _Server:
    return _Server()


def _with_lifespan(app: Callable[..., Any]) -> Callable[..., Any]:
    async def both(scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] != "lifespan":
            await app(scope, receive, send)
            return
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await close_for_this_loop()
        await send({"type": "lifespan.shutdown.complete"})

    return both
