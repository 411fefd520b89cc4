"""Django's ORM from the event loop: in threads of its own, for what the caches don't hold."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from django.db import close_old_connections
from django.db.utils import InterfaceError, OperationalError

from gateway.errors import store_down

Found = TypeVar("Found")


class Stores:
    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(2, thread_name_prefix="gateway-stores")

    async def ask(self, question: Callable[[], Found]) -> Found:
        """The answer, or 503 if the database is away (then nothing has been called and nothing is billed)."""

        def answer() -> Found:
            close_old_connections()
            return question()

        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, answer)
        except (OperationalError, InterfaceError) as error:
            raise store_down() from error

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
