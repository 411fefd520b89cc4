"""A provider at the edge of our world: Anthropic's Messages API over a real socket, strict about what it is sent."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager
from typing import Any

from aiohttp import web

from tests.fakes.openai_upstream import Metered, minimal, served

USAGE = {
    "input_tokens": 7,
    "cache_read_input_tokens": 4,
    "cache_creation_input_tokens": 2,
    "output_tokens": 3,
}
WORDS = ["One", " two", " three"]
BLOCKS = {
    "user": {"text", "image", "document", "tool_result"},
    "assistant": {"text", "tool_use", "thinking", "redacted_thinking"},
}


class AnthropicProvider(Metered):
    """Anthropic's Messages API. `betas`: the header of that name, for each of `calls`."""

    def __init__(self) -> None:
        super().__init__()
        self.betas: list[str] = []

    def routes(self, app: web.Application) -> None:
        app.router.add_post("/v1/messages", self.answer)
        app.router.add_post("/v1/messages/count_tokens", self.count)
        app.router.add_get("/v1/models", self.models)

    async def models(self, request: web.Request) -> web.Response:
        if request.headers.get("x-api-key") != "sk-provider-secret":
            return _error(401, "authentication_error", "invalid x-api-key")
        return web.json_response({"data": [{"type": "model", "id": "claude"}], "has_more": False})

    async def count(self, request: web.Request) -> web.Response:
        if problem := _problem(request, body := await request.json(), counts=True):
            return _error(400, "invalid_request_error", problem)
        return web.json_response({"input_tokens": len(json.dumps(body["messages"]))})

    async def answer(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.calls.append(body)
        self.betas.append(request.headers.get("anthropic-beta", ""))
        if problem := _problem(request, body):
            return _error(400, "invalid_request_error", problem)
        match body["model"]:
            case "busy":
                return _error(429, "rate_limit_error", "slow down", {"retry-after": "7"})
            case "broken":
                return _error(500, "api_error", "secret sk-123")
            case "overloaded":
                return _error(529, "overloaded_error", "Overloaded")
            case "html":
                return web.Response(text="<html>Bad gateway</html>", status=502, content_type="text/html")
        content, reason = _content(body)
        if body.get("stream"):
            return await self._stream(request, body["model"], content, reason)
        message = _message(body["model"], content, reason)
        if body["model"] == "no-usage":
            del message["usage"]
        else:
            self.metered.update(USAGE)
        return web.json_response(message)

    async def _stream(
        self, request: web.Request, model: str, content: list[dict[str, Any]], reason: str
    ) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        try:
            async for event in _events(model, content, reason):
                await response.write(event)
        except (ConnectionResetError, asyncio.CancelledError):
            self.gone += 1
            raise
        if model == "cut" and request.transport:
            request.transport.abort()
        elif model not in {"no-usage", "garbage", "no-done"}:
            self.metered.update(USAGE)
        return response


async def _events(model: str, content: list[dict[str, Any]], reason: str) -> AsyncIterator[bytes]:
    head = _message(model, [], None)
    head["usage"] = {**USAGE, "output_tokens": 1}
    if model == "no-usage":
        del head["usage"]
    yield _event({"type": "message_start", "message": head})
    yield _event({"type": "ping"})
    for index, block in enumerate(content):
        empty = {**block, "text": ""} if block["type"] == "text" else {**block, "input": {}}
        yield _event({"type": "content_block_start", "index": index, "content_block": empty})
        for delta in _deltas(model, block):
            yield _event({"type": "content_block_delta", "index": index, "delta": delta})
            if model == "endless":
                await asyncio.sleep(0.02)
        if model == "cut":
            return
        if model == "garbage":
            yield b"event: content_block_delta\ndata: {not json\n\n"
            return
        yield _event({"type": "content_block_stop", "index": index})
    delta = {"stop_reason": reason, "stop_sequence": None}
    usage = {} if model == "no-usage" else {"usage": {"output_tokens": USAGE["output_tokens"]}}
    yield _event({"type": "message_delta", "delta": delta, **usage})
    if model != "no-done":
        yield _event({"type": "message_stop"})


def _deltas(model: str, block: dict[str, Any]) -> list[dict[str, Any]]:
    if block["type"] == "tool_use":
        text = json.dumps(block["input"])
        return [{"type": "input_json_delta", "partial_json": part} for part in (text[:5], text[5:])]
    words = WORDS * 200 if model == "endless" else WORDS
    return [{"type": "text_delta", "text": word} for word in words]


def _content(body: dict[str, Any]) -> tuple[list[dict[str, Any]], str]:
    """A tool's call when tools are there and the user spoke last; else words."""
    last = body["messages"][-1]["content"]
    answered = isinstance(last, list) and any(block["type"] == "tool_result" for block in last)
    choice = body.get("tool_choice") or {}
    if body.get("tools") and not answered and choice.get("type") != "none":
        tool = next((tool for tool in body["tools"] if tool["name"] == choice.get("name")), body["tools"][0])
        given = minimal(tool["input_schema"])
        return [{"type": "tool_use", "id": "toolu_1", "name": tool["name"], "input": given}], "tool_use"
    return [{"type": "text", "text": "".join(WORDS)}], "end_turn"


def _problem(request: web.Request, body: dict[str, Any], *, counts: bool = False) -> str:
    """What the real API would not take."""
    if request.headers.get("x-api-key") != "sk-provider-secret" or "anthropic-version" not in request.headers:
        return "x-api-key and anthropic-version are required"
    if not counts and not isinstance(body.get("max_tokens"), int):
        return "max_tokens: Field required"
    unknown = set(body) - {
        "model", "max_tokens", "messages", "system", "tools", "tool_choice", "stream", "stop_sequences", "metadata",
        "temperature", "top_p", "top_k", "thinking", "output_config",
    }  # fmt: skip
    if unknown:
        return f"{sorted(unknown)[0]}: Extra inputs are not permitted"
    asked: set[str] = set()
    for index, message in enumerate(body.get("messages") or []):
        if message["role"] not in BLOCKS:
            return f"messages.{index}.role: Input should be 'user' or 'assistant'"
        if index and body["messages"][index - 1]["role"] == message["role"]:
            return f"messages.{index}: roles must alternate"
        blocks = message["content"] if isinstance(message["content"], list) else []
        for block in blocks:
            if block["type"] not in BLOCKS[message["role"]]:
                return f"messages.{index}.content: {block['type']} is not known here"
            if block["type"] == "tool_use":
                asked.add(block["id"])
            if block["type"] == "tool_result" and block["tool_use_id"] not in asked:
                return f"messages.{index}.content: no tool_use has the id {block['tool_use_id']}"
            if block["type"] == "text" and not block["text"]:
                return f"messages.{index}.content: text content blocks must be non-empty"
    return "" if body.get("messages") else "messages: at least one message is required"


def _message(model: str, content: list[dict[str, Any]], reason: str | None) -> dict[str, Any]:
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": content,
        "stop_reason": reason,
        "stop_sequence": None,
        "usage": dict(USAGE),
    }


def _error(status: int, kind: str, message: str, headers: dict[str, str] | None = None) -> web.Response:
    body = {"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_up"}
    return web.json_response(body, status=status, headers=headers)


def _event(event: dict[str, Any]) -> bytes:
    return f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode()


def running() -> AbstractContextManager[AnthropicProvider]:
    """The provider on a free loopback port, in a thread of its own."""
    return served(AnthropicProvider())
