"""The chat page, and the answer that it streams. The gateway's use case, under a session instead of a key."""

import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

from asgiref.sync import sync_to_async
from django.http import HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_POST, require_safe

from accounts import http
from accounts.http import TeamRequest, team_required
from accounts.models import Role
from billing.errors import BillingError
from catalog import offers
from deployments import endpoints
from gateway import auth, completions
from gateway.attempt import Answer
from gateway.errors import WireError
from gateway.protocols.asked import parse
from gateway.runtime import runtime_for_this_loop

CALLERS = {Role.OWNER, Role.ADMIN, Role.DEVELOPER}


@require_safe
@team_required
def playground(request: TeamRequest) -> HttpResponse:
    routes = sorted(offers.hosted_routes(), key=lambda route: route.model_name.lower())
    own = [endpoint for endpoint in endpoints.live_endpoints() if endpoint.team_id == request.team.pk]
    context = {
        "hosted": [route for route in routes if route.callable_now],
        "not_callable": [route for route in routes if not route.callable_now],
        "own": own,
        "chosen": request.GET.get("model", ""),
        "base_url": request.build_absolute_uri("/v1"),
        "may_call": request.membership.role in CALLERS,
    }
    return render(request, "playground/playground.html", context)


@require_POST
async def answer(request: HttpRequest) -> HttpResponse | StreamingHttpResponse:
    """Stream the answer as OpenAI's events, then `event: receipt` with what it cost. Errors have OpenAI's shape."""
    membership = await sync_to_async(http.current_membership)(request)
    if membership is None:
        return _error(WireError(401, "You are signed out. Sign in again.", code="signed_out"))
    if membership.role not in CALLERS:
        return _error(WireError(403, "Your role in this team may look, not call models.", code="not_allowed"))
    try:
        body = parse(request.body) | {"stream": True, "stream_options": {"include_usage": True}}
        runtime = await runtime_for_this_loop()
        caller = await sync_to_async(auth.session_caller)(membership.team, member=request.user.get_username())
        found = await completions.chat(runtime, caller, body, f"req_{uuid4().hex}")
    except WireError as error:
        return _error(error)
    except BillingError as error:
        return _error(WireError(503, str(error), type="server_error"))
    stream = StreamingHttpResponse(_events(found), content_type="text/event-stream")
    stream.headers["cache-control"] = "no-cache"
    stream.headers["x-accel-buffering"] = "no"
    return stream


async def _events(found: Answer) -> AsyncIterator[bytes]:
    """The stream, with the receipt after its last event."""
    assert found.stream is not None  # noqa: S101 - asked for above
    async with contextlib.aclosing(found.stream) as events:  # type: ignore[type-var]
        async for event in events:
            if event:
                yield event
    if found.receipt:
        yield b"event: receipt\ndata: " + json.dumps(_receipt(found)).encode() + b"\n\n"


def _receipt(found: Answer) -> dict[str, Any]:
    assert found.receipt is not None  # noqa: S101 - checked by the caller
    quantities = found.tally.quantities()
    return {
        "cost_usd": f"{found.receipt.cost:f}",
        "tokens_in": int(quantities.get("tokens.input", 0)),
        "tokens_in_cached": int(quantities.get("tokens.input.cached", 0)),
        "tokens_out": int(quantities.get("tokens.output", 0)),
        "path": found.headers["x-modelport-path"],
        "measured": found.tally.measured,
    }


def _error(error: WireError) -> JsonResponse:
    return JsonResponse({"error": error.shape()}, status=error.status, headers=error.headers)
