"""API keys: made, shown once, rotated, revoked."""

from uuid import UUID

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST

from accounts import audit, keys
from accounts.forms import KeyForm
from accounts.http import TeamRequest, team_required
from accounts.models import ApiKey
from accounts.roles import MAKERS
from accounts.views import refused


@never_cache
@team_required
@require_http_methods(["GET", "POST"])
def key_list(request: TeamRequest) -> HttpResponse:
    """The list; a POST makes a key and shows it in its own answer, this once."""
    if request.method != "POST":
        return _keys_page(request, KeyForm(time_zone=request.team.time_zone))
    if request.membership.role not in MAKERS:
        return refused(request, "Your role may look at keys, not make them.")
    form = KeyForm(request.POST, time_zone=request.team.time_zone)
    if not form.is_valid():
        return _keys_page(request, form, status=400)
    row, text = keys.issue(
        request.team, name=form.cleaned_data["name"], created_by=request.user, expires_at=form.expires_at
    )
    audit.record(request.team, actor=request.user.email, verb="issued the key", subject=str(row))
    return _keys_page(request, KeyForm(time_zone=request.team.time_zone), fresh=text, fresh_name=row.name)


@require_POST
@team_required
def key_revoke(request: TeamRequest, pk: UUID) -> HttpResponse:
    key = get_object_or_404(request.team.api_keys, pk=pk)
    if request.membership.role not in MAKERS:
        return refused(request, "Your role may look at keys, not revoke them.")
    if key.revoked_at is None:
        keys.revoke(key)
        audit.record(request.team, actor=request.user.email, verb="revoked the key", subject=str(key))
    messages.success(request, f"{key.name} is revoked: calls with it are refused within 5 seconds.")
    return redirect("keys")


def _keys_page(request: TeamRequest, form: KeyForm, *, status: int = 200, **context: str) -> HttpResponse:
    rows = [(row, _state(row)) for row in request.team.api_keys.select_related("created_by")]
    page = {
        "form": form,
        "rows": sorted(rows, key=lambda pair: pair[1] != "live"),
        "may_make": request.membership.role in MAKERS,
        "base_url": request.build_absolute_uri("/v1"),
        **context,
    }
    return render(request, "accounts/keys.html", page, status=status)


def _state(key: ApiKey) -> str:
    if key.revoked_at:
        return "revoked"
    return "expired" if key.expires_at and key.expires_at <= timezone.now() else "live"
