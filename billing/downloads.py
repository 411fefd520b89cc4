"""A statement as a download: sent while it is read, in flat memory, whatever its size.

Under ASGI Django would gather an ordinary iterator to its end before it sends the first byte; so there it is asked for
its pieces one by one, in the thread that the request's database connection belongs to.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator

from asgiref.sync import sync_to_async
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest, StreamingHttpResponse

from billing import coverage
from billing.scope import Scope
from billing.statements import Format


def answer(request: HttpRequest, found: Scope, form: Format) -> StreamingHttpResponse:
    """The file; its headers say how much of the month was measured. Raises NoParquet before anything is sent."""
    response = stream(request, form.write(found), name=name_of(found, form), media_type=form.media_type)
    measured = coverage.of(found)
    response.headers["x-modelport-measured-percent"] = str(measured.percent)
    response.headers["x-modelport-events"] = str(measured.events)
    response.headers["x-modelport-estimated-events"] = str(measured.estimated)
    return response


def stream(
    request: HttpRequest, pieces: Iterator[bytes], *, name: str, media_type: str = "text/csv; charset=utf-8"
) -> StreamingHttpResponse:
    """Any pieces as a file of that name."""
    content = _one_by_one(pieces) if isinstance(request, ASGIRequest) else pieces
    response = StreamingHttpResponse(content, content_type=media_type)
    response.headers["content-disposition"] = f'attachment; filename="{name}"'
    return response


def name_of(found: Scope, form: Format) -> str:
    kind = "" if form.name in {"plain", "parquet"} else f"-{form.name}"
    return f"modelport-{found.team_slug}-{found.month}{kind}.{form.ending}"


async def _one_by_one(pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
    following = sync_to_async(_following)
    try:
        while (piece := await following(pieces)) is not None:
            yield piece
    finally:
        # Also when the reader has gone: the COPY is ended in its own thread before the connection serves others.
        await asyncio.shield(sync_to_async(_end)(pieces))


def _following(pieces: Iterator[bytes]) -> bytes | None:
    return next(pieces, None)


def _end(pieces: Iterator[bytes]) -> None:
    if close := getattr(pieces, "close", None):
        close()
