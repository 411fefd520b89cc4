"""PATCH of an upload, as a small ASGI application: the bytes go to the disk as they come, never into memory.

Django hands a body to a view only when all of it has come: a cut body would be lost, a long one written twice.
"""

import asyncio
import json
import logging
import re
from collections.abc import Awaitable, Callable, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from typing import Any, TypeVar
from uuid import UUID

from django.contrib.auth.middleware import AuthenticationMiddleware
from django.contrib.sessions.middleware import SessionMiddleware
from django.core.exceptions import DisallowedHost
from django.core.handlers.asgi import ASGIRequest
from django.db import connections
from django.db.utils import InterfaceError, OperationalError
from django.http import HttpResponse
from django.utils.http import http_date
from rest_framework.exceptions import APIException
from rest_framework.request import Request

from accounts.content_policy import DATA_HEADERS
from accounts.drf import ApiKeyAuthentication, HasTeam, TeamSessionAuthentication, team_of
from accounts.models import Team
from accounts.problems import status_title
from catalog.uploads import protocol, receiving
from catalog.uploads.errors import Refused
from catalog.uploads.receiving import Receiving

log = logging.getLogger(__name__)

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Found = TypeVar("Found")

ROOT = "/api/v1/weights/uploads"
ONE = re.compile(rf"{ROOT}/([0-9a-f]{{8}}(?:-[0-9a-f]{{4}}){{3}}-[0-9a-f]{{12}})/?")
BLOCK_BYTES = 1024 * 1024
SILENCE_S = 30
SHUTDOWN_S = 5
RETRY = {"Retry-After": "5"}
AT_ONCE = 16

_threads = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="uploads")


def is_patch(scope: Message) -> bool:
    return scope["method"] == "PATCH" and ONE.fullmatch(scope["path"]) is not None


def overridden(scope: Message) -> Message:
    """X-HTTP-Method-Override, for clients behind proxies that know no PATCH or DELETE."""
    if scope["method"] != "POST" or not scope["path"].startswith(ROOT):
        return scope
    method = dict(scope["headers"]).get(b"x-http-method-override", b"").decode("latin-1").upper()
    return {**scope, "method": method} if method in {"PATCH", "DELETE", "HEAD"} else scope


async def application(scope: Message, receive: Receive, send: Send) -> None:
    try:
        offset, expires = await _patched(scope, receive)
    except _Gone:
        return
    except Refused as error:
        await _refuse(send, error.status, str(error), error.headers)
    except APIException as error:
        headers = {"WWW-Authenticate": "Bearer"} if error.status_code == 401 else {}
        await _refuse(send, error.status_code, str(error.detail), headers)
    except (OperationalError, InterfaceError):
        log.warning("the database is away; an upload was not taken", exc_info=True)
        await _refuse(send, 503, "The portal's database is away. Try again in a moment.", RETRY)
    except OSError:
        log.exception("an upload could not be written")
        await _refuse(send, 500, "The portal's disk failed. What was said to be kept is kept; tell the operator.", {})
    else:
        await _answer(send, 204, {"Upload-Offset": str(offset), "Upload-Expires": expires}, b"")


class _Gone(Exception):
    """The client hung up; what came is kept."""


async def _patched(scope: Message, receive: Receive) -> tuple[int, str]:
    """The new offset, and when the rest must have come."""
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
    protocol.read_version(headers)
    found = ONE.fullmatch(scope["path"])
    assert found  # noqa: S101 - is_patch has seen it
    pk = UUID(found[1])

    def begin() -> Receiving:
        team = _team(scope)
        upload = receiving.find(team, pk)
        return Receiving(upload, protocol.read_chunk(headers))

    work = await _in_thread(begin)
    try:
        await _take_in(work, receive)
        offset = await _in_thread(work.finish)
    except asyncio.CancelledError:
        # The process is asked to end, and its loop with it: wait here, not on the loop, and say so as the last thing.
        _threads.submit(work.keep).result(timeout=SHUTDOWN_S)
        raise Refused(503, "The portal is being restarted. What came is kept.", headers=RETRY) from None
    except (Refused, _Gone) as error:
        if not isinstance(error, Refused) or error.status != protocol.CHECKSUM_MISMATCH:
            await _in_thread(work.keep)
        raise
    finally:
        work.close()
    return offset, http_date(receiving.expiry().timestamp())


async def _take_in(work: Receiving, receive: Receive) -> None:
    """The body to the disk, a block at a time; `receive` is asked again only when the block is written."""
    block = bytearray()

    async def flush() -> None:
        data = bytes(block)
        block.clear()
        await _in_thread(lambda: work.write(data))

    more = True
    while more:
        try:
            part, more = await _next(receive)
        except (Refused, _Gone):
            await flush()
            raise
        block.extend(part)
        if len(block) > work.room():
            raise Refused(413, f"More bytes came than the upload's length, {work.upload.length}, has room for.")
        if len(block) >= BLOCK_BYTES or not more:
            await flush()


async def _next(receive: Receive) -> tuple[bytes, bool]:
    """The next part of the body, and whether there is more."""
    try:
        async with asyncio.timeout(SILENCE_S):
            message = await receive()
    except TimeoutError:
        text = f"Nothing came for {SILENCE_S} s. What came is kept: ask for the offset."
        raise Refused(408, text) from None
    if message["type"] == "http.disconnect":
        raise _Gone
    return message.get("body", b""), message.get("more_body", False)


async def _in_thread(question: Callable[[], Found]) -> Found:
    """In a thread that holds no database connection afterwards: a slow line must not keep one for an hour."""

    def answer() -> Found:
        try:
            return question()
        finally:
            connections.close_all()

    return await asyncio.get_running_loop().run_in_executor(_threads, answer)


def _team(scope: Message) -> Team:
    """Whose request this is, by the management API's own rules: a key, or a session with its CSRF token."""
    request = ASGIRequest({**scope, "headers": list(scope["headers"])}, BytesIO())
    try:
        request.get_host()
    except DisallowedHost as error:
        raise Refused(400, "This portal is not served under that host name.") from error
    SessionMiddleware(_nothing).process_request(request)
    AuthenticationMiddleware(_nothing).process_request(request)
    asked = Request(request, authenticators=[ApiKeyAuthentication(), TeamSessionAuthentication()])
    if not HasTeam().has_permission(asked, None):
        raise Refused(403, HasTeam.message)
    return team_of(asked)


def _nothing(_request: Any) -> HttpResponse:
    return HttpResponse()


async def _refuse(send: Send, status: int, text: str, headers: dict[str, str]) -> None:
    body = {"type": "about:blank", "title": status_title(status), "status": status, "detail": text}
    await _answer(send, status, {"Content-Type": "application/problem+json"} | headers, json.dumps(body).encode())


async def _answer(send: Send, status: int, headers: dict[str, str], body: bytes) -> None:
    sized = {} if status == 204 else {"Content-Length": str(len(body))}
    every = {"Tus-Resumable": protocol.VERSION, "Cache-Control": "no-store"} | sized | headers
    raw = [(name.lower().encode(), value.encode("latin-1", "replace")) for name, value in every.items()]
    raw += DATA_HEADERS
    await send({"type": "http.response.start", "status": status, "headers": raw})
    await send({"type": "http.response.body", "body": body})
