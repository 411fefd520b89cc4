"""The use case: allow, price, reserve, route, stream, settle. The API and the playground both call it."""

import asyncio
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import uuid4

import aiohttp
import orjson

from billing.errors import BillingError, BudgetSpent, DatabaseDown
from billing.metering import Call, Receipt, Settlement
from billing.meters import TOKENS_INPUT, TOKENS_OUTPUT
from gateway import sse
from gateway.auth import Caller
from gateway.errors import WireError, budget_spent, store_down, upstream_failed
from gateway.protocols import openai
from gateway.protocols.openai import Asked
from gateway.routing import Target
from gateway.runtime import LEASE_S, Runtime
from gateway.usage import Tally

log = logging.getLogger(__name__)

DEFAULT_OUTPUT_TOKENS = 4096
DONE = b"[DONE]"


@dataclass(slots=True)
class Answer:
    """`body` or `stream` is set. `receipt` is there once the call is settled: for a stream, before its last event."""

    headers: dict[str, str]
    body: bytes = b""
    stream: AsyncIterator[bytes] | None = None
    receipt: Receipt | None = None
    tally: Tally = field(default_factory=lambda: Tally(0))


@dataclass(slots=True)
class _Call:
    """One call on its way: everything that the steps after `reserve` need."""

    runtime: Runtime
    row: Call
    asked: Asked
    target: Target
    tally: Tally
    answer: Answer


async def chat(runtime: Runtime, caller: Caller, body: dict[str, Any], request_id: str) -> Answer:
    """Answer a chat/completions body, or raise WireError. Nothing is billed for a call that fails before its first
    byte; a delivered one is billed once, durably, before its last byte goes out."""
    asked = openai.check(body)
    target = await runtime.router.find(caller, asked.model)
    openai.check_context(asked, target.context_tokens)
    call = await _reserve(runtime, caller, asked, target)
    try:
        sent = openai.for_upstream(body, target.upstream_model)
        response = await runtime.upstream.open(target, sent, request_id=request_id)
        if not asked.stream:
            return await _whole(call, response)
    except BaseException:
        await _give_up(call)
        raise
    call.answer.stream = _relay(call, response)
    await anext(call.answer.stream)  # begun: from here on its own `finally` settles, whoever drops it
    return call.answer


async def _reserve(runtime: Runtime, caller: Caller, asked: Asked, target: Target) -> _Call:
    tally = Tally(asked.prompt_tokens)
    most_output = asked.max_tokens or min(target.context_tokens or DEFAULT_OUTPUT_TOKENS, DEFAULT_OUTPUT_TOKENS)
    row = Call(
        id=uuid4(),
        team_id=caller.team_id,
        time_zone=caller.time_zone,
        path="hosted" if target.path == "hosted" else "serverless",
        sku=target.sku,
        source=target.model,
        model_name=target.model_name,
        deployment_name=target.deployment_name,
        api_key_name=caller.api_key_name,
        prices=await runtime.prices(target.sku),
        estimate=tally.estimate(),
        most={
            TOKENS_INPUT.name: Decimal(asked.most_prompt_tokens),
            TOKENS_OUTPUT.name: Decimal(most_output * asked.choices),
        },
        started_at=datetime.now(UTC),
        lease_s=LEASE_S,
    )
    try:
        await runtime.batcher.reserve(row)
    except BudgetSpent as error:
        raise budget_spent(str(error)) from error
    except DatabaseDown as error:
        raise store_down() from error
    except BillingError as error:  # a class of tokens that nothing prices: refused, never free
        raise WireError(503, str(error), type="server_error", code="price_unknown") from error
    runtime.begin(row.id, tally, target)
    headers = {"x-modelport-path": target.path, "x-modelport-model": target.model, "x-modelport-target": target.where}
    return _Call(runtime, row, asked, target, tally, Answer(headers=headers, tally=tally))


