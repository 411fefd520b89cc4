"""One call to one target: reserve, translate, send, forward, settle."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import uuid4

import orjson
from django.conf import settings

from billing import rating
from billing.errors import BillingError, BudgetSpent, DatabaseDown
from billing.metering import Call, LetIn, Receipt, Settlement
from billing.meters import OUTPUT, PROMPT
from gateway import metrics, sse, upstream
from gateway.adapters import ADAPTERS
from gateway.adapters.base import CHAT, PATHS, Source
from gateway.auth import Caller
from gateway.errors import WireError, bad_request, budget_spent, store_down, unsettled, upstream_failed
from gateway.http1 import Response
from gateway.journal import Entry
from gateway.limits import Admission
from gateway.protocols.asked import Asked, check_context, check_media, understood
from gateway.recorder import Slot
from gateway.routing import Target, Wait
from gateway.runtime import LEASE_S, Runtime
from gateway.surfaces import Sink, Surface, Writing
from gateway.usage import Tally

log = logging.getLogger(__name__)

DEFAULT_OUTPUT_TOKENS = 4096
RELEASE_S, RELEASES = 2.0, 30
UNREADABLE = (AttributeError, IndexError, KeyError, TypeError, ValueError)
BROKEN = (WireError, OSError, *UNREADABLE)
OPENAIS_OWN = "api.openai.com"


@dataclass(slots=True)
class Answer:
    """`body` or `stream` is set. `receipt` is there once the call is settled: for a stream, before its last event."""

    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    stream: AsyncIterator[bytes] | None = None
    receipt: Receipt | None = None
    tally: Tally = field(default_factory=lambda: Tally(0))


@dataclass(slots=True)
class Asking:
    """One request on its way through the gateway, whatever the number of its attempts."""

    runtime: Runtime
    caller: Caller
    surface: Surface
    body: dict[str, Any]
    asked: Asked
    request_id: str
    entry: Entry
    wait: Wait = field(default_factory=Wait)
    keep: Callable[[bytes, dict[str, str]], Awaitable[None]] | None = None
    shadow_of: str = ""
    alias: str = ""
    tag: str = ""
    betas: str = ""
    answer: Answer = field(default_factory=Answer)
    admission: Admission | None = None
    inner: AsyncIterator[bytes] | None = None
    slept: bool = False
    closed: bool = False


@dataclass(slots=True)
class _Call:
    """One attempt: everything that the steps after `reserve` need."""

    asking: Asking
    row: Call
    target: Target
    tally: Tally
    source: Source
    sink: Sink
    slot: Slot
    answered: bool = False


async def run(asking: Asking, target: Target) -> None:
    """Let the target answer: `asking.answer` has the body or the stream afterwards. Raises WireError if it did not."""
    check_context(asking.asked, target.context_tokens)
    check_media(asking.asked, reads_media=target.reads_media, name=target.model)
    with understood():
        said = _translation(asking, target)
    call, bound = await _reserve(asking, target, said)
    try:
        with understood():
            sent = said.body(bound) | {"model": target.upstream_model}
        if _wants_the_new_name(asking, target, said) and "max_tokens" in sent:
            sent["max_completion_tokens"] = sent.pop("max_tokens")
        read_s = None if asking.asked.stream else upstream.WHOLE_S
        response = await asking.runtime.upstream.open(
            target, said.path, orjson.dumps(sent), request_id=asking.request_id, read_s=read_s,
            betas=asking.betas if said.is_native else "",
        )  # fmt: skip
        asking.answer.tally = call.tally
        asking.answer.headers |= {
            "x-modelport-path": target.path,
            "x-modelport-model": target.model,
            "x-modelport-target": target.where,
        }
        if not asking.asked.stream:
            await _whole(call, response)
            return
        stream = _relay(call, response)
        await anext(stream)  # begun: from here on its own `finally` settles, whoever drops it
    except BaseException:
        await _give_up(call)
        raise
    asking.inner = stream
    if asking.answer.stream is None:
        asking.answer.stream = stream


def _wants_the_new_name(asking: Asking, target: Target, said: "_Said") -> bool:
    """OpenAI's own chat takes a bound that we set or translated only as max_completion_tokens for its newer models."""
    ours = not said.is_native or "max_tokens" not in asking.body
    return ours and said.path == PATHS[CHAT] and OPENAIS_OWN in target.base_url


