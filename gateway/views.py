"""The team's aliases, its limits, and the log of its requests."""

from collections.abc import Iterator
from itertools import chain
from typing import Any
from uuid import UUID

import orjson
from django.contrib import messages
from django.core.paginator import Paginator
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpResponse, StreamingHttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.dateparse import parse_date
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from accounts import audit, csv_rows, sealing
from accounts.http import TeamRequest, team_required
from accounts.models import ApiKey
from accounts.roles import MAKERS, MANAGERS
from billing import budgets, periods
from billing.copying import safe
from billing.models import Budget
from deployments import endpoints
from gateway import aliases, contents
from gateway.forms import AliasForm, LimitsForm, PromptLoggingForm, Targets
from gateway.models import Alias, Limits, PromptLogging, RequestContent, RequestRecord

PAGE, SUGGESTED = 50, 100
COLUMNS = (
    "at", "request_id", "api_key_name", "surface", "asked", "model", "target", "path", "status", "code", "streamed",
    "attempts", "tokens_in", "tokens_out", "cost", "first_byte_ms", "total_ms",
)  # fmt: skip
FILTERS = ("model", "key", "path", "status", "since", "until")


@require_safe
@team_required
def alias_list(request: TeamRequest) -> HttpResponse:
    rows = Alias.objects.filter(team=request.team).prefetch_related("targets")
    context = {
        "rows": rows,
        "may_make": request.membership.role in MAKERS,
        "base_url": request.build_absolute_uri("/v1"),
    }
    return render(request, "gateway/aliases.html", context)


@team_required
@require_http_methods(["GET", "POST"])
def alias_edit(request: TeamRequest, pk: UUID | None = None) -> HttpResponse:
    """Make an alias, or change what stands behind one. Gateways take up a change within 2 s; no call fails by it."""
    if request.membership.role not in MAKERS:
        return render(request, "403.html", {"reason": "Your role may look at aliases, not change them."}, status=403)
    row = get_object_or_404(Alias, team=request.team, pk=pk) if pk else Alias(team=request.team)
    form = AliasForm(request.POST or None, instance=row, team=request.team)
    names = endpoints.callable_names(request.team)
    targets = Targets(
        request.POST or None, initial=_initial(row) if pk else [{"kind": "0", "weight": 1}],
        form_kwargs={"names": frozenset(names)}, prefix="targets",
    )  # fmt: skip
    before = aliases.described(Alias.objects.get(pk=pk)) if pk and request.method == "POST" else {}
    if request.method == "POST" and form.is_valid() and targets.is_valid():
        saved = form.save_with(lambda alias: [one for each in targets if (one := each.target(alias))])
        named = ", ".join(str(one.model) for one in saved.targets.all())
        audit.record(
            request.team, actor=request.user.email, verb="changed the alias" if pk else "made the alias",
            subject=f"{saved} -> {named}", before=before, after=aliases.described(saved),
        )  # fmt: skip
        messages.success(request, f"{saved} is saved. Calls follow it within 2 seconds.")
        return redirect("alias-list")
    context = {"form": form, "targets": targets, "alias": row if pk else None, "names": names[:SUGGESTED]}
    failed = request.method == "POST"
    return render(request, "gateway/alias.html", context, status=400 if failed else 200)


@require_POST
@team_required
def alias_delete(request: TeamRequest, pk: UUID) -> HttpResponse:
    row = get_object_or_404(Alias, team=request.team, pk=pk)
    if request.membership.role not in MAKERS:
        return render(request, "403.html", {"reason": "Your role may look at aliases, not delete them."}, status=403)
    name, before = str(row), aliases.described(row)
    row.delete()
    audit.record(request.team, actor=request.user.email, verb="deleted the alias", subject=name, before=before)
    messages.success(request, f"{name} is gone: calls to it are answered with 404 within 2 seconds.")
    return redirect("alias-list")


