"""A provider at the edge of our world: OpenAI's wire over a real socket, as well behaved as its model's name says."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

from aiohttp import web

USAGE = {"prompt_tokens": 11, "completion_tokens": 3, "total_tokens": 14, "prompt_tokens_details": {"cached_tokens": 4}}
WORDS = ["One", " two", " three"]


class Provider:
    """`calls` are the bodies that came in; `gone` counts streams that the other side cut."""

    def __init__(self) -> None:
        self.calls: list[dict[str, Any]] = []
        self.gone = 0
        self.base_url = ""

    async def answer(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.calls.append(body)
        match body["model"]:
            case "busy":
                return web.json_response({"error": {"message": "slow down"}}, status=429, headers={"retry-after": "7"})
            case "broken":
                return web.json_response({"error": {"message": "secret sk-123"}}, status=500)
            case "html":
                return web.Response(text="<html>Bad gateway</html>", status=502, content_type="text/html")
            case "too-long":
                error = {"type": "exceed_context_size_error", "n_prompt_tokens": 5000, "n_ctx": 2048, "message": "x"}
                return web.json_response({"error": error}, status=400)
        if body.get("stream"):
            return await self._stream(request, body["model"])
        choice = {"index": 0, "message": {"role": "assistant", "content": "One two three"}, "finish_reason": "stop"}
        answer = {"id": "c", "object": "chat.completion", "created": 1, "model": body["model"], "choices": [choice]}
        if body["model"] != "no-usage":
            answer["usage"] = USAGE
        return web.json_response(answer)

    async def _stream(self, request: web.Request, model: str) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        try:
            async for piece in _pieces(model):
                await response.write(piece)
        except (ConnectionResetError, asyncio.CancelledError):
            self.gone += 1
            raise
        if model == "cut" and request.transport:
            request.transport.abort()
        return response


async def _pieces(model: str) -> AsyncIterator[bytes]:
    words = WORDS * 200 if model == "endless" else WORDS
    for word in words:
        yield _event(_chunk(model, word))
        if model == "endless":
            await asyncio.sleep(0.02)
    if model == "cut":
        return
    if model == "garbage":
        yield b"data: {not json\n\n"
        return
    yield _event(_chunk(model, None, finish="stop"))
    if model != "no-usage":
        usage = _event({**_chunk(model, None), "choices": [], "usage": USAGE})
        yield usage
        if model == "twice":
            yield usage
    if model != "no-done":
        yield b"data: [DONE]\n\n"


def _chunk(model: str, text: str | None, *, finish: str | None = None) -> dict[str, Any]:
    choice = {"index": 0, "delta": {"content": text} if text else {}, "finish_reason": finish}
    return {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": model, "choices": [choice]}


def _event(chunk: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(chunk).encode() + b"\n\n"


@contextmanager
def running() -> Iterator[Provider]:
    """The provider on a free loopback port, in a thread of its own."""
    provider, loop, up = Provider(), asyncio.new_event_loop(), threading.Event()

    async def serve() -> None:
        app = web.Application(client_max_size=64 * 1024 * 1024)
        app.router.add_post("/v1/chat/completions", provider.answer)
        runner = web.AppRunner(app, handler_cancellation=True)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        assert site._server
        provider.base_url = f"http://127.0.0.1:{site._server.sockets[0].getsockname()[1]}/v1"  # type: ignore[attr-defined]
        up.set()

    thread = threading.Thread(target=_forever, args=(loop, serve()), daemon=True)
    thread.start()
    assert up.wait(5)
    yield provider
    loop.call_soon_threadsafe(loop.stop)
    thread.join(5)


def _forever(loop: asyncio.AbstractEventLoop, first: Any) -> None:
    asyncio.set_event_loop(loop)
    loop.run_until_complete(first)
    loop.run_forever()
