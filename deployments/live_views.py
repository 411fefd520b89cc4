"""The pages that keep themselves up to date: the list, and one deployment's page with its tabs and its log."""

import time
from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID

from asgiref.sync import sync_to_async
from django.contrib import messages
from django.db import connection
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.middleware.csrf import get_token
from django.shortcuts import redirect, render
from django.views.decorators.http import require_POST, require_safe

from accounts import http, keys
from accounts.http import TeamRequest, team_required
from accounts.models import Membership
from accounts.roles import MAKERS
from catalog import snippets
from deployments import live, logs, overview, remedies, status, watching
from deployments.errors import BadOption, NotNow, Unlicensed
from deployments.lifecycle import Status, Step
from deployments.live import LIVE, LOGS, TABS, Eyes, List, Page, Shown
from deployments.models import Deployment, Replica
from deployments.watching import Frame, Seat

ALL = 1000
LONGEST_SEARCH = 200
ASK_AGAIN_S = 5
# So long a stream may go on for one who is signed out meanwhile.
STILL_THERE_S = 4.0
SIGNED_OUT = "You are signed out. Sign in again."


@require_safe
@team_required
def deployment_list(request: TeamRequest) -> HttpResponse:
    page = _list(request, request.membership)
    found = overview.of(request.team, most_over=page.most_over, page=page.page)
    part = page.part(found)
    if _is_poll(request):
        return HttpResponse(part)
    context = {"part": part, "overview": found, "api_url": request.build_absolute_uri("/api/v1")}
    return render(request, "deployments/list.html", context)


@require_safe
async def list_stream(request: HttpRequest) -> HttpResponseBase:
    """Server-sent events for the list."""

    def watched() -> List | HttpResponse:
        membership = http.current_membership(request)
        return _list(request, membership) if membership else _refused(401, SIGNED_OUT)

    return _stream(request, await sync_to_async(_asked)(watched))


@require_safe
@team_required
def deployment_detail(request: TeamRequest, pk: UUID, tab: str = LIVE) -> HttpResponse:
    """One tab of the page, or its parts alone for a page that asks for them itself."""
    report = status.watched(request.team, pk)
    if report is None:
        raise Http404
    page = Page(pk, _eyes(request, request.membership), _shown(request, tab))
    parts = page.parts(report)
    if _is_poll(request):
        return HttpResponse("".join(parts.values()))
    context = {
        "parts": parts,
        "report": report,
        "deployment": report.row,
        "tab": tab,
        "shown": page.shown,
        "may_change": page.eyes.may_change,
        "query": request.GET.urlencode(),
    }
    if tab == LOGS:
        context |= page.log(report)
    if tab == LIVE and not report.is_over and report.row.status != Status.FAILED:
        key = next(iter(keys.at_hand(request.team, request.user)), None)
        context["snippets"] = snippets.of(
            report.row.endpoint_model, base_url=request.build_absolute_uri("/v1"), key=snippets.words_of(key)
        )
    return render(request, "deployments/detail.html", context)


@require_safe
async def deployment_stream(request: HttpRequest, pk: UUID) -> HttpResponseBase:
    """Server-sent events for one tab: `parts` (a list of HTML, each with the id of what it replaces), `log` (more
    lines), `over`. 503: every seat is taken; the page asks for itself, then."""

    def watched() -> Page | HttpResponse:
        membership = http.current_membership(request)
        if membership is None:
            return _refused(401, SIGNED_OUT)
        if live.own(membership.team, pk) is None:
            # Not raised: Django would render its page in a thread that keeps a database connection.
            return _refused(404, "There is no such deployment.")
        tab = request.GET.get("tab", LIVE)
        shown = _shown(request, tab if tab in TABS else LIVE)
        return Page(
            pk,
            _eyes(request, membership),
            shown,
            position=_number(request.GET.get("ends", "")),
            followed=request.GET.get("of", ""),
            sent=_seen(request.GET.get("seen", "")),
        )

    return _stream(request, await sync_to_async(_asked)(watched))


@require_safe
@team_required
def log_more(request: TeamRequest, pk: UUID) -> HttpResponse:
    """What a followed log has got since `ends`: for pages without a stream."""
    row = _own(request, pk)
    replica = _replica(row, request.GET.get("replica", ""))
    is_same = request.GET.get("of", str(replica.pk)) == str(replica.pk)  # else another engine has begun meanwhile
    ends = _number(request.GET.get("ends", "")) if is_same else 0
    part = logs.after(row, replica, ends or 0, q=_search(request))
    return JsonResponse({"ends": part.ends, "html": live.lines(part, q=_search(request)), "replica": str(replica.pk)})


