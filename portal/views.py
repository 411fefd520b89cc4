"""The home page."""

from django.http import HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from accounts.http import TeamRequest, team_required
from accounts.models import Role
from accounts.roles import MAKERS
from catalog.views import LOOKED
from portal import home as homes


@require_safe
@team_required
def home(request: TeamRequest) -> HttpResponse:
    """The page; for htmx, which asks while something is on its way, what runs alone."""
    found = homes.of(request.team, is_staff=request.user.is_staff, looked=LOOKED in request.session)
    role = Role(request.membership.role)
    context = {
        "home": found,
        "steps": [(step, role in step.for_roles) for step in found.steps],
        "may_work": role in MAKERS,
        "base_url": request.build_absolute_uri("/v1"),
    }
    part = "#running" if request.htmx and not request.htmx.boosted else ""  # type: ignore[attr-defined]
    return render(request, f"portal/home.html{part}", context)
