"""Open pages are kept up to date by streams that end, cost one seat each, and hold no database connection."""

import asyncio
import json
import re
import signal
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.db import connection, connections
from django.http.response import StreamingHttpResponse
from django.test import AsyncClient

from accounts.models import Membership
from deployments import live, live_views, operations, watching
from deployments.lifecycle import Reason, Status
from deployments.models import Deployment
from tests.factories.accounts import MembershipFactory, TeamFactory
from tests.factories.deployments import smollm2

pytestmark = pytest.mark.django_db(transaction=True)
NEVER_S = 600.0


class Reader:
    """Reads a stream's events as a browser does."""

    def __init__(self, answer: Any) -> None:
        assert isinstance(answer, StreamingHttpResponse), answer.content
        self._answer = answer
        self._chunks: AsyncIterator[bytes] = aiter(answer.streaming_content)  # type: ignore[call-overload]

    async def next(self, *, within_s: float = 5.0) -> tuple[str, Any]:
        """The next event, as (name, data). Fails if none comes."""
        async with asyncio.timeout(within_s):
            async for chunk in self._chunks:
                name, _, data = chunk.decode().partition("\ndata: ")
                if name.startswith("event: "):
                    return name.removeprefix("event: "), json.loads(data)
        return "end", None

    async def ended(self, *, within_s: float = 5.0) -> float:
        began = time.monotonic()
        while (await self.next(within_s=within_s))[0] != "end":
            pass
        return time.monotonic() - began

    async def leave(self) -> None:
        """As the server does it when the client is gone."""
        await sync_to_async(self._answer.close)()
        await asyncio.sleep(0.05)


@pytest.fixture
async def hub() -> AsyncIterator[watching.Hub]:
    yield watching.hub_for_this_loop()
    await watching.close_for_this_loop()
    await sync_to_async(connections.close_all)()  # those of the thread that the ORM was asked in


@pytest.fixture
def member() -> Membership:
    return MembershipFactory()


@pytest.fixture
def row(member: Membership) -> Deployment:
    model, hardware = smollm2()
    return operations.deploy(member.team, model=model, hardware=hardware, actor="t", name="mine")


@pytest.fixture
async def client(async_client: AsyncClient, member: Membership) -> AsyncClient:
    await async_client.aforce_login(member.user)
    return async_client


def _connections() -> int:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE datname = current_database() AND backend_type = 'client backend'"  # nor who vacuums it
        )
        return int(cursor.fetchone()[0])


async def test_a_move_is_told_and_not_looked_for_and_nothing_else_is_sent(
    client: AsyncClient, row: Deployment, hub: watching.Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "_pause_s", lambda *_: NEVER_S)
    await Deployment.objects.aupdate(status=Status.READY)
    reader = Reader(await client.get(f"/deployments/{row.pk}/stream"))
    event, parts = await reader.next()
    assert event == "parts"
    assert len(parts) == 4
    await asyncio.sleep(0.3)  # it hears by now
    move = sync_to_async(row.transition)
    await move(Status.STARTING, since=Status.READY, reason=Reason.ENGINE_EXITED)
    event, parts = await reader.next()
    assert "The engine exited; it is started again" in "".join(parts)
    assert all("data-seen" in part for part in parts)
    with pytest.raises(TimeoutError):
        await reader.next(within_s=1.2)
    await reader.leave()


async def test_what_the_page_has_already_is_not_sent_again(
    client: AsyncClient, row: Deployment, hub: watching.Hub
) -> None:
    page = (await client.get(f"/deployments/{row.pk}/", headers={"hx-request": "true"})).content.decode()
    seen = ",".join(":".join(pair) for pair in re.findall(r'id="part-(\w+)" class="part" data-seen="(\w+)"', page))
    reader = Reader(await client.get(f"/deployments/{row.pk}/stream?seen={seen}"))
    with pytest.raises(TimeoutError):
        await reader.next(within_s=0.8)
    await reader.leave()


async def test_a_stream_ends_with_the_deployment(client: AsyncClient, row: Deployment, hub: watching.Hub) -> None:
    await Deployment.objects.aupdate(status=Status.STOPPED)
    reader = Reader(await client.get(f"/deployments/{row.pk}/stream"))
    assert (await reader.next())[0] == "parts"
    assert await reader.next() == ("over", None)
    assert await reader.ended() < 1
    assert hub.viewers == 0


