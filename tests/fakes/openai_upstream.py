"""A provider at the edge of our world: OpenAI's wire over a real socket, as well behaved as its model's name says."""

import asyncio
import json
import threading
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol, TypeVar

from aiohttp import web

USAGE = {"prompt_tokens": 11, "completion_tokens": 3, "total_tokens": 14, "prompt_tokens_details": {"cached_tokens": 4}}
METERED = {"tokens.input": 7, "tokens.input.cached": 4, "tokens.output": 3}
WORDS = ["One", " two", " three"]
# What a model that means ill, or repeats what it read, may say: nothing of it may ever run.
HOSTILE = """# <img src=x onerror="window.hacked=1">

<script>window.hacked = 1</script>

<img src=x onerror=window.hacked=1><svg onload=window.hacked=1><iframe srcdoc="<script>parent.hacked=1</script>">

[run](javascript:window.hacked=1) [data](data:text/html,<script>window.hacked=1</script>) [odd](JaVa\tscript:alert(1))
[vb](vbscript:x) <javascript:window.hacked=1> ![pixel](https://tracker.invalid/pixel.png) [good](https://example.com/a_b)

```html
<script>window.hacked = 1</script><img src=x onerror=window.hacked=1>
```

| a <b onclick=window.hacked=1>b</b> | `<script>` |
|---|--:|
| <style>body{display:none}</style> | [x](javascript:void(0)) |

> <form action=//evil.invalid><button>press</button></form>

- **bold <script>window.hacked=1</script>** and `code`
  1. nested &lt;script&gt; &#60;img&#62;
"""


class Metered:
    """`calls` are the bodies that came in; `metered` what it would bill; `gone` counts streams that were cut."""

    def __init__(self) -> None:
        self.calls: list[dict[str, Any]] = []
        self.metered: Counter[str] = Counter()
        self.gone = 0
        self.base_url = ""


