"""The gateway's ASGI application: /v1, OpenAI's wire, without Django's request cycle."""

import asyncio
import contextlib
import logging
import re
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import unquote
from uuid import uuid4

import orjson

from billing.errors import DatabaseDown
from gateway import completions
from gateway.auth import Caller
from gateway.completions import Answer
from gateway.errors import WireError, model_not_found, store_down
from gateway.protocols import openai
from gateway.runtime import Runtime, runtime_for_this_loop

log = logging.getLogger(__name__)

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

LARGEST_BODY = 10 * 1024 * 1024
REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,128}")


async def application(scope: Message, receive: Receive, send: Send) -> None:
    """Every answer carries x-request-id and request-id; every error has the shape of OpenAI's."""
    started = time.perf_counter()
    headers = dict(scope["headers"])
    given = headers.get(b"x-request-id", b"")
    request_id = given.decode() if REQUEST_ID.fullmatch(given) else f"req_{uuid4().hex}"
    common = {"x-request-id": request_id, "request-id": request_id}
    try:
        answer = await _answer(scope, headers, receive, request_id)
        answer.headers |= common | {"openai-processing-ms": str(int((time.perf_counter() - started) * 1000))}
    except WireError as error:
        await _send_whole(send, error.status, error.headers | common, error.body())
    except DatabaseDown:
        away = store_down()
        await _send_whole(send, away.status, away.headers | common, away.body())
    except _Gone:
        return
    except Exception:
        log.exception("request %s", request_id)
        text = f"Something went wrong here. Tell the portal's operator this id: {request_id}"
        await _send_whole(send, 500, common, WireError(500, text, type="server_error", code="internal_error").body())
    else:
        if answer.stream is None:
            await _send_whole(send, 200, answer.headers, answer.body)
        else:
            await _send_stream(answer, receive, send)


class _Gone(Exception):
    """The client hung up before its request was whole."""


async def _answer(scope: Message, headers: dict[bytes, bytes], receive: Receive, request_id: str) -> Answer:
    path, method = str(scope["path"]).rstrip("/"), scope["method"]
    runtime = await runtime_for_this_loop()
    caller = await runtime.doorkeeper.caller(headers)
    if path == "/v1/chat/completions":
        _only(method, "POST")
        body = openai.parse(await _read(headers, receive))
        return await completions.chat(runtime, caller, body, request_id)
    if path == "/v1/models":
        _only(method, "GET")
        return _json({"object": "list", "data": await runtime.router.models(caller)})
    if path.startswith("/v1/models/"):
        _only(method, "GET")
        return await _one_model(runtime, caller, unquote(path.removeprefix("/v1/models/")))
    raise WireError(404, f"There is no {method} {path[:200]} here.", code="unknown_url")


async def _one_model(runtime: Runtime, caller: Caller, name: str) -> Answer:
    for model in await runtime.router.models(caller):
        if model["id"] == name:
            return _json(model)
    raise model_not_found(name)


async def _read(headers: dict[bytes, bytes], receive: Receive) -> bytes:
    too_large = WireError(413, f"The body is larger than {LARGEST_BODY} bytes.", code="request_too_large")
    length = headers.get(b"content-length", b"0")
    if length.isdigit() and int(length) > LARGEST_BODY:
        raise too_large
    parts, size = [], 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise _Gone
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > LARGEST_BODY:
            raise too_large
        if not message.get("more_body"):
            return b"".join(parts)


async def _send_whole(send: Send, status: int, headers: dict[str, str], body: bytes) -> None:
    sized = {"content-type": "application/json", "content-length": str(len(body))} | headers
    await send({"type": "http.response.start", "status": status, "headers": _raw(sized)})
    await send({"type": "http.response.body", "body": body})


async def _send_stream(answer: Answer, receive: Receive, send: Send) -> None:
    """Send as it comes. A client that hangs up cancels the upstream; what was used until then is billed."""
    assert answer.stream is not None  # noqa: S101 - for the type checker
    headers = {"content-type": "text/event-stream; charset=utf-8", "cache-control": "no-cache"} | answer.headers
    await send({"type": "http.response.start", "status": 200, "headers": _raw(headers)})
    me = asyncio.current_task()
    gone = asyncio.create_task(_hung_up(receive))
    gone.add_done_callback(lambda done: None if done.cancelled() or me is None else me.cancel())
    try:
        async with contextlib.aclosing(answer.stream) as events:  # type: ignore[type-var]
            async for event in events:
                await send({"type": "http.response.body", "body": event, "more_body": True})
        gone.cancel()
        await send({"type": "http.response.body", "body": b""})
    except asyncio.CancelledError:
        if not gone.done() or gone.cancelled():
            raise
    finally:
        gone.cancel()


async def _hung_up(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _only(method: str, allowed: str) -> None:
    if method != allowed:
        raise WireError(405, f"Use {allowed} here.", code="method_not_allowed", headers={"allow": allowed})


def _json(body: dict[str, Any]) -> Answer:
    return Answer(headers={}, body=orjson.dumps(body))


def _raw(headers: dict[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.encode(), value.encode("latin-1", "replace")) for name, value in headers.items()]