async def test_who_is_gone_gives_the_seat_back_and_who_finds_none_is_told_to_ask_later(
    client: AsyncClient, row: Deployment, hub: watching.Hub, settings: Any
) -> None:
    settings.LIVE_VIEWERS = 1
    first = Reader(await client.get(f"/deployments/{row.pk}/stream"))
    await first.next()
    refused = await client.get(f"/deployments/{row.pk}/stream")
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")
    assert (await client.get("/deployments/stream")).status_code == 503
    await first.leave()
    assert hub.viewers == 0
    second = Reader(await client.get("/deployments/stream"))
    assert (await second.next())[0] == "parts"
    await second.leave()


async def test_ten_viewers_hold_as_many_connections_as_one(
    client: AsyncClient, row: Deployment, hub: watching.Hub
) -> None:
    readers = [Reader(await client.get(f"/deployments/{row.pk}/stream")) for _ in range(2)]
    for reader in readers:
        await reader.next()
    few = await sync_to_async(_connections)()
    readers += [Reader(await client.get(f"/deployments/{row.pk}/stream")) for _ in range(10)]
    for reader in readers[2:]:
        await reader.next()
    assert hub.viewers == 12
    assert await sync_to_async(_connections)() <= few + watching.RENDERERS, "each renderer has one, a viewer none"
    for reader in readers:
        await reader.leave()


async def test_a_server_that_is_asked_to_stop_ends_its_streams_at_once(
    client: AsyncClient, row: Deployment, hub: watching.Hub
) -> None:
    before, told = signal.getsignal(signal.SIGTERM), []
    signal.signal(signal.SIGTERM, lambda number, _: told.append(number))
    interrupt = signal.getsignal(signal.SIGINT)
    try:
        watching.end_streams_on_signals()
        reader = Reader(await client.get(f"/deployments/{row.pk}/stream"))
        await reader.next()
        signal.raise_signal(signal.SIGTERM)
        assert await reader.ended() < 0.5
        assert told == [signal.SIGTERM], "who had asked for the signal before still gets it"
        assert (await client.get(f"/deployments/{row.pk}/stream")).status_code == 503
    finally:
        signal.signal(signal.SIGTERM, before)
        signal.signal(signal.SIGINT, interrupt)


async def test_a_stream_is_for_members_who_are_signed_in(
    client: AsyncClient, async_client: AsyncClient, hub: watching.Hub
) -> None:
    model, hardware = await sync_to_async(smollm2)()
    other = await sync_to_async(TeamFactory)()
    deploy = sync_to_async(operations.deploy)
    theirs = await deploy(other, model=model, hardware=hardware, actor="t", name="theirs")
    assert (await client.get(f"/deployments/{theirs.pk}/stream")).status_code == 404
    await client.alogout()
    assert (await client.get(f"/deployments/{theirs.pk}/stream")).status_code == 401
    assert (await client.get("/deployments/stream")).status_code == 401


@pytest.mark.parametrize("gone", ["session", "password", "membership", "role"])
@pytest.mark.parametrize("path", ["{}/stream", "{}/stream?tab=logs", "stream"])
async def test_a_stream_ends_when_its_viewer_may_not_see_it_any_more(
    client: AsyncClient, row: Deployment, member: Membership, hub: watching.Hub, monkeypatch: pytest.MonkeyPatch,
    gone: str, path: str,
) -> None:  # fmt: skip
    monkeypatch.setattr(live_views, "STILL_THERE_S", 0.5)
    reader = Reader(await client.get(f"/deployments/{path.format(row.pk)}"))
    await reader.next()
    await asyncio.sleep(0.6)
    match gone:
        case "session":
            await client.alogout()
        case "password":
            member.user.set_password("another-one")
            await member.user.asave()
        case "membership":
            await member.adelete()
        case "role":
            await Membership.objects.aupdate(role="viewer")
    await sync_to_async(row.transition)(Status.STARTING, since=Status.PENDING, reason=Reason.ENGINE_LOADING)
    assert (await reader.next())[0] == "end", "what came later is not told"


async def test_the_list_hears_of_its_own_rows(
    client: AsyncClient, row: Deployment, hub: watching.Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "_list_pause_s", lambda _: NEVER_S)
    await Deployment.objects.aupdate(status=Status.READY)
    reader = Reader(await client.get("/deployments/stream"))
    await reader.next()
    await asyncio.sleep(0.3)
    await sync_to_async(row.transition)(Status.STOPPING, since=Status.READY, reason=Reason.STOP_ASKED)
    _, parts = await reader.next()
    assert "stopping" in parts[0]
    await reader.leave()