@team_required
@require_http_methods(["GET", "POST"])
def limits(request: TeamRequest) -> HttpResponse:
    """What the team and each of its keys may do. A POST changes one of them, named by `key` (empty: the team)."""
    may_edit = request.membership.role in MANAGERS
    if request.method == "POST":
        if not may_edit:
            return render(request, "403.html", {"reason": "Only an owner or admin may change limits."}, status=403)
        return _change_limits(request)
    return render(request, "gateway/limits.html", {"rows": _limit_rows(request), "may_edit": may_edit})


@require_safe
@team_required
def request_list(request: TeamRequest) -> HttpResponse:
    rows = _filtered(request)
    page = Paginator(rows, PAGE, orphans=0).get_page(request.GET.get("page"))
    context = {
        "page": page,
        "filters": {name: request.GET.get(name, "") for name in FILTERS},
        "query": _query(request),
        "any": bool(page.object_list) or RequestRecord.objects.filter(team=request.team).exists(),
        "base_url": request.build_absolute_uri("/v1"),
        "prompts": PromptLogging.objects.filter(team=request.team).first(),
        "may_manage": request.membership.role in MANAGERS,
    }
    return render(request, "gateway/requests.html", context)


@require_safe
@team_required
def request_detail(request: TeamRequest, pk: int) -> HttpResponse:
    """One request; its prompt and answer too, where the team keeps them, for those who work with them."""
    row = get_object_or_404(RequestRecord, team=request.team, pk=pk)
    may_read = request.membership.role in MAKERS
    content = RequestContent.objects.filter(team=request.team, pk=row.content_id).first() if row.content_id else None
    context = {
        "row": row,
        "may_read": may_read,
        "content": content,
        "prompts": PromptLogging.objects.filter(team=request.team).first(),
        "texts": _texts(content) if content and may_read else [],
    }
    return render(request, "gateway/request.html", context)


@team_required
@require_http_methods(["GET", "POST"])
def prompt_logging(request: TeamRequest) -> HttpResponse:
    """Whether this team's prompts and answers are kept, and for how long."""
    may_manage = request.membership.role in MANAGERS
    if request.method == "POST" and not may_manage:
        reason = "Only an owner or admin may change what is kept of prompts."
        return render(request, "403.html", {"reason": reason}, status=403)
    row = PromptLogging.objects.filter(team=request.team).first()
    form = PromptLoggingForm(request.POST or None, initial={"days": row.days if row else 7})
    if request.method == "POST" and request.POST.get("off"):
        contents.turn_off(request.team, actor=request.user.email)
        messages.success(request, "Prompts are not kept any more, and those that were kept are deleted.")
        return redirect("prompt-logging")
    if request.method == "POST" and form.is_valid():
        days = form.cleaned_data["days"]
        contents.turn_on(request.team, days=days, actor=request.user.email)
        messages.success(request, f"Prompts and answers are kept for {days} days. Gateways follow within 5 seconds.")
        return redirect("prompt-logging")
    kept = RequestContent.objects.filter(team=request.team).count()
    context = {"form": form, "prompts": row, "kept": kept, "may_manage": may_manage}
    failed = request.method == "POST"
    return render(request, "gateway/prompts.html", context, status=400 if failed else 200)


@require_safe
@team_required
def request_csv(request: TeamRequest) -> StreamingHttpResponse:
    """The same rows, all of them, newest first. Times are UTC."""
    answer = StreamingHttpResponse(_csv_lines(_filtered(request)), content_type="text/csv; charset=utf-8")
    answer.headers["content-disposition"] = f'attachment; filename="modelport-{request.team.slug}-requests.csv"'
    return answer


def _texts(content: RequestContent) -> list[tuple[str, str]]:
    """(heading, text) of both sides; JSON is laid out."""
    return [
        ("What was asked", _laid_out(sealing.unseal(content.sealed_prompt))),
        ("What was answered", _laid_out(sealing.unseal(content.sealed_answer))),
    ]


def _laid_out(text: str) -> str:
    try:
        return orjson.dumps(orjson.loads(text), option=orjson.OPT_INDENT_2).decode()
    except orjson.JSONDecodeError:
        return text


def _initial(row: Alias) -> list[dict[str, Any]]:
    return [
        {"model": one.model, "kind": "shadow", "weight": one.shadow_percent}
        if one.shadow_percent
        else {"model": one.model, "kind": str(min(one.position, 2)), "weight": one.weight}
        for one in row.targets.all()
    ]


