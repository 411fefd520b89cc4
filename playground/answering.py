"""One answer for a page: made through the gateway's use case, whoever still reads it; told to all who ask for it.

The call is a task of this process, not of the request that began it. So a page that is loaded again in mid-answer asks
for the same id, hears what has come, and goes on; nothing is called, or billed, a second time.
"""

import asyncio
import contextlib
import functools
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from decimal import Decimal
from typing import Any
from uuid import uuid4

import orjson

from billing.errors import BillingError
from billing.meters import OUTPUT
from deployments.validation import bounded
from gateway import completions
from gateway.attempt import Answer
from gateway.auth import Caller
from gateway.errors import WireError
from gateway.runtime import Runtime
from playground import problems, sent
from playground.said import Reader, Said, Telling
from playground.sent import Send

log = logging.getLogger(__name__)

WRITTEN_EVERY_S = 0.5
HEARD_EVERY_S = 1.0
LOOKED_EVERY_S = 0.4
ALIVE_EVERY_S = 15.0
RECEIPT_WITHIN_S = 3.0
LARGEST_CHECKED = 256 * 1024


class Live:
    """An answer that this process makes. Readers wait for `changed`, which is another event after each change."""

    def __init__(self) -> None:
        self.said = Said()
        self.changed = asyncio.Event()
        self.is_stopped = False
        self.task: asyncio.Task[None] | None = None

    def tell(self) -> None:
        self.changed.set()
        self.changed = asyncio.Event()

    def stop(self) -> None:
        if self.task and not self.said.is_over and not self.is_stopped:
            self.is_stopped = True
            self.task.cancel()


_live: dict[Send, Live] = {}
Called = Callable[[], Awaitable[Answer]]


async def begin(
    runtime: Runtime, caller: Caller, send: Send, body: dict[str, Any], raw: bytes, *, tell_budget: Callable[[], object]
) -> None:
    """Make the answer, or do nothing if this id has one already. Raises OtherBody; WireError if the database is away.
    What goes wrong after that is part of the answer. `tell_budget` is asked, in a thread, once it is over."""
    if not await runtime.stores.ask(lambda: sent.claim(send, raw)):
        return
    live = _live[send] = Live()
    wanted = body | {"stream": True, "stream_options": {"include_usage": True}}
    call = functools.partial(completions.chat, runtime, caller, wanted, f"req_{uuid4().hex}")
    live.task = asyncio.create_task(
        _make(runtime, live, send, call=call, schema=_schema(body), tell_budget=tell_budget)
    )
    # The runtime waits for these before it closes.
    runtime.pumps.add(live.task)
    live.task.add_done_callback(runtime.pumps.discard)
    live.task.add_done_callback(lambda _: _live.pop(send, None))


async def follow(runtime: Runtime, send: Send) -> AsyncIterator[bytes]:
    """Events for a page: what has come so far, then what comes, until it is over. No event: there is no such answer."""
    telling, told_at = Telling(), time.monotonic()
    async for said in _looks(runtime, send):
        for news in telling.more(said):
            yield b"data: " + orjson.dumps(news) + b"\n\n"
            told_at = time.monotonic()
        if time.monotonic() - told_at > ALIVE_EVERY_S:
            yield b": still here\n\n"
            told_at = time.monotonic()


async def whole(runtime: Runtime, send: Send) -> Said:
    """The answer once it is over, for a page without JavaScript."""
    last = Said(state=sent.State.FAILED.value, problem=problems.explained("process_gone", sent.GONE))
    async for said in _looks(runtime, send):
        last = said
    return last


async def stop(runtime: Runtime, send: Send) -> None:
    """End it upstream. What came until then stays, and is billed."""
    if live := _live.get(send):
        live.stop()
        return
    await runtime.stores.ask(lambda: sent.ask_to_stop(send))


async def _looks(runtime: Runtime, send: Send) -> AsyncIterator[Said]:
    """The answer after each change: as this process makes it, or as another one writes it down."""
    if live := _live.get(send):
        while True:
            changed = live.changed
            yield live.said
            if live.said.is_over:
                return
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(ALIVE_EVERY_S):
                    await changed.wait()
    while said := await runtime.stores.ask(lambda: sent.read(send)):
        yield said
        if said.is_over:
            return
        await asyncio.sleep(LOOKED_EVERY_S)