def sink(asking: Asking, model: str, *, native: bool = False) -> Sink:
    """Who writes for this client: from the target's own objects, or from chat's."""
    writing = Writing(asking.body, asking.asked, model, asking.request_id)
    make = asking.surface.native_sink if native else asking.surface.chat_sink or asking.surface.native_sink
    return make(writing)


def close(asking: Asking, status: int, code: str = "") -> None:
    """The request is over: give back its places, write its line. Only the first time counts."""
    if asking.closed:
        return
    asking.closed = True
    entry = asking.entry
    entry.status, entry.code = status, code
    entry.deployment_id = entry.deployment_id or asking.wait.deployment_id
    billed = asking.answer.tally if asking.answer.receipt else None
    if asking.admission is not None:
        asking.runtime.admissions.pop(asking.admission.id, None)
        asking.runtime.limiter.end(asking.admission, billed.tokens if billed else None)
    if billed is not None and asking.answer.receipt is not None:
        quantities = billed.quantities()
        entry.tokens_out = int(sum(count for meter, count in quantities.items() if meter in OUTPUT))
        entry.tokens_in = int(sum(quantities.values())) - entry.tokens_out
        entry.cost = asking.answer.receipt.cost
        metrics.child(metrics.TOKENS, entry.path, "in").inc(entry.tokens_in)
        metrics.child(metrics.TOKENS, entry.path, "out").inc(entry.tokens_out)
        metrics.child(metrics.COST, entry.path).inc(float(entry.cost))
    asking.runtime.journal.add(entry)


@dataclass(frozen=True, slots=True)
class _Said:
    """How a request is said at one target: where it goes, its body, and who reads what comes back."""

    path: str
    is_native: bool
    body: Callable[[int | None], dict[str, Any]]
    source: Callable[[Tally], Source]


def _translation(asking: Asking, target: Target) -> _Said:
    """Raises 400 for what can't be said at this target."""
    surface, adapter, body, where = asking.surface, ADAPTERS[target.wire], asking.body, target.where
    name = surface.name
    if adapter.speaks(name, body):
        return _Said(
            PATHS[name],
            True,
            lambda bound: adapter.native_body(name, body, max_tokens=bound),
            lambda tally: adapter.native_source(name, body, tally, where),
        )
    if surface.to_chat is None:
        raise bad_request(
            f"{target.model} has no {name.replace('_', ' ')}: {where} does not offer it.",
            param="model",
            code="unsupported_endpoint",
        )
    chat = surface.to_chat(body)
    return _Said(
        adapter.chat_path(),
        False,
        lambda bound: adapter.chat_body(chat, max_tokens=bound),
        lambda tally: adapter.chat_source(chat, tally, where),
    )


async def _reserve(asking: Asking, target: Target, said: _Said) -> tuple[_Call, int | None]:
    """The call, durably let in, and the bound on its output that a budget counts on."""
    asked, caller, runtime = asking.asked, asking.caller, asking.runtime
    tally = Tally(asked.prompt_tokens, has_output=asked.has_output)
    with understood():  # before anything is held: nothing that can fail may stand between reserve and its release
        source, writer = said.source(tally), sink(asking, target.model, native=said.is_native)
    most_output = asked.max_tokens or min(target.context_tokens or DEFAULT_OUTPUT_TOKENS, DEFAULT_OUTPUT_TOKENS)
    prices = await runtime.prices(target.sku, caller.team_id)
    prompt = Decimal(asked.most_prompt_tokens)
    most = {_dearest(PROMPT, prices, prompt): prompt}
    if asked.has_output:
        most[_dearest(OUTPUT, prices, prompt)] = Decimal(most_output * asked.choices)
    row = Call(
        id=uuid4(),
        team_id=caller.team_id,
        time_zone=caller.time_zone,
        path="hosted" if target.path == "hosted" else "serverless",
        sku=target.sku,
        source=f"{target.model} (shadow)" if asking.shadow_of else target.model,
        model_name=target.model_name,
        deployment_name=target.deployment_name,
        api_key_name=caller.api_key_name,
        api_key_id=caller.api_key_id,
        member=caller.member,
        tag=asking.tag or caller.tag,
        alias=asking.alias,
        prices=prices,
        estimate=tally.estimate(),
        most=most,
        started_at=datetime.now(UTC),
        lease_s=LEASE_S,
    )
    slot = runtime.recorder.open(row.id, tally)
    try:
        let_in = await _let_in(runtime, row)
    except BaseException:
        slot.close()
        raise
    runtime.begin(row.id, tally, target)
    entry = asking.entry
    entry.model, entry.target, entry.path = target.model, target.where, row.path
    entry.deployment_id = target.deployment_id
    call = _Call(asking, row, target, tally, source, writer, slot)
    return call, most_output if let_in.capped and asked.has_output else None


