"""What was looked up, for a few seconds. However many ask at the moment that it grows old, it is looked up once."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Found = TypeVar("Found")


class Remembered(Generic[Key, Found]):
    """For one event loop. No answer is older than `fresh_s`, counted from before it was looked up; beyond `most` of
    them all are forgotten. An error is nobody's but theirs who wait for it."""

    def __init__(self, *, fresh_s: float, most: int) -> None:
        self._fresh_s = fresh_s
        self._most = most
        self._known: dict[Key, tuple[float, Found]] = {}
        self._asked: dict[Key, asyncio.Task[Found]] = {}

    async def get(self, key: Key, look_up: Callable[[], Awaitable[Found]]) -> Found:
        known = self._known.get(key)
        if known is not None and known[0] >= time.monotonic():
            return known[1]
        task = self._asked.get(key)
        if task is None:
            task = self._asked[key] = asyncio.create_task(self._ask(key, look_up))
            task.add_done_callback(lambda done: done.cancelled() or done.exception())
        return await asyncio.shield(task)  # who leaves does not take it from the others

    async def _ask(self, key: Key, look_up: Callable[[], Awaitable[Found]]) -> Found:
        until = time.monotonic() + self._fresh_s
        try:
            found = await look_up()
        finally:
            del self._asked[key]
        if len(self._known) >= self._most:
            self._known.clear()
        self._known[key] = until, found
        return found
