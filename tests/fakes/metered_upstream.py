"""A provider with a meter of its own: it counts what it read and what it sent, call by call, in each class of tokens.

It speaks OpenAI's wire and Anthropic's over a real socket. A token is four bytes of the prompt, and four letters of the
answer, one chunk each. The caller's number and what shall become of the call stand where both wires name a user; from
the number follows, always the same, how many tokens of which class the call has.

How a model reports is its name: `final` at the end of a stream, `running` with each chunk, `whole` without a stream.
"""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from tests.fakes.openai_upstream import served

TOKEN_S = 0.02
PER_MESSAGE = 8
GONE_WITHIN_S = 60


@dataclass(slots=True)
class Bill:
    """What the provider asks for one call. `ended`: it sent all, and said how much that was."""

    number: int
    model: str
    fate: str
    metered: Counter[str] = field(default_factory=Counter)
    asked: int = 1
    ended: bool = False

    @property
    def input(self) -> Counter[str]:
        return inputs(self.metered)

    @property
    def sent(self) -> int:
        """Tokens of the answer."""
        return (self.metered - self.input).total()


def inputs(classes: Counter[str]) -> Counter[str]:
    """Those of the prompt."""
    return Counter({meter: many for meter, many in classes.items() if meter.startswith("tokens.input")})


def prompt_of(number: int) -> str:
    """Four bytes a token, and one token a number: the prompt's length says which call it is."""
    return "word" * number


def read_of(number: int, wire: str) -> Counter[str]:
    """The prompt's tokens by class."""
    total = number + PER_MESSAGE
    cached, written = total * (number % 4) // 5, total * (number % 3) // 10
    classes = Counter({"tokens.input.cached": cached, "tokens.input.cache_write": written})
    if wire == "anthropic":
        hour = written // 2
        classes += Counter({"tokens.input.cache_write_1h": hour})
        classes["tokens.input.cache_write"] -= hour
    else:
        classes["tokens.input.audio"] = total * (number % 2) // 10
    classes["tokens.input"] = total - classes.total()
    return +classes


def answer_of(number: int, wire: str) -> list[str]:
    """The class of each token of the answer, in the order in which they come."""
    plain = ["tokens.output"] * (4 + number % 9)
    if wire == "anthropic":
        return plain
    return ["tokens.output.reasoning"] * (number % 4) + plain + ["tokens.output.audio"] * (number % 2)


