"""Keeps open pages up to date over server-sent events.

One hub for each event loop: one connection to PostgreSQL hears the news for all viewers, and two threads render for
all of them. So a viewer holds no database connection, and costs a seat, of which there are LIVE_VIEWERS.
"""

import asyncio
import contextlib
import functools
import json
import logging
import signal
import threading
import time
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from types import FrameType
from typing import TypeVar

from django.conf import settings
from django.db import DEFAULT_DB_ALIAS, close_old_connections, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.utils import InterfaceError, OperationalError

from billing.batching import conninfo_from_settings
from deployments.hearing import Hearing

log = logging.getLogger(__name__)

RENDERERS = 2
# A stream ends after so long, and the browser comes again.
STREAM_S = 60.0
ALIVE_EVERY_S = 15.0
AGAIN_AFTER_MS = 1000
SHORTEST_PAUSE_S = 0.15
# A page that takes long to render is looked at less often: while no news come it gets this part of a thread at most.
PART_OF_A_THREAD = 1 / 10
# What the last viewer leaves behind is kept for so long: a page that is reloaded comes again at once.
LINGER_S = 5.0

Found = TypeVar("Found")


@dataclass(frozen=True, slots=True)
class Frame:
    """What one look at a page gives: (event, data) for the browser, nothing if nothing has changed; when to look
    again if no news comes; and whether there is nothing more to come."""

    events: list[tuple[str, object]]
    pause_s: float
    is_over: bool = False


@dataclass(eq=False, slots=True)
class Seat:
    """One viewer's place. `watches` are the ids of the deployments whose news concern it."""

    watches: set[str] = field(default_factory=set)
    news: asyncio.Event = field(default_factory=asyncio.Event)