class Provider(Metered):
    """An OpenAI-compatible API."""

    def routes(self, app: web.Application) -> None:
        app.router.add_post("/v1/chat/completions", self.answer)
        app.router.add_post("/v1/completions", self.complete)
        app.router.add_post("/v1/embeddings", self.embed)
        app.router.add_get("/v1/models", self.models)

    async def models(self, request: web.Request) -> web.Response:
        if request.headers.get("authorization") != "Bearer sk-provider-secret":
            return web.json_response({"error": {"message": "bad key"}}, status=401)
        return web.json_response({"object": "list", "data": [{"id": "good", "object": "model"}]})

    async def complete(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.calls.append(body)
        self.metered.update(METERED)
        choice = {"index": 0, "text": "One two three", "logprobs": None, "finish_reason": "stop"}
        answer = {"id": "c", "object": "text_completion", "created": 1, "model": body["model"], "choices": [choice]}
        if not body.get("stream"):
            return web.json_response({**answer, "usage": USAGE})
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        for event in (answer, {**answer, "choices": [], "usage": USAGE}):
            await response.write(_event(event))
        await response.write(b"data: [DONE]\n\n")
        return response

    async def embed(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.calls.append(body)
        texts = body["input"] if isinstance(body["input"], list) else [body["input"]]
        vector = "AACAPwAAAEA=" if body.get("encoding_format") == "base64" else [1.0, 2.0]
        data = [{"object": "embedding", "index": place, "embedding": vector} for place, _ in enumerate(texts)]
        usage = {"prompt_tokens": 5, "total_tokens": 5}
        return web.json_response({"object": "list", "data": data, "model": body["model"], "usage": usage})

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
            case "odd":
                error = {"type": "exceed_context_size_error", "n_prompt_tokens": "many", "n_ctx": [], "message": "x"}
                return web.json_response({"error": error}, status=400)
        if body["model"] in {"slow", "stalled"}:
            await asyncio.sleep(0.7 if body["model"] == "slow" else 3)
        if body.get("stream"):
            return await self._stream(request, body)
        message, reason = _said(body)
        choice = {"index": 0, "message": message, "finish_reason": reason}
        answer = {"id": "c", "object": "chat.completion", "created": 1, "model": body["model"], "choices": [choice]}
        if body["model"] == "greedy":  # as many tokens as it is let, as a provider counts them
            most = body.get("max_tokens") or body.get("max_completion_tokens") or 1_000_000
            answer["usage"] = {"prompt_tokens": 11, "completion_tokens": most, "total_tokens": most + 11}
            self.metered.update({"tokens.input": 11, "tokens.output": most})
        elif body["model"] != "no-usage":
            answer["usage"] = USAGE
            self.metered.update(METERED)
        return web.json_response(answer)

    async def _stream(self, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        model = body["model"]
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        if model == "stillborn":
            await response.write(b'data: {"error": {"message": "out of memory"}}\n\n')
            return response
        try:
            async for piece in _pieces(model, *_said(body)):
                await response.write(piece)
        except (ConnectionResetError, asyncio.CancelledError):
            self.gone += 1
            raise
        if model == "cut" and request.transport:
            request.transport.abort()
        elif model not in {"no-usage", "garbage"}:
            self.metered.update(METERED)
        return response


async def _pieces(model: str, message: dict[str, Any], reason: str) -> AsyncIterator[bytes]:
    text = message["content"] or ""
    if model == "hostile":
        for place in range(0, len(text), 40):
            yield _event(_chunk(model, text[place : place + 40]))
            await asyncio.sleep(0.005)
        text = ""
    times = {"endless": 200, "long": 20}.get(model, 1)
    words = WORDS * times if times > 1 or text == "One two three" else [text[:3], text[3:]]
    for call in message.get("tool_calls") or ():
        function = call["function"]
        begun = {"index": 0, "id": call["id"], "type": "function", "function": {**function, "arguments": ""}}
        yield _event(_chunk(model, None, delta={"tool_calls": [begun]}))
        for part in (function["arguments"][:4], function["arguments"][4:]):
            yield _event(_chunk(model, None, delta={"tool_calls": [{"index": 0, "function": {"arguments": part}}]}))
    for word in words if text else ():
        yield _event(_chunk(model, word))
        if model in {"endless", "long"}:
            await asyncio.sleep(0.02 if model == "endless" else 0.03)
    if model == "cut":
        return
    if model == "garbage":
        yield b"data: {not json\n\n"
        return
    yield _event(_chunk(model, None, finish=reason))
    if model != "no-usage":
        usage = _event({**_chunk(model, None), "choices": [], "usage": USAGE})
        yield usage
        if model == "twice":
            yield usage
    if model != "no-done":
        yield b"data: [DONE]\n\n"


def _said(body: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """A tool's call when tools are there and the user spoke last; JSON when a schema is; else words."""
    if body["model"] == "hostile":
        return {"role": "assistant", "content": HOSTILE}, "stop"
    if body.get("tools") and body["messages"][-1]["role"] == "user":
        function = body["tools"][0]["function"]
        arguments = json.dumps(minimal(function["parameters"]))
        call = {"id": "call_1", "type": "function", "function": {"name": function["name"], "arguments": arguments}}
        return {"role": "assistant", "content": None, "tool_calls": [call]}, "tool_calls"
    wanted = body.get("response_format") or {}
    if wanted.get("type") == "json_schema":
        return {"role": "assistant", "content": json.dumps(minimal(wanted["json_schema"]["schema"]))}, "stop"
    return {"role": "assistant", "content": "One two three"}, "stop"


def minimal(schema: dict[str, Any]) -> Any:
    """The least value that a JSON schema takes."""
    match schema.get("type"):
        case "object":
            return {name: minimal(kind) for name, kind in (schema.get("properties") or {}).items()}
        case "array":
            return []
        case "integer" | "number":
            return 1
        case "boolean":
            return True
        case _:
            return (schema.get("enum") or ["Paris"])[0]


def _chunk(
    model: str, text: str | None, *, finish: str | None = None, delta: dict[str, Any] | None = None
) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta or ({"content": text} if text else {}), "finish_reason": finish}
    return {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": model, "choices": [choice]}


def _event(chunk: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(chunk).encode() + b"\n\n"


class _Fake(Protocol):
    base_url: str

    def routes(self, app: web.Application) -> None: ...


Fake = TypeVar("Fake", bound=_Fake)


def running() -> AbstractContextManager[Provider]:
    """The provider on a free loopback port, in a thread of its own."""
    return served(Provider())


@contextmanager
def served(fake: Fake) -> Iterator[Fake]:
    loop, up = asyncio.new_event_loop(), threading.Event()

    async def serve() -> None:
        app = web.Application(client_max_size=64 * 1024 * 1024, middlewares=[_strict])
        fake.routes(app)
        runner = web.AppRunner(app, handler_cancellation=True, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        assert site._server
        fake.base_url = f"http://127.0.0.1:{site._server.sockets[0].getsockname()[1]}/v1"  # type: ignore[attr-defined]
        up.set()

    thread = threading.Thread(target=_forever, args=(loop, serve()), daemon=True)
    thread.start()
    assert up.wait(5)
    yield fake
    loop.call_soon_threadsafe(loop.stop)
    thread.join(5)


@web.middleware
async def _strict(request: web.Request, handler: Any) -> web.StreamResponse:
    """What can't be read is refused, as providers do."""
    try:
        answer: web.StreamResponse = await handler(request)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        return web.json_response({"error": {"message": f"bad request: {error}"}}, status=400)
    return answer


def _forever(loop: asyncio.AbstractEventLoop, first: Any) -> None:
    asyncio.set_event_loop(loop)
    loop.run_until_complete(first)
    loop.run_forever()
