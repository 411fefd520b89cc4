"""The chat page, and the answers that it streams. The gateway's use case, under a session instead of a key."""

from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import orjson
from asgiref.sync import sync_to_async
from django.conf import settings
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_POST, require_safe

from accounts import http
from accounts.http import TeamRequest, team_required
from accounts.models import Membership, Team
from accounts.roles import MAKERS
from catalog.templatetags.money import usd
from deployments.validation import bounded
from gateway import auth
from gateway.errors import WireError, bad_request
from gateway.protocols.asked import parse, understood
from gateway.runtime import Runtime, runtime_for_this_loop
from gateway.surfaces import SURFACES
from playground import answering, choices, problems, prompts, sent, spending
from playground.choices import Choice
from playground.models import PromptVersion, SavedPrompt
from playground.sent import Send

MOST_COLUMNS = 4
MOST_FOR_A_LIST = 100
LARGEST_SCHEMA = 64 * 1024


@require_safe
@team_required
def playground(request: TeamRequest) -> HttpResponse:
    return _page(request, request.membership)


@require_POST
async def ask(request: HttpRequest) -> HttpResponse:
    """One prompt, one answer, without JavaScript. Sent twice (a page that is loaded again), it is answered once."""
    membership = await sync_to_async(http.current_membership)(request)
    if membership is None:
        return redirect("account_login")
    page = sync_to_async(_page)
    form = {name: request.POST.get(name, "").strip() for name in ("model", "system", "message", "send_id")}
    try:
        _check_role(membership)
        send = _send(membership, form["send_id"])
        body = _body_of(request)
        runtime = await _begun(request, membership, send, body, orjson.dumps(body))
    except WireError as error:
        return await page(request, membership, asked=form, problem=error.message, status=error.status)
    said = await answering.whole(runtime, send)
    return await page(request, membership, asked=form, said=said)


@require_POST
async def answer(request: HttpRequest) -> HttpResponse | StreamingHttpResponse:
    """Make the answer of a chat/completions body and stream it: objects of what is new, until one says it is over.

    `Idempotency-Key`: the answer's id, a UUID. The same once more gives the same answer, and is billed once. `X-Team`:
    who the page believes is billed; nothing is called if that has changed in another window. What is wrong with the
    request has OpenAI's shape; what goes wrong later is in the stream."""
    try:
        membership = await _caller_of(request)
        send = _send(membership, request.headers.get("idempotency-key", ""))
        raw = request.read(settings.GATEWAY_LARGEST_BODY + 1)
        if len(raw) > settings.GATEWAY_LARGEST_BODY:
            text = f"The conversation and its pictures are larger than {settings.GATEWAY_LARGEST_BODY} bytes."
            raise WireError(413, text, code="request_too_large")
        runtime = await _begun(request, membership, send, parse(raw), raw)
    except WireError as error:
        return _error(error)
    return _streamed(answering.follow(runtime, send))


@require_safe
async def answer_again(request: HttpRequest, pk: UUID) -> HttpResponse | StreamingHttpResponse:
    """The same answer for a page that was loaded again: what has come, and what still comes. Its asker's alone."""
    try:
        membership = await _member_of(request)
        send = Send(membership.team_id, membership.user_id, pk)
        runtime = await runtime_for_this_loop()
        if await runtime.stores.ask(lambda: sent.read(send)) is None:
            raise WireError(404, "There is no such answer, or it is older than a day.", code="not_found")
    except WireError as error:
        return _error(error)
    return _streamed(answering.follow(runtime, send))


@require_POST
async def answer_stop(request: HttpRequest, pk: UUID) -> HttpResponse:
    """End it upstream; what came until then stays, and is billed. Nothing happens where nothing is to be stopped."""
    try:
        membership = await _member_of(request)
        await answering.stop(await runtime_for_this_loop(), Send(membership.team_id, membership.user_id, pk))
    except WireError as error:
        return _error(error)
    return HttpResponse(status=204)


@require_safe
@team_required
def model_choices(request: TeamRequest) -> JsonResponse:
    """The models that fit a search, or those of exactly these names."""
    if names := request.GET.getlist("name")[:MOST_COLUMNS]:
        found = choices.named(request.team, names)
    else:
        found = choices.find(request.team, query=request.GET.get("q", "")[:100])
    return JsonResponse({"choices": [one.as_dict() for one in found]})


@require_POST
@team_required
def schema_check(request: TeamRequest) -> JsonResponse:
    """What is wrong with each of these JSON schemas, "" if nothing: {"problems": [...]}."""
    try:
        asked = orjson.loads(request.body[:LARGEST_SCHEMA])
        jobs = [{"job": "schema", "schema": orjson.dumps(one).decode()} for one in asked["schemas"]][:64]
        return JsonResponse({"problems": bounded.problems(jobs)})
    except bounded.NotTold as error:
        return JsonResponse({"problems": [str(error)]})
    except (KeyError, TypeError, ValueError):
        return JsonResponse(
            {"problems": [f"Not a list of schemas of at most {LARGEST_SCHEMA // 1024} KiB."]}, status=400
        )