class MeteredProvider:
    """`bills` by the callers' numbers."""

    def __init__(self) -> None:
        self.bills: dict[int, Bill] = {}
        self.base_url = ""

    def routes(self, app: web.Application) -> None:
        app.router.add_post("/v1/chat/completions", self.chat)
        app.router.add_post("/v1/messages", self.messages)

    async def chat(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        bill = self._opened(body, body["user"], wire="openai")
        if not body.get("stream"):
            return await self._whole(bill)
        return await self._sent(request, bill, _chunks(bill))

    async def messages(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        bill = self._opened(body, body["metadata"]["user_id"], wire="anthropic")
        return await self._sent(request, bill, _events(bill))

    def _opened(self, body: dict[str, Any], user: str, *, wire: str) -> Bill:
        """The prompt is read, and that is metered."""
        number, fate = user.split()
        tokens = len(body["messages"][0]["content"]) // 4
        if tokens != int(number):
            raise ValueError(f"the prompt of call {number} has {tokens} tokens")
        known = self.bills.get(tokens)
        bill = Bill(tokens, body["model"], fate, asked=known.asked + 1 if known else 1)
        bill.metered += read_of(tokens, wire)
        self.bills[tokens] = bill
        return bill

    async def _whole(self, bill: Bill) -> web.Response:
        classes = answer_of(bill.number, "openai")
        await asyncio.sleep(TOKEN_S * len(classes))
        bill.metered.update(classes)
        bill.ended = True
        message = {"role": "assistant", "content": "tok " * len(classes)}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        answer = {"id": "c", "object": "chat.completion", "created": 1, "model": bill.model, "choices": [choice]}
        return web.json_response(answer | {"usage": _openai_usage(bill.metered)})

    async def _sent(self, request: web.Request, bill: Bill, events: AsyncIterator[bytes]) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        async for event in events:
            await response.write(event)
            if bill.sent and bill.sent == cut_after(bill.number) and bill.fate != "whole":
                await self._cut(request, bill)
                return response
        return response

    async def _cut(self, request: web.Request, bill: Bill) -> None:
        """In the middle of the answer: the line breaks here, or there is silence until the caller goes."""
        if bill.fate == "left":
            await asyncio.sleep(GONE_WITHIN_S)
        await asyncio.sleep(TOKEN_S)  # what was sent before has come
        if request.transport:
            request.transport.abort()


def cut_after(number: int) -> int:
    """After how many tokens of the answer a call is cut that shall be."""
    return 1 + number % 4


async def _chunks(bill: Bill) -> AsyncIterator[bytes]:
    """OpenAI's chunks; each reports the usage so far where the model's name says so."""
    running = bill.model == "running"
    for kind in answer_of(bill.number, "openai"):
        await asyncio.sleep(TOKEN_S)
        bill.metered[kind] += 1
        name = "reasoning_content" if kind == "tokens.output.reasoning" else "content"
        yield _chunk(bill, {name: "tok "}, usage=_openai_usage(bill.metered) if running else None)
    bill.ended = True
    yield _chunk(bill, {}, finish="stop", usage=_openai_usage(bill.metered) if running else None)
    if not running:
        whole = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": bill.model, "choices": []}
        yield b"data: " + json.dumps(whole | {"usage": _openai_usage(bill.metered)}).encode() + b"\n\n"
    yield b"data: [DONE]\n\n"


async def _events(bill: Bill) -> AsyncIterator[bytes]:
    """Anthropic's events: the prompt's classes are reported at the start, the answer's tokens at the end."""
    message = {"id": "m", "type": "message", "role": "assistant", "model": bill.model, "content": []}
    yield _event("message_start", message=message | {"stop_reason": None, "usage": _anthropic_usage(bill.metered)})
    yield _event("content_block_start", index=0, content_block={"type": "text", "text": ""})
    for kind in answer_of(bill.number, "anthropic"):
        await asyncio.sleep(TOKEN_S)
        bill.metered[kind] += 1
        yield _event("content_block_delta", index=0, delta={"type": "text_delta", "text": "tok "})
    yield _event("content_block_stop", index=0)
    bill.ended = True
    usage = {"output_tokens": bill.metered["tokens.output"]}
    yield _event("message_delta", delta={"stop_reason": "end_turn", "stop_sequence": None}, usage=usage)
    yield _event("message_stop")


def _openai_usage(metered: Counter[str]) -> dict[str, Any]:
    """As OpenAI says it: the rarer classes are part of the prompt's and the answer's totals."""
    read = inputs(metered).total()
    said = metered.total() - read
    return {
        "prompt_tokens": read,
        "completion_tokens": said,
        "total_tokens": read + said,
        "prompt_tokens_details": {
            "cached_tokens": metered["tokens.input.cached"],
            "cache_creation_tokens": metered["tokens.input.cache_write"],
            "audio_tokens": metered["tokens.input.audio"],
        },
        "completion_tokens_details": {
            "reasoning_tokens": metered["tokens.output.reasoning"],
            "audio_tokens": metered["tokens.output.audio"],
        },
    }


def _anthropic_usage(metered: Counter[str]) -> dict[str, Any]:
    """As Anthropic says it: the classes are disjoint, those of the cache's writes are told apart beside their sum."""
    hour, short = metered["tokens.input.cache_write_1h"], metered["tokens.input.cache_write"]
    return {
        "input_tokens": metered["tokens.input"],
        "cache_read_input_tokens": metered["tokens.input.cached"],
        "cache_creation_input_tokens": hour + short,
        "cache_creation": {"ephemeral_5m_input_tokens": short, "ephemeral_1h_input_tokens": hour},
        "output_tokens": metered["tokens.output"],
    }


def _chunk(bill: Bill, delta: dict[str, str], *, usage: dict[str, Any] | None, finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    chunk = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": bill.model, "choices": [choice]}
    return b"data: " + json.dumps(chunk | ({"usage": usage} if usage else {})).encode() + b"\n\n"


def _event(kind: str, **fields: Any) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind} | fields)}\n\n".encode()


def running() -> AbstractContextManager[MeteredProvider]:
    """The provider on a free loopback port, in a thread of its own."""
    return served(MeteredProvider())