@require_safe
@team_required
def log_text(request: TeamRequest, pk: UUID) -> StreamingHttpResponse:
    """All that is kept of one engine's log, as a file."""
    row = _own(request, pk)
    replica = _replica(row, request.GET.get("replica", ""))
    name = f"{row.name}-{replica.created_at:%Y%m%d-%H%M%S}.log"
    answer = StreamingHttpResponse(_lines(row, replica), content_type="text/plain; charset=utf-8")
    answer.headers["content-disposition"] = f'attachment; filename="{name}"'
    answer.headers["x-content-type-options"] = "nosniff"
    return answer


@require_POST
@team_required
def next_step(request: TeamRequest, pk: UUID) -> HttpResponse:
    """Do what the button under a failure says, and start again."""
    row = _own(request, pk)
    if request.membership.role not in MAKERS:
        reason = "Your role may look at deployments, not change them."
        return render(request, "403.html", {"reason": reason}, status=403)
    asked = request.POST.get("step", "")
    if asked not in remedies.DONE_HERE:
        raise Http404
    try:
        remedies.carry_out(row, Step(asked), actor=request.user.email)
    except (BadOption, NotNow, Unlicensed) as error:
        messages.error(request, str(error))
    return redirect("deployment-detail", pk)


def _stream(request: HttpRequest, page: Page | List | HttpResponse) -> HttpResponseBase:
    if isinstance(page, HttpResponse):
        return page
    hub = watching.hub_for_this_loop()
    if not hub.has_room:
        full = _refused(503, "Every seat is taken: ask for the page itself every few seconds.")
        full.headers["retry-after"] = str(ASK_AGAIN_S)
        return full
    answer = StreamingHttpResponse(hub.stream(_while_there(request, page)), content_type="text/event-stream")
    answer.headers["cache-control"] = "no-store"
    answer.headers["x-accel-buffering"] = "no"
    return answer


def _while_there(request: HttpRequest, page: Page | List) -> Callable[[Seat], Frame | None]:
    """Frames of the page until its viewer has signed out, was put out of the team, or may see other things; then the
    stream ends, and who comes again is told."""
    seen_at = time.monotonic()

    def look(seat: Seat) -> Frame | None:
        nonlocal seen_at
        if time.monotonic() - seen_at >= STILL_THERE_S:
            if not _sees_the_same(page.eyes, http.membership_now(request)):
                return None
            seen_at = time.monotonic()
        return page.frame(seat)

    return look


def _sees_the_same(eyes: Eyes, now: Membership | None) -> bool:
    if now is None:
        return False
    return (now.team, now.role in MAKERS, now.user.is_staff) == (eyes.team, eyes.may_change, eyes.is_staff)


def _refused(status: int, text: str) -> HttpResponse:
    return HttpResponse(text, status=status, content_type="text/plain")


def _asked(watched: Any) -> Any:
    """In the request's own thread, whose connection is given back at once: the stream may last."""
    try:
        return watched()
    finally:
        if not connection.in_atomic_block:
            connection.close()


def _list(request: HttpRequest, membership: Membership) -> List:
    most = ALL if request.GET.get("over") == "all" else overview.MOST_OVER
    number = request.GET.get("page", "")
    page = int(number) if number.isdecimal() and len(number) < 6 else 1
    return List(_eyes(request, membership), most, request.GET.get("seen", "").removeprefix("rows:"), page)


def _eyes(request: HttpRequest, membership: Membership) -> Eyes:
    return Eyes(
        team=membership.team,
        may_change=membership.role in MAKERS,
        is_staff=bool(getattr(request.user, "is_staff", False)),
        token=get_token(request),
        base_url=request.build_absolute_uri("/api/v1"),
    )


def _shown(request: HttpRequest, tab: str) -> Shown:
    given = request.GET
    return Shown(tab, _uuid(given.get("replica", "")), _search(request), _number(given.get("before", "")))


def _seen(text: str) -> dict[str, str]:
    """What the page says that it has already: part:digest,part:digest."""
    pairs = (one.partition(":") for one in text[:1000].split(",") if one)
    return {name: digest for name, _, digest in pairs}


def _search(request: HttpRequest) -> str:
    return request.GET.get("q", "").strip()[:LONGEST_SEARCH]


def _lines(row: Deployment, replica: Replica) -> Iterator[str]:
    yield from logs.whole(row, replica)


def _replica(row: Deployment, asked: str) -> Replica:
    """The one asked for, else the newest; 404 if it is another deployment's, or there is none."""
    replicas = row.replicas.order_by("-created_at")
    key = _uuid(asked)
    found = replicas.filter(pk=key).first() if key else replicas.first()
    if found is None or (asked and key is None):
        raise Http404
    return found


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 16 else None


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None


def _is_poll(request: TeamRequest) -> bool:
    return bool(request.htmx)  # type: ignore[attr-defined]


def _own(request: TeamRequest, pk: UUID) -> Deployment:
    row = live.own(request.team, pk)
    if row is None:
        raise Http404
    return row