def _limit_rows(request: TeamRequest) -> list[tuple[ApiKey | None, LimitsForm]]:
    found = {row.api_key_id: row for row in Limits.objects.filter(team=request.team)}
    caps = budgets.key_caps(request.team)
    keys: list[ApiKey | None] = [None, *request.team.api_keys.filter(revoked_at=None)]
    rows = []
    for key in keys:
        row = found.get(key.pk if key else None)
        names = ("requests_per_minute", "tokens_per_minute", "concurrency")
        initial = {name: getattr(row, name, None) for name in names}
        initial["monthly_usd"] = caps.get(str(key.pk)) if key else budgets.cap_of(request.team)
        rows.append((key, LimitsForm(initial=initial, auto_id=f"id_{key.prefix if key else 'team'}_%s")))
    return rows


def _change_limits(request: TeamRequest) -> HttpResponse:
    chosen = request.POST.get("key", "")
    key = get_object_or_404(request.team.api_keys, prefix=chosen) if chosen else None
    form = LimitsForm(request.POST)
    if not form.is_valid():
        field, errors = next(iter(form.errors.items()))
        messages.error(request, f"Nothing was changed: {form.fields[field].label}: {errors[0]}")
        return redirect("limits")
    given = dict(form.cleaned_data)
    cap = given.pop("monthly_usd")
    row = Limits.objects.filter(team=request.team, api_key=key).first()
    before = {name: getattr(row, name, None) for name in given}
    after = dict(given)
    if key is not None:
        capped = Budget.objects.filter(team=request.team, scope=Budget.Scope.KEY, subject=str(key.pk))
        before["monthly_usd"] = capped.filter(period=Budget.Period.MONTHLY).values_list("usd", flat=True).first()
        after["monthly_usd"] = cap
    with transaction.atomic():
        Limits.objects.update_or_create(team=request.team, api_key=key, defaults=given)
        if key is not None:
            budgets.set_monthly(request.team, cap, scope=Budget.Scope.KEY, subject=str(key.pk), label=str(key))
    audit.record(
        request.team, actor=request.user.email, verb="changed the limits of", subject=str(key or request.team),
        before=before, after=after,
    )  # fmt: skip
    messages.success(request, f"The limits of {key or request.team} are saved. Gateways follow within 5 seconds.")
    return redirect("limits")


def _filtered(request: TeamRequest) -> "QuerySet[RequestRecord]":
    rows = RequestRecord.objects.filter(team=request.team).order_by("-at", "-pk")
    for name, lookup in (("model", "asked__icontains"), ("key", "api_key_name__icontains")):
        if text := request.GET.get(name):
            # No text of the log holds a NUL; PostgreSQL would refuse it in the middle of a download.
            rows = rows.none() if "\0" in text else rows.filter(**{lookup: text})
    if (path := request.GET.get("path")) in {"hosted", "serverless"}:
        rows = rows.filter(path=path)
    match request.GET.get("status"):
        case "ok":
            rows = rows.filter(status__lt=400)
        case "failed":
            rows = rows.filter(status__gte=400)
        case str() as text if text.isascii() and text.isdigit() and len(text) == 3:
            rows = rows.filter(status=int(text))
    for name, lookup in (("since", "at__gte"), ("until", "at__lt")):
        if day := _day(request.GET.get(name, "")):
            rows = rows.filter(**{lookup: periods.start_of_day(day, request.team.time_zone)})
    return rows


def _day(text: str) -> Any:
    try:
        return parse_date(text)
    except ValueError:
        return None


def _query(request: TeamRequest) -> str:
    kept = request.GET.copy()
    kept.pop("page", None)
    return kept.urlencode()


def _csv_lines(rows: "QuerySet[RequestRecord]") -> Iterator[str]:
    cells = (map(_cell, row) for row in rows.values_list(*COLUMNS).iterator(2000))
    return csv_rows.lines(chain([COLUMNS], cells))


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if hasattr(value, "isoformat"):
        return str(value.isoformat())
    return safe(value) if isinstance(value, str) else f"{value}"
