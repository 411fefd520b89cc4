"""The gateway's ASGI application: /v1, OpenAI's and Anthropic's wire, without Django's request cycle."""

import asyncio
import contextlib
import hmac
import logging
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any
from urllib.parse import unquote
from uuid import uuid4

from django.conf import settings

from accounts import keys
from accounts.content_policy import DATA_HEADERS
from billing.errors import DatabaseDown
from gateway import completions, counting, idempotency, listing, metrics
from gateway.attempt import Answer
from gateway.auth import Caller
from gateway.errors import WireError, bad_request, store_down
from gateway.idempotency import Claim, Replay
from gateway.protocols import betas
from gateway.protocols.asked import parse
from gateway.runtime import Runtime, runtime_for_this_loop
from gateway.surfaces import SURFACES

log = logging.getLogger(__name__)

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,128}")
HOLD = re.compile(rb"[0-9]{1,4}")
LONGEST_HOLD_S = 600
ROUTES = {
    "/v1/chat/completions": "chat",
    "/v1/completions": "completions",
    "/v1/embeddings": "embeddings",
    "/v1/responses": "responses",
    "/v1/messages": "messages",
    "/v1/messages/count_tokens": "count_tokens",
}
STREAM = {
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-cache",
    "x-accel-buffering": "no",
}


async def application(scope: Message, receive: Receive, send: Send) -> None:
    """Every answer carries x-request-id and request-id; every error has the shape of the API that was called."""
    started = time.perf_counter()
    headers = dict(scope["headers"])
    if scope["path"] == "/metrics":
        await _send_metrics(scope, headers, send)
        return
    given = headers.get(b"x-request-id", b"")
    request_id = given.decode() if REQUEST_ID.fullmatch(given) else f"req_{uuid4().hex}"
    common = {"x-request-id": request_id, "request-id": request_id}
    failure: WireError
    try:
        answer = await _answer(scope, headers, receive, request_id)
        answer.headers |= common
        answer.headers["openai-processing-ms"] = str(int((time.perf_counter() - started) * 1000))
    except WireError as error:
        failure = error
    except DatabaseDown:
        failure = store_down()
    except _Gone:
        return
    except Exception:
        log.exception("request %s", request_id)
        text = f"Something went wrong here. Tell the portal's operator this id: {request_id}"
        failure = WireError(500, text, type="server_error", code="internal_error")
    else:
        if answer.stream is None:
            await _send_whole(send, 200, answer.headers, answer.body)
        else:
            await _send_stream(answer, receive, send)
        return
    body = failure.anthropic_body(request_id) if _is_anthropic(scope, headers) else failure.body()
    await _send_whole(send, failure.status, failure.headers | common, body)


class _Gone(Exception):
    """The client hung up before its request was whole."""


def _is_anthropic(scope: Message, headers: dict[bytes, bytes]) -> bool:
    return str(scope["path"]).startswith("/v1/messages") or b"anthropic-version" in headers


async def _answer(scope: Message, headers: dict[bytes, bytes], receive: Receive, request_id: str) -> Answer:
    path, method = str(scope["path"]).rstrip("/"), scope["method"]
    runtime = await runtime_for_this_loop()
    caller = await runtime.doorkeeper.caller(headers)
    if surface := ROUTES.get(path):
        _only(method, "POST")
        raw = await _read(headers, receive)
        return await _posted(_Post(runtime, caller, surface, raw, headers, request_id))
    if path == "/v1/models":
        _only(method, "GET")
        return await listing.all_models(runtime, caller, is_anthropic=b"anthropic-version" in headers)
    if path.startswith("/v1/models/"):
        _only(method, "GET")
        name = unquote(path.removeprefix("/v1/models/"))
        return await listing.one_model(runtime, caller, name, is_anthropic=b"anthropic-version" in headers)
    raise WireError(404, f"There is no {method} {path[:200]} here.", code="unknown_url")


@dataclass(frozen=True, slots=True)
class _Post:
    """A POST as it came in."""

    runtime: Runtime
    caller: Caller
    surface: str
    raw: bytes
    headers: dict[bytes, bytes]
    request_id: str


async def _posted(post: _Post) -> Answer:
    body = parse(post.raw)
    if post.surface == "count_tokens":
        asked = betas.asked(post.headers.get(b"anthropic-beta", b""))
        return await counting.count(post.runtime, post.caller, body, post.request_id, betas=asked)
    key = post.headers.get(b"idempotency-key", b"").decode("latin-1").strip()
    if not key:
        return await _called(post, body, None)
    team_id, stores = post.caller.team_id, post.runtime.stores
    claim = await stores.ask(lambda: idempotency.claim(team_id, key, post.surface, post.raw))
    if isinstance(claim, Replay):
        metrics.REPLAYED.inc()
        return Answer(claim.headers | {"x-modelport-replayed": "true", "x-modelport-cost": "0"}, claim.body)
    return await _first_time(post, body, claim)


