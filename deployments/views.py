"""Deployments: the list, and one deployment's live page."""

import hashlib
from typing import Any
from uuid import UUID

from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.http import require_POST, require_safe

from accounts.http import TeamRequest, team_required
from accounts.models import Role
from catalog import snippets
from deployments import operations, status
from deployments.lifecycle import IN_MOTION, Status
from deployments.models import Deployment

DEPLOYERS = {Role.OWNER, Role.ADMIN, Role.DEVELOPER}


@require_safe
@team_required
def deployment_list(request: TeamRequest) -> HttpResponse:
    reports = status.of_team(request.team)
    context = {
        "reports": reports,
        "any_live": any(not report.is_over for report in reports),
        "any_in_motion": any(report.shown_status in IN_MOTION for report in reports),
        "api_url": request.build_absolute_uri("/api/v1"),
    }
    return render(request, f"deployments/list.html{'#rows' if _is_poll(request) else ''}", context)


@require_safe
@team_required
def deployment_detail(request: TeamRequest, pk: UUID) -> HttpResponse:
    """The page, or the part of it that a poll asks for: its status, or its history if that has changed."""
    deployment = _own(request, pk)
    if not _is_poll(request):
        context = _status(request, deployment) | _history(deployment)
        snippet = snippets.of(deployment.endpoint_model, base_url=request.build_absolute_uri("/v1"))
        return render(request, "deployments/detail.html", context | {"snippets": snippet})
    if request.GET.get("part") != "history":
        return render(request, "deployments/detail.html#status", _status(request, deployment))
    history = _history(deployment)
    if history["seen"] == request.GET.get("seen"):
        return HttpResponse(status=204)  # htmx leaves the page as it is: an open detail, a selection, a scroll position
    return render(request, "deployments/detail.html#history", _status(request, deployment) | history)


def _status(request: TeamRequest, deployment: Deployment) -> dict[str, Any]:
    report = status.of(deployment)
    return {
        "report": report,
        "deployment": report.row,
        "may_change": request.membership.role in DEPLOYERS,
        "waited_s": (timezone.now() - report.row.status_since).total_seconds(),
        "usual_start_s": status.usual_start_s(hardware_slug=report.row.hardware_id) if report.is_coming else None,
    }


def _history(deployment: Deployment) -> dict[str, Any]:
    """What happened, newest first, and the log; `seen` changes when any of it does."""
    events = list(deployment.events.order_by("-at", "-pk")[:30])
    replicas = list(deployment.replicas.select_related("version").order_by("-created_at")[:10])
    log = "\n".join(status.log_tail(deployment, lines=100))
    engines = [(one.pk, one.started_at, one.ready_at, one.exited_at) for one in replicas]
    facts = [deployment.version_id, [event.pk for event in events], engines, log]
    seen = hashlib.sha256(repr(facts).encode()).hexdigest()[:16]
    versions = list(deployment.versions.select_related("weights")[:10])
    return {"events": events, "replicas": replicas, "log": log, "seen": seen, "versions": versions}


@require_POST
@team_required
def deployment_stop(request: TeamRequest, pk: UUID) -> HttpResponse:
    deployment = _own(request, pk)
    if request.membership.role not in DEPLOYERS:
        return render(request, "403.html", {"reason": "Your role may look at deployments, not stop them."}, status=403)
    operations.stop(deployment, actor=request.user.email)
    return redirect("deployment-detail", pk)


@require_POST
@team_required
def deployment_retry(request: TeamRequest, pk: UUID) -> HttpResponse:
    deployment = _own(request, pk)
    if request.membership.role not in DEPLOYERS:
        return render(request, "403.html", {"reason": "Your role may look at deployments, not start them."}, status=403)
    if deployment.status == Status.FAILED:
        operations.retry(deployment, actor=request.user.email)
    return redirect("deployment-detail", pk)


def _is_poll(request: TeamRequest) -> bool:
    return bool(request.htmx)  # type: ignore[attr-defined]


def _own(request: TeamRequest, pk: UUID) -> Deployment:
    """The team's own, or 404: another team's does not exist here."""
    return get_object_or_404(Deployment.objects.of(request.team).select_related("team"), pk=pk)
