"""Django's ORM from the event loop: in threads of its own, for what the caches don't hold."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from django.db import DEFAULT_DB_ALIAS, close_old_connections, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.utils import InterfaceError, OperationalError

from gateway.errors import store_down

Found = TypeVar("Found")


class Stores:
    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(2, thread_name_prefix="gateway-stores")
        self._connections: dict[int, BaseDatabaseWrapper] = {}

    async def ask(self, question: Callable[[], Found]) -> Found:
        """The answer, or 503 if the database is away (then nothing has been called and nothing is billed)."""

        def answer() -> Found:
            close_old_connections()
            self._remember()
            return question()

        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, answer)
        except (OperationalError, InterfaceError) as error:
            raise store_down() from error

    def close(self) -> None:
        self._threads.shutdown(wait=True, cancel_futures=True)
        with ThreadPoolExecutor(1) as closer:  # Django refuses to close one in the event loop's own thread
            list(closer.map(lambda mine: mine.close(), self._connections.values()))

    def _remember(self) -> None:
        """This thread's connection, so that `close` can close it from the thread that it runs in."""
        mine = connections[DEFAULT_DB_ALIAS]
        if id(mine) not in self._connections:
            mine.inc_thread_sharing()
            self._connections[id(mine)] = mine
