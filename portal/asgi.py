"""Entry points: `application` (everything on one port, by path), `site` (Django alone), `gateway` (/v1 alone)."""

import gc
import logging
import os
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "portal.settings")
_django = get_asgi_application()

# Their models need Django set up first.
from catalog.uploads import stream  # noqa: E402
from deployments import watching  # noqa: E402
from gateway import app, runtime, tracing  # noqa: E402

log = logging.getLogger(__name__)

GARBAGE_AFTER = 10_000

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    path = scope.get("path", "")
    await _serve(gateway if path.startswith("/v1/") or path == "/metrics" else site, scope, receive, send)


async def site(scope: Scope, receive: Receive, send: Send) -> None:
    """Django, but for the bytes of uploads: those go to the disk as they come."""
    if scope["type"] == "http":
        scope = stream.overridden(scope)
        await _serve(stream.application if stream.is_patch(scope) else _django, scope, receive, send)
        return
    await _serve(_django, scope, receive, send)


async def gateway(scope: Scope, receive: Receive, send: Send) -> None:
    await _serve(app.application, scope, receive, send)


async def _serve(inner: Any, scope: Scope, receive: Receive, send: Send) -> None:
    """HTTP goes to `inner`; the life of the process goes to the gateway's runtime; nothing else is spoken."""
    if scope["type"] == "http":
        await inner(scope, receive, send)
    elif scope["type"] == "lifespan":
        await _live(receive, send)


async def _live(receive: Receive, send: Send) -> None:
    while True:
        match (await receive())["type"]:
            case "lifespan.startup":
                await _start()
                await send({"type": "lifespan.startup.complete"})
            case "lifespan.shutdown":
                await watching.close_for_this_loop()
                await runtime.close_for_this_loop()
                tracing.stop()
                await send({"type": "lifespan.shutdown.complete"})
                return


async def _start() -> None:
    """Warm the runtime. If the stores are away the process still serves, and says so; the next call tries again."""
    tracing.start()
    watching.end_streams_on_signals()
    try:
        await runtime.runtime_for_this_loop()
    except Exception:
        log.exception("the gateway's runtime could not be started yet")
    # What is there now stays: don't look through it for garbage again and again while calls come and go.
    gc.collect()
    gc.freeze()
    gc.set_threshold(GARBAGE_AFTER)