class Hub:
    def __init__(self) -> None:
        self._seats: set[Seat] = set()
        self._threads: ThreadPoolExecutor | None = None
        self._connections: dict[int, BaseDatabaseWrapper] = {}
        self._hearing: Hearing | None = None
        self._lingering: asyncio.Task[None] | None = None
        self.closing = asyncio.Event()

    @property
    def has_room(self) -> bool:
        """A seat is free, and the process is not about to end."""
        return not self.closing.is_set() and len(self._seats) < settings.LIVE_VIEWERS

    def take_seat(self) -> Seat | None:
        """None if there is no room."""
        if not self.has_room:
            return None
        if self._lingering:
            self._lingering.cancel()
            self._lingering = None
        if self._hearing is None:
            self._hearing = Hearing(conninfo_from_settings(), self._on_news)
            self._hearing.start()
        seat = Seat()
        self._seats.add(seat)
        return seat

    def _leave(self, seat: Seat) -> None:
        self._seats.discard(seat)
        if not self._seats and not self.closing.is_set():
            self._lingering = asyncio.create_task(self._rest_after(LINGER_S))

    @property
    def viewers(self) -> int:
        return len(self._seats)

    def stream(self, look: Callable[[Seat], Frame | None]) -> "Events":
        """Events until there is nothing more to come, the viewer is gone, the process ends, or a minute is over. The
        seat is taken with the first event: who is gone before that has none. No event at all: no seat was free."""
        return Events(self, look)

    async def events(self, seat: Seat, look: Callable[[Seat], Frame | None]) -> AsyncGenerator[bytes, None]:
        try:
            yield f"retry: {AGAIN_AFTER_MS}\n\n".encode()
            end, spoken = time.monotonic() + STREAM_S, time.monotonic()
            while not self.closing.is_set() and time.monotonic() < end:
                seat.news.clear()
                began = time.monotonic()
                frame = await self._look(functools.partial(look, seat))
                if frame is None:
                    return
                for event, data in frame.events:
                    yield f"event: {event}\ndata: {json.dumps(data)}\n\n".encode()
                    spoken = time.monotonic()
                if frame.is_over:
                    yield b"event: over\ndata: null\n\n"
                    return
                if time.monotonic() - spoken > ALIVE_EVERY_S:
                    yield b": still here\n\n"
                    spoken = time.monotonic()
                took_s = time.monotonic() - began
                pause_s = max(frame.pause_s, took_s / PART_OF_A_THREAD)
                await self._pause(seat, pause_s, least_s=max(SHORTEST_PAUSE_S, took_s))
        finally:
            self._leave(seat)

    async def close(self) -> None:
        self.closing.set()
        if self._lingering:
            self._lingering.cancel()
        await self._rest()

    async def _look(self, look: Callable[[], Frame | None]) -> Frame | None:
        """None if there is nothing to be seen, or the database is away: the browser comes again."""
        try:
            return await self._ask(look)
        except (OperationalError, InterfaceError) as error:
            log.warning("a page can't be kept up to date: %s", error)
            return None

    async def _ask(self, question: Callable[[], Found]) -> Found:
        """In a thread of the hub's own, with a database connection that stays there."""

        def answer() -> Found:
            close_old_connections()
            mine = connections[DEFAULT_DB_ALIAS]
            if id(mine) not in self._connections:
                mine.inc_thread_sharing()
                self._connections[id(mine)] = mine
            return question()

        if self._threads is None:
            self._threads = ThreadPoolExecutor(RENDERERS, thread_name_prefix="watching")
        return await asyncio.get_running_loop().run_in_executor(self._threads, answer)

    async def _pause(self, seat: Seat, seconds: float, *, least_s: float) -> None:
        """Until news come, or for so long; never shorter than `least_s`, but for the end of the process."""
        await self._ended_within(least_s)
        if seat.news.is_set() or self.closing.is_set() or seconds <= least_s:
            return
        waiting = [asyncio.create_task(seat.news.wait()), asyncio.create_task(self.closing.wait())]
        try:
            await asyncio.wait(waiting, timeout=seconds - least_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waiting:
                task.cancel()

    async def _ended_within(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.closing.wait()

    async def _on_news(self, deployment_id: str) -> None:
        for seat in self._seats:
            if not deployment_id or deployment_id in seat.watches:
                seat.news.set()

    async def _rest_after(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        self._lingering = None
        await self._rest()

    async def _rest(self) -> None:
        """Let go of the connections: nobody watches."""
        hearing, self._hearing = self._hearing, None
        threads, self._threads = self._threads, None
        mine, self._connections = self._connections, {}
        if hearing:
            await hearing.stop()
        if threads:
            await asyncio.get_running_loop().run_in_executor(None, _close, threads, mine)


def _close(threads: ThreadPoolExecutor, mine: dict[int, BaseDatabaseWrapper]) -> None:
    threads.shutdown(wait=True, cancel_futures=True)
    for connection in mine.values():
        connection.close()


class Events:
    """A stream's events. Closing it, from whatever thread, gives its seat back at once."""

    def __init__(self, hub: Hub, look: Callable[[Seat], Frame | None]) -> None:
        self._hub, self._look, self._loop = hub, look, asyncio.get_running_loop()
        self._events: AsyncGenerator[bytes, None] | None = None
        self._is_closed = False

    def __aiter__(self) -> "Events":
        return self

    async def __anext__(self) -> bytes:
        if self._events is None:
            seat = None if self._is_closed else self._hub.take_seat()
            if seat is None:
                raise StopAsyncIteration
            self._events = self._hub.events(seat, self._look)
        return await anext(self._events)

    def close(self) -> None:
        self._is_closed = True
        events, self._events = self._events, None
        if events is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed, and all is gone with it
                self._loop.call_soon_threadsafe(lambda: self._loop.create_task(events.aclose()))


_hubs: dict[asyncio.AbstractEventLoop, Hub] = {}


def hub_for_this_loop() -> Hub:
    return _hubs.setdefault(asyncio.get_running_loop(), Hub())


async def close_for_this_loop() -> None:
    if hub := _hubs.pop(asyncio.get_running_loop(), None):
        await hub.close()


def end_streams_on_signals() -> None:
    """A server that is asked to stop waits for its responses to end: streams must hear of it as well. What the signal
    does besides stays as it was."""
    if threading.current_thread() is not threading.main_thread():
        return
    loop = asyncio.get_running_loop()
    hub = hub_for_this_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        before = signal.getsignal(number)

        def end(number: int, frame: FrameType | None, before: object = before) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed already
                loop.call_soon_threadsafe(hub.closing.set)
            if callable(before):
                before(number, frame)

        signal.signal(number, end)