async def _called(
    post: _Post, body: dict[str, Any], keep: Callable[[bytes, dict[str, str]], Awaitable[None]] | None
) -> Answer:
    hold_s = _hold_s(post.headers)
    traceparent = post.headers.get(b"traceparent", b"").decode("latin-1")
    return await completions.answer(
        post.runtime, post.caller, SURFACES[post.surface], body, post.request_id,
        hold_s=hold_s, traceparent=traceparent, tag=_tag(post.headers), keep=keep,
        betas=betas.asked(post.headers.get(b"anthropic-beta", b"")) if post.surface == "messages" else "",
    )  # fmt: skip


async def _first_time(post: _Post, body: dict[str, Any], claim: Claim) -> Answer:
    """The call that answers for its Idempotency-Key. Its answer is kept; if it fails the key is free again."""
    runtime = post.runtime

    async def keep(whole: bytes, headers: dict[str, str]) -> None:
        kept = {name: text for name, text in headers.items() if name.startswith("x-modelport-")}
        kept["content-type"] = STREAM["content-type"] if body.get("stream") else "application/json"
        await runtime.stores.ask(lambda: idempotency.keep(claim, kept, whole))

    async def give_back() -> None:
        runtime.claims.discard(claim)
        await runtime.stores.ask(lambda: idempotency.release(claim))

    runtime.claims.add(claim)
    try:
        answer = await _called(post, body, keep)
    except BaseException:
        with contextlib.suppress(WireError):  # the key's lease ends by itself; the client is to hear what failed
            await asyncio.shield(give_back())
        raise
    if answer.stream is None:
        runtime.claims.discard(claim)
        return answer
    answer.stream = idempotency.pumped(_then(answer.stream, give_back), runtime.pumps)
    return answer


async def _then(stream: AsyncIterator[bytes], after: Callable[[], Awaitable[None]]) -> AsyncIterator[bytes]:
    try:
        async for event in stream:
            yield event
    finally:
        await after()


def _hold_s(headers: dict[bytes, bytes]) -> float | None:
    """How long the client will wait for a deployment to wake, if it says so."""
    text = headers.get(b"x-modelport-hold-s")
    if text is None:
        return None
    if not HOLD.fullmatch(text) or int(text) > LONGEST_HOLD_S:
        raise bad_request(
            f"x-modelport-hold-s is a whole number of seconds from 0 to {LONGEST_HOLD_S}.", param="x-modelport-hold-s"
        )
    return float(int(text))


def _tag(headers: dict[bytes, bytes]) -> str:
    """The caller's own label for this call; empty if it gives none, then its key's counts."""
    try:
        text = headers.get(b"x-modelport-tag", b"").decode().strip()
    except UnicodeDecodeError as error:
        raise bad_request("x-modelport-tag is not UTF-8.", param="x-modelport-tag") from error
    if not keys.is_tag(text):
        what = f"x-modelport-tag is a label of at most {keys.LONGEST_TAG} characters that can be printed."
        raise bad_request(what, param="x-modelport-tag")
    return text


async def _read(headers: dict[bytes, bytes], receive: Receive) -> bytes:
    most = settings.GATEWAY_LARGEST_BODY
    too_large = WireError(413, f"The body is larger than {most} bytes.", code="request_too_large")
    length = headers.get(b"content-length", b"0")
    if length.isdigit() and (len(length) > 12 or int(length) > most):
        raise too_large
    parts, size = [], 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise _Gone
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > most:
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
    await send({"type": "http.response.start", "status": 200, "headers": _raw(STREAM | answer.headers)})
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


async def _send_metrics(scope: Message, headers: dict[bytes, bytes], send: Send) -> None:
    """For callers of this machine, and for those who send METRICS_TOKEN; for others there is nothing here."""
    host = (scope.get("client") or ("",))[0]
    token = headers.get(b"authorization", b"").removeprefix(b"Bearer ")
    known = bool(settings.METRICS_TOKEN) and hmac.compare_digest(token, settings.METRICS_TOKEN.encode())
    local = b"x-forwarded-for" not in headers and _is_loopback(host)
    if known or local:
        await _send_whole(send, 200, {"content-type": metrics.TYPE}, metrics.page())
        return
    await _send_whole(send, 404, {}, WireError(404, "There is nothing here.", code="unknown_url").body())


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _only(method: str, allowed: str) -> None:
    if method != allowed:
        raise WireError(405, f"Use {allowed} here.", code="method_not_allowed", headers={"allow": allowed})


def _raw(headers: dict[str, str]) -> list[tuple[bytes, bytes]]:
    return [*DATA_HEADERS, *((name.encode(), value.encode("latin-1", "replace")) for name, value in headers.items())]