async def _let_in(runtime: Runtime, row: Call) -> LetIn:
    try:
        return await runtime.batcher.reserve(row)
    except BudgetSpent as error:
        raise budget_spent(str(error)) from error
    except DatabaseDown as error:
        raise store_down() from error
    except BillingError as error:  # a class of tokens that nothing prices: refused, never free
        raise WireError(503, str(error), type="server_error", code="price_unknown") from error


def _dearest(classes: Iterable[str], prices: Any, prompt: Decimal) -> str:
    """The class that costs most: what the tokens of a prompt, or of an answer, can at most come to."""
    return max(sorted(classes), key=lambda meter: rating.dearest(meter, prices, prompt=prompt) or Decimal(0))


async def _whole(call: _Call, response: Response) -> None:
    """Read all, settle, answer. A client that hangs up meanwhile is drained: the work was asked for and done."""
    asking = call.asking
    try:
        async with response:
            raw = await response.read()
        answer = orjson.loads(raw)
        if not isinstance(answer, dict):
            raise ValueError("no object")
        body = orjson.dumps(call.sink.whole(call.source.whole(answer)))
    except TimeoutError as error:
        raise upstream_failed(f"{call.target.where} stopped answering.", status=504) from error
    except (OSError, *UNREADABLE) as error:
        raise upstream_failed(f"{call.target.where} sent an answer that can't be read.") from error
    call.answered = True  # from here on it is billed, by the next gateway or the sweep if need be
    call.slot.note(begun=True, ended=True)
    await _keep(asking, body)
    try:
        receipt = await _settle(call)
    except BillingError as error:
        raise unsettled() from error
    asking.answer.headers["x-modelport-cost"] = f"{receipt.cost:f}"
    asking.answer.body = body
    if asking.entry.content is not None:
        asking.entry.content.add(body)
    close(asking, 200)


async def _relay(call: _Call, response: Response) -> AsyncIterator[bytes]:
    """Forward events as they come; the last one waits for the settlement. Whatever ends it, its use is billed."""
    failure: WireError | None = None
    finished = False
    events = _events(call, response)
    try:
        first = await anext(events, b"")
    except BROKEN as error:
        response.close()
        raise _broken_off(call, error) from error  # before the first byte: not billed, and tried again
    except BaseException:
        response.close()
        raise
    try:
        async with response:  # from here on: who drops the stream before its first event has to let go of it too
            yield b""
            yield first
            async for more in events:
                yield more
        finished = True
    except BROKEN as error:
        failure, finished = _broken_off(call, error), True
    finally:
        settled = _in_background(call, _settle(call, gone=not finished, failure=failure))
    try:
        await asyncio.shield(settled)
    except BillingError:
        failure = failure or unsettled()
    yield call.sink.last() if failure is None else call.sink.failure(failure)


async def _events(call: _Call, response: Response) -> AsyncIterator[bytes]:
    """What the client gets, but for the last event. Raises if the target does not end its answer itself."""
    reader, source, sink, asking = sse.Reader(), call.source, call.sink, call.asking
    kept: list[bytes] = []
    gather_s = settings.GATEWAY_GATHER_MS / 1000
    async for chunk in response.chunks():
        items, broken = _written(call, reader.feed(chunk))
        events = b"".join(items)
        # Before it goes out: should this process be killed, that much is billed.
        call.slot.note(begun=bool(events), ended=source.ended)
        if events:
            _note(asking, kept, events)
            yield events
            if gather_s and not source.ended and broken is None:
                await response.gather(gather_s)
        if broken is not None:
            raise broken
        if source.ended:
            response.let_end()
            break
    if not source.ended:
        for data in reader.rest():  # a last line whose blank one never came
            list(source.read(data))
    if not source.ended:
        raise upstream_failed(f"{call.target.where} broke off its answer.")
    if ending := sink.end():
        _note(asking, kept, ending)
    await _keep(asking, b"".join([*kept, sink.last()]))
    if ending:
        yield ending