async def _begun(request: HttpRequest, membership: Membership, send: Send, body: dict[str, Any], raw: bytes) -> Runtime:
    """The answer is on its way, or was already. Raises WireError for a body that is none, and for a page of another
    team, before anything is kept."""
    if request.headers.get("x-team", str(membership.team_id)) != str(membership.team_id):
        raise WireError(409, f"This browser has changed to {membership.team} since.", code="other_team")
    with understood():
        SURFACES["chat"].check(body)
    runtime = await runtime_for_this_loop()
    caller = await sync_to_async(auth.session_caller)(membership.team, member=request.user.get_username())
    team = membership.team
    try:
        await answering.begin(runtime, caller, send, body, raw, tell_budget=lambda: spending.at_a_glance(team))
    except sent.OtherBody as error:
        text = "This page asked for another answer under the same id. Load it again."
        raise WireError(409, text, code="idempotency_key_reused") from error
    return runtime


def _streamed(events: AsyncIterator[bytes]) -> StreamingHttpResponse:
    stream = StreamingHttpResponse(events, content_type="text/event-stream")
    stream.headers["cache-control"] = "no-cache"
    stream.headers["x-accel-buffering"] = "no"
    return stream


def _page(request: HttpRequest, membership: Membership, *, status: int = 200, **answered: Any) -> HttpResponse:
    """`answered` has what was asked without JavaScript: asked, and said or problem."""
    request.membership = membership  # type: ignore[attr-defined]
    team = membership.team
    version = _version(request, membership)
    names = request.GET.getlist("model")[:MOST_COLUMNS] or (version.tried_with if version else [])
    found = choices.find(team, most=MOST_FOR_A_LIST)
    chosen = _chosen(team, names, found)
    budget = spending.at_a_glance(team)
    may_call = membership.role in MAKERS
    context = {
        "found": found,
        "chosen": chosen,
        "budget": budget,
        "may_call": may_call,
        "may_save": prompts.may_make(membership),
        "send_id": uuid4(),
        "version": version,
        "system": answered["asked"]["system"] if "asked" in answered else version.system if version else "",
        "page": {
            "team": str(team.pk),
            "user": membership.user_id,
            "baseUrl": request.build_absolute_uri("/v1"),
            "mayCall": may_call,
            "chosen": [one.as_dict() for one in chosen],
            "isAsked": bool(names),
            "prompt": _opened(version),
            "mostBytes": settings.GATEWAY_LARGEST_BODY,
            "urls": {
                "answer": reverse("playground-answer"),
                "answers": f"{reverse('playground')}answers/",
                "models": reverse("playground-models"),
                "check": reverse("playground-check"),
                "save": reverse("prompt-save"),
                "prompts": reverse("prompt-list"),
            },
        },
        **answered,
    }
    if (said := answered.get("said")) and said.receipt:
        context["cost"] = usd(said.receipt["cost_usd"])
    return render(request, "playground/playground.html", context, status=status)


def _chosen(team: Team, names: list[str], found: list[Choice]) -> list[Choice]:
    """Those that were asked for, else the first that can be called."""
    known = {one.name: one for one in found}
    asked = [known[name] for name in names if name in known]
    if len(asked) < len(names):
        asked = choices.named(team, names)
    return asked or [one for one in found if not one.why_not][:1]


def _version(request: HttpRequest, membership: Membership) -> PromptVersion | None:
    """The saved prompt that the address opens: its newest version, or one by number."""
    asked = request.GET.get("version", "")
    try:
        seen = SavedPrompt.objects.seen_by(membership.team, request.user)  # type: ignore[arg-type]
        rows = PromptVersion.objects.filter(prompt__in=seen.filter(pk=request.GET.get("prompt", "")))
    except ValidationError:
        return None
    if asked.isascii() and asked.isdigit() and len(asked) < 9:
        rows = rows.filter(number=int(asked))
    return rows.select_related("prompt").first()


def _opened(version: PromptVersion | None) -> dict[str, Any] | None:
    if version is None:
        return None
    return {
        "id": str(version.prompt_id),
        "name": version.prompt.name,
        "number": version.number,
        "system": version.system,
        "message": version.message,
        "parameters": version.parameters,
    }


def _body_of(request: HttpRequest) -> dict[str, Any]:
    """The plain form as a chat/completions body."""
    system, message = request.POST.get("system", "").strip(), request.POST.get("message", "").strip()
    if not message:
        raise bad_request("Write a message first.", param="messages")
    turns = [{"role": "system", "content": system}] if system else []
    body: dict[str, Any] = {
        "model": request.POST.get("model", ""),
        "messages": [*turns, {"role": "user", "content": message}],
    }
    for name, kind in (("temperature", float), ("max_tokens", int)):
        try:
            body |= {name: kind(text)} if (text := request.POST.get(name, "").strip()) else {}
        except ValueError as error:
            raise bad_request(f"{name.replace('_', ' ').capitalize()} is a number.", param=name) from error
    return body


async def _member_of(request: HttpRequest) -> Membership:
    membership = await sync_to_async(http.current_membership)(request)
    if membership is None:
        raise WireError(401, "You are signed out. Sign in again.", code="signed_out")
    return membership


async def _caller_of(request: HttpRequest) -> Membership:
    membership = await _member_of(request)
    _check_role(membership)
    return membership


def _check_role(membership: Membership) -> None:
    if membership.role not in MAKERS:
        raise WireError(403, "Your role in this team may look, not call models.", code="not_allowed")


def _send(membership: Membership, key: str) -> Send:
    try:
        return Send(membership.team_id, membership.user_id, UUID(key) if key else uuid4())
    except ValueError as error:
        raise bad_request("The answer's id is a UUID.", code="invalid_idempotency_key") from error


def _error(error: WireError) -> JsonResponse:
    explained = problems.explained(error.code or "", error.message)
    return JsonResponse({"error": error.shape(), "problem": explained}, status=error.status, headers=error.headers)
