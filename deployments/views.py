"""Stopping a deployment, starting it again."""

from uuid import UUID

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_POST

from accounts.http import TeamRequest, team_required
from accounts.roles import MAKERS
from deployments import operations
from deployments.errors import Unlicensed
from deployments.lifecycle import Status
from deployments.models import Deployment


@require_POST
@team_required
def deployment_stop(request: TeamRequest, pk: UUID) -> HttpResponse:
    deployment = _own(request, pk)
    if request.membership.role not in MAKERS:
        return render(request, "403.html", {"reason": "Your role may look at deployments, not stop them."}, status=403)
    operations.stop(deployment, actor=request.user.email)
    return redirect("deployment-detail", pk)


@require_POST
@team_required
def deployment_retry(request: TeamRequest, pk: UUID) -> HttpResponse:
    deployment = _own(request, pk)
    if request.membership.role not in MAKERS:
        return render(request, "403.html", {"reason": "Your role may look at deployments, not start them."}, status=403)
    if deployment.status == Status.FAILED:
        try:
            operations.retry(deployment, actor=request.user.email)
        except Unlicensed as error:
            messages.error(request, str(error))
    return redirect("deployment-detail", pk)


def _own(request: TeamRequest, pk: UUID) -> Deployment:
    """The team's own, or 404: another team's does not exist here."""
    return get_object_or_404(Deployment.objects.of(request.team).select_related("team"), pk=pk)