async def _make(
    runtime: Runtime, live: Live, send: Send, *, call: Called, schema: str, tell_budget: Callable[[], object]
) -> None:
    writing = asyncio.create_task(_write_down(runtime, live, send))
    said, state = live.said, sent.State
    try:
        await _call(live, call)
        outcome = state.FAILED if said.problem else state.DONE
    except asyncio.CancelledError:
        if not live.is_stopped:
            raise
        asyncio.current_task().uncancel()  # type: ignore[union-attr]
        outcome = state.STOPPED
    except Exception:
        log.exception("an answer for the playground")
        said.problem = problems.explained("internal_error", "Something went wrong here. It is in the portal's log.")
        outcome = state.FAILED
    finally:
        writing.cancel()
    if schema and outcome == state.DONE and said.text:
        said.fits = await asyncio.to_thread(_fits, schema, said.text)
    if said.receipt is not None:
        with contextlib.suppress(WireError):
            # A new object: what pages were told of is compared with it.
            said.receipt = said.receipt | {"budget": await runtime.stores.ask(tell_budget)}
    said.state = outcome.value
    with contextlib.suppress(WireError):
        await _write(runtime, send, said)
    live.tell()


async def _call(live: Live, call: Called) -> None:
    """The call from its beginning to its receipt, also where its reader stops it."""
    began, first_at = time.perf_counter(), 0.0
    said, found = live.said, None
    reader = Reader(said)
    try:
        found = await call()
        assert found.stream is not None  # noqa: S101 - asked for
        async with contextlib.aclosing(found.stream) as events:  # type: ignore[type-var]
            async for event in events:
                reader.feed(event)
                if not first_at and said.has_begun:
                    first_at = time.perf_counter()
                if event:
                    live.tell()
    except WireError as error:
        said.problem = problems.explained(error.code or "", error.message)
    except BillingError as error:
        said.problem = problems.explained("store_unavailable", str(error))
    finally:
        ended = time.perf_counter()
        if found is not None and await _is_settled(found):
            said.receipt = _receipt(found, began=began, first_at=first_at, ended=ended)


async def _is_settled(found: Answer) -> bool:
    """A stream that ended in good order is. One that was stopped is within a moment."""
    end = time.monotonic() + RECEIPT_WITHIN_S
    while found.receipt is None and found.tally.chunks and time.monotonic() < end:  # noqa: ASYNC110 - a moment
        await asyncio.sleep(0.05)
    return found.receipt is not None


def _receipt(found: Answer, *, began: float, first_at: float, ended: float) -> dict[str, Any]:
    """USD as the ledger has it; tokens by class; seconds as this process measured them."""
    assert found.receipt is not None  # noqa: S101 - checked by the caller
    quantities = found.tally.quantities()
    output = int(sum(count for meter, count in quantities.items() if meter in OUTPUT))
    flow_s = ended - first_at
    speed = (output - 1) / flow_s if first_at and output > 1 and flow_s > 0.005 else None
    return {
        "cost_usd": f"{found.receipt.cost:f}",
        "tokens": {meter: int(count) for meter, count in quantities.items() if count},
        "tokens_in": int(sum(quantities.values(), Decimal(0))) - output,
        "tokens_out": output,
        "path": found.headers["x-modelport-path"],
        "target": found.headers.get("x-modelport-target", ""),
        "measured": found.tally.measured,
        "first_s": round(first_at - began, 3) if first_at else None,
        "total_s": round(ended - began, 3),
        "tokens_per_s": round(speed, 1) if speed else None,
    }


async def _write_down(runtime: Runtime, live: Live, send: Send) -> None:
    """Twice a second while it grows; now and then all the same, as a sign of life. Hears of the wish to stop."""
    heard_at, size = time.monotonic(), 0
    while True:
        await asyncio.sleep(WRITTEN_EVERY_S)
        now = len(live.said.text) + len(live.said.reasoning) + len(live.said.wake)
        if now == size and time.monotonic() - heard_at < HEARD_EVERY_S:
            continue
        size, heard_at = now, time.monotonic()
        with contextlib.suppress(WireError):
            if await _write(runtime, send, live.said):
                live.stop()


async def _write(runtime: Runtime, send: Send, said: Said) -> bool:
    """As it is now: a thread must not read what goes on changing."""
    state, now = said.state, said.json()
    return await runtime.stores.ask(lambda: sent.write(send, state=state, said=now))


def _schema(body: dict[str, Any]) -> str:
    """The JSON schema that was asked for, if one was."""
    wanted = body.get("response_format")
    if not isinstance(wanted, dict) or wanted.get("type") != "json_schema":
        return ""
    schema = (wanted.get("json_schema") or {}).get("schema")
    return orjson.dumps(schema).decode() if isinstance(schema, dict) else ""


def _fits(schema: str, text: str) -> dict[str, Any]:
    """Whether the answer is JSON of the schema, and why not; `is_so` None: could not be checked."""
    if len(text) > LARGEST_CHECKED:
        return {"is_so": None, "why": "It is too long to be checked."}
    try:
        orjson.loads(text)
        errors = bounded.schema_errors(schema, text)
    except orjson.JSONDecodeError as error:
        return {"is_so": False, "why": f"It is not JSON: {error}."}
    except bounded.NotTold as error:
        return {"is_so": None, "why": str(error)}
    return {"is_so": not errors, "why": " ".join(errors)}