async def _whole(call: _Call, response: aiohttp.ClientResponse) -> Answer:
    """Read all, settle, answer. A client that hangs up meanwhile is drained: the work was asked for and done."""
    try:
        async with response:
            raw = await response.read()
        body = orjson.loads(raw)
        if not isinstance(body, dict) or "choices" not in body:
            raise ValueError("no choices")
    except TimeoutError as error:
        raise upstream_failed(f"{call.target.where} stopped answering.", status=504) from error
    except (aiohttp.ClientError, OSError, ValueError) as error:
        raise upstream_failed(f"{call.target.where} sent an answer that can't be read.") from error
    call.tally.see(body)
    body["model"] = call.target.model
    receipt = await _settle(call)
    call.answer.headers["x-modelport-cost"] = f"{receipt.cost:f}"
    call.answer.body = orjson.dumps(body)
    return call.answer


async def _relay(call: _Call, response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    """Forward events as they come; [DONE] waits for the settlement. Whatever ends the stream, its use is billed."""
    reader, whole, failure = sse.Reader(), False, None
    try:
        yield b""
        async with response:
            async for chunk in response.content.iter_any():
                for data in reader.feed(chunk):
                    if data == DONE:
                        whole = True
                        break
                    if event := _forwarded(call, data):
                        yield event
                if whole:
                    break
    except WireError as error:
        failure = error
    except TimeoutError:
        failure = upstream_failed(f"{call.target.where} stopped answering.", status=504)
    except (aiohttp.ClientError, OSError):
        failure = upstream_failed(f"{call.target.where} broke off its answer.")
    finally:
        settled = _in_background(call, _settle(call))
    try:
        await asyncio.shield(settled)
    except BillingError:
        failure = failure or store_down()
    if not whole and failure is None:
        failure = upstream_failed(f"{call.target.where} broke off its answer.")
    yield _event(DONE) if failure is None else _event(failure.body())


def _forwarded(call: _Call, data: bytes) -> bytes:
    """The event as the client gets it: with the name it asked for; without the usage that only we asked for."""
    try:
        chunk = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise upstream_failed(f"{call.target.where} sent an event that can't be read.") from error
    if not isinstance(chunk, dict):
        raise upstream_failed(f"{call.target.where} sent an event that can't be read.")
    if "error" in chunk:
        raise upstream_failed(f"{call.target.where} failed in the middle of its answer.")
    call.tally.see(chunk)
    if not call.asked.include_usage and "usage" in chunk:
        if not chunk.get("choices"):
            return b""
        del chunk["usage"]
    if "model" in chunk:
        chunk["model"] = call.target.model
    return _event(orjson.dumps(chunk))


async def _settle(call: _Call) -> Receipt:
    """Make the call's use final; the counters and the ledger move in one durable transaction."""
    settlement = Settlement(
        id=call.row.id,
        quantities=call.tally.quantities(),
        quality="measured" if call.tally.measured else "estimated",
        raw_usage=call.tally.usage,
        ended_at=datetime.now(UTC),
    )
    try:
        call.answer.receipt = await call.runtime.batcher.settle(settlement)
    except DatabaseDown as error:
        log.error("call %s could not be settled; the sweep will (%s)", call.row.id, error)
        raise
    finally:
        call.runtime.end(call.row.id)
    return call.answer.receipt


async def _give_up(call: _Call) -> None:
    """It failed before its first byte: release what it held, also when this task is being cancelled."""
    call.runtime.end(call.row.id)
    if call.answer.receipt is None:
        await asyncio.shield(_in_background(call, call.runtime.batcher.void(call.row.id)))


def _in_background(call: _Call, work: Any) -> "asyncio.Task[Any]":
    """Goes on though its caller is cancelled; the runtime waits for it before it closes."""
    task = asyncio.get_running_loop().create_task(work)
    call.runtime.settling.add(task)
    task.add_done_callback(call.runtime.settling.discard)
    task.add_done_callback(lambda done: done.cancelled() or done.exception())
    return task


def _event(data: bytes) -> bytes:
    return b"data: " + data + b"\n\n"
