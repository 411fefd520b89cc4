"""Hears at once which deployment has changed, over a connection of its own to PostgreSQL."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable

import psycopg

from deployments.news import CHANNEL

log = logging.getLogger(__name__)

AGAIN_AFTER_S = 1.0
STILL_THERE_S = 15.0


class Hearing:
    """`on_news` is called after each change that was told, with the deployment's id; and with an empty text once it
    can hear (again): it may have missed some."""

    def __init__(self, conninfo: str, on_news: Callable[[str], Awaitable[None]]) -> None:
        self.hears = False
        self._conninfo = conninfo
        self._on_news = on_news
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        if self._task:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _run(self) -> None:
        while True:
            try:
                await self._listen()
            except psycopg.Error as error:
                log.warning("deployments' news can't be heard, they are looked for instead: %s", error)
            self.hears = False
            await asyncio.sleep(AGAIN_AFTER_S)

    async def _listen(self) -> None:
        connection = await psycopg.AsyncConnection.connect(self._conninfo, autocommit=True)
        async with connection:
            await connection.execute(f"LISTEN {CHANNEL}")
            self.hears = True
            await self._on_news("")
            while True:
                async for news in connection.notifies(timeout=STILL_THERE_S):
                    await self._on_news(news.payload)
                await connection.execute("SELECT 1")
