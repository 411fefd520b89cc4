"""What grows old is looked up once, however many ask."""

import asyncio

import pytest

from gateway.remembering import Remembered


class Source:
    def __init__(self, *, fails: bool = False) -> None:
        self.asked = 0
        self.fails = fails
        self.opened = asyncio.Event()

    async def look_up(self) -> int:
        self.asked += 1
        await self.opened.wait()
        if self.fails:
            raise LookupError
        return self.asked


async def test_many_at_once_ask_once() -> None:
    source, kept = Source(), Remembered[str, int](fresh_s=60, most=9)
    asking = [asyncio.create_task(kept.get("k", source.look_up)) for _ in range(50)]
    await asyncio.sleep(0)
    source.opened.set()
    assert await asyncio.gather(*asking) == [1] * 50
    assert await kept.get("k", source.look_up) == 1
    assert await kept.get("another", source.look_up) == 2


async def test_it_is_old_by_the_time_that_it_was_asked_for() -> None:
    source, kept = Source(), Remembered[str, int](fresh_s=0.05, most=9)
    asking = asyncio.create_task(kept.get("k", source.look_up))
    await asyncio.sleep(0.1)
    source.opened.set()
    assert await asking == 1
    assert await kept.get("k", source.look_up) == 2, "it said what was so before it was asked"


async def test_a_failure_is_for_those_who_wait_and_is_not_kept() -> None:
    source, kept = Source(fails=True), Remembered[str, int](fresh_s=60, most=9)
    source.opened.set()
    failures = await asyncio.gather(*(kept.get("k", source.look_up) for _ in range(3)), return_exceptions=True)
    assert [type(one) for one in failures] == [LookupError] * 3
    source.fails = False
    assert await kept.get("k", source.look_up) == 2


async def test_who_leaves_takes_nothing_from_the_others() -> None:
    source, kept = Source(), Remembered[str, int](fresh_s=60, most=9)
    first, second = (asyncio.create_task(kept.get("k", source.look_up)) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.sleep(0)
    source.opened.set()
    assert await second == 1
    with pytest.raises(asyncio.CancelledError):
        await first


async def test_no_more_is_kept_than_was_said() -> None:
    source, kept = Source(), Remembered[str, int](fresh_s=60, most=2)
    source.opened.set()
    for key in ("a", "b", "c"):
        await kept.get(key, source.look_up)
    assert await kept.get("a", source.look_up) == 4
