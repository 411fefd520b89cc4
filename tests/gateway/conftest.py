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
from openai import OpenAI

from accounts import keys, sealing
from accounts.models import Team
from billing import pricing
from catalog.models import Licence, Model, Offer
from catalog.models import Provider as ProviderRow
from gateway.app import application
from gateway.runtime import close_for_this_loop
from tests.factories.accounts import TeamFactory
from tests.fakes import openai_upstream
from tests.fakes.openai_upstream import Provider

PRICES = {"tokens.input": "0.000005", "tokens.input.cached": "0.0000005", "tokens.output": "0.000025"}
MODELS = ["good", "no-usage", "twice", "cut", "garbage", "no-done", "endless", "busy", "broken", "html", "too-long"]


@dataclass
class Gateway:
    url: str
    team: Team
    key: str
    provider: Provider

    @property
    def client(self) -> OpenAI:
        return OpenAI(base_url=f"{self.url}/v1", api_key=self.key, max_retries=0, timeout=20)


@pytest.fixture
def provider() -> Iterator[Provider]:
    with openai_upstream.running() as provider:
        yield provider


@pytest.fixture
def gateway(transactional_db: None, provider: Provider, settings: Any) -> Iterator[Gateway]:
    settings.GATEWAY_HOLD_S = 1
    offer_models(provider.base_url)
    team = TeamFactory()
    _, key = keys.issue(team, name="test")
    with serving() as url:
        yield Gateway(url, team, key, provider)


def offer_models(base_url: str) -> None:
    licence = Licence.objects.create(slug="terms", name="Terms")
    row = ProviderRow.objects.create(
        slug="fake", name="Fake Provider", base_url=base_url, sealed_key=sealing.seal("sk-provider-secret")
    )
    keyless = ProviderRow.objects.create(slug="keyless", name="Keyless", base_url=base_url)
    for name in [*MODELS, "no-key", "no-price"]:
        model = Model.objects.create(
            slug=name, name=name.title(), publisher="P", openness="closed", licence=licence, source="t",
            source_date=date(2026, 1, 1),
        )  # fmt: skip
        Offer.objects.create(
            model=model, path="hosted", provider=keyless if name == "no-key" else row, upstream_model=name
        )
        for meter, amount in PRICES.items() if name != "no-price" else ():
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