async def _keep(asking: Asking, whole: bytes) -> None:
    """For a retry with the same key. Where it can't be kept it goes out all the same: it was made, and it is billed."""
    if asking.keep is None:
        return
    try:
        await asking.keep(whole, asking.answer.headers)
    except WireError as error:
        log.warning("the answer to %s is not kept: %s", asking.request_id, error.message)


def _note(asking: Asking, kept: list[bytes], events: bytes) -> None:
    """Before they go out: the time of the first, and a copy for those who keep one."""
    entry = asking.entry
    if entry.first_byte_ms is None:
        entry.first_byte_ms = entry.elapsed_ms()
    if asking.keep:
        kept.append(events)
    if entry.content is not None:
        entry.content.add(events)


def _written(call: _Call, events: list[bytes]) -> tuple[list[bytes], Exception | None]:
    """What the client gets for these events, and what is wrong with the first one that can't be read: what came
    before it goes out first, because it was counted."""
    items: list[bytes] = []
    try:
        for data in events:
            if not call.source.ended:
                items += [call.sink.put(item) for item in call.source.read(data)]
    except BROKEN as error:
        return items, error
    return items, None


def _broken_off(call: _Call, error: Exception) -> WireError:
    match error:
        case WireError():
            return error
        case TimeoutError():
            return upstream_failed(f"{call.target.where} stopped answering.", status=504)
        case AttributeError() | IndexError() | KeyError() | TypeError() | ValueError():
            log.warning("an event of %s could not be read", call.target.where, exc_info=error)
            return upstream_failed(f"{call.target.where} sent an event that can't be read.")
        case _:
            return upstream_failed(f"{call.target.where} broke off its answer.")


async def _settle(call: _Call, *, gone: bool = False, failure: WireError | None = None) -> Receipt:
    """Make the call's use final; the counters and the ledger move in one durable transaction."""
    asking, began = call.asking, time.perf_counter()
    settlement = Settlement(
        id=call.row.id,
        quantities=call.tally.quantities(),
        quality="measured" if call.tally.measured else "estimated",
        raw_usage=call.tally.usage,
        ended_at=datetime.now(UTC),
    )
    try:
        receipt = asking.answer.receipt = await asking.runtime.batcher.settle(settlement)
    except BillingError as error:
        log.error("call %s could not be settled; the sweep will (%s)", call.row.id, error)
        close(asking, 503, "store_unavailable")
        raise
    finally:
        asking.runtime.end(call.row.id)
    call.slot.close()
    metrics.SETTLE_LAG.observe(time.perf_counter() - began)
    if gone:
        close(asking, 499, "client_gone")
    elif failure is not None:
        close(asking, failure.status, failure.code or "")
    elif asking.asked.stream:
        close(asking, 200)
    return receipt


async def _give_up(call: _Call) -> None:
    """It failed before its first byte: release what it held, also when this task is being cancelled."""
    call.asking.runtime.end(call.row.id)
    if not call.answered:
        released = _in_background(call, _release(call))
        await asyncio.wait({released}, timeout=RELEASE_S)  # its caller should hear what failed, not wait for this


async def _release(call: _Call) -> None:
    """The batcher tries for a while; a database that is away for longer is waited for here."""
    for _ in range(RELEASES):
        try:
            await call.asking.runtime.batcher.void(call.row.id)
        except DatabaseDown:
            continue
        except BillingError as error:
            log.warning("call %s could not be released: %s", call.row.id, error)
        call.slot.close()
        return


def _in_background(call: _Call, work: Any) -> "asyncio.Task[Any]":
    """Goes on though its caller is cancelled; the runtime waits for it before it closes."""
    runtime = call.asking.runtime
    task = asyncio.get_running_loop().create_task(work)
    runtime.settling.add(task)
    task.add_done_callback(runtime.settling.discard)
    task.add_done_callback(lambda done: done.cancelled() or done.exception())
    return task
