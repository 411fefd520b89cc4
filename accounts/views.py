"""Teams, the team switcher, and API keys."""

from datetime import UTC, datetime, time
from uuid import UUID
from zoneinfo import available_timezones

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from accounts import audit, keys, teams
from accounts.forms import KeyForm, TeamForm
from accounts.http import SESSION_KEY, TeamRequest, team_required
from accounts.models import Membership, Role, User

MAKERS = {Role.OWNER, Role.ADMIN, Role.DEVELOPER}
MANAGERS = {Role.OWNER, Role.ADMIN}


@require_safe
@team_required
def team(request: TeamRequest) -> HttpResponse:
    return _team_page(request, TeamForm(instance=request.team))


@require_POST
@team_required
def team_edit(request: TeamRequest) -> HttpResponse:
    if request.membership.role not in MANAGERS:
        return render(request, "403.html", {"reason": "Only an owner or admin may change the team."}, status=403)
    form = TeamForm(request.POST, instance=request.team)
    if not form.is_valid():
        return _team_page(request, form, status=400)
    form.save()
    audit.record(request.team, actor=request.user.email, verb="changed the team", subject=request.team.name)
    messages.success(request, "Saved.")
    return redirect("team")


@login_required
@require_http_methods(["GET", "POST"])
def team_new(request: HttpRequest) -> HttpResponse:
    assert isinstance(request.user, User)  # noqa: S101 - login_required
    form = TeamForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        made = teams.create(request.user, name=form.cleaned_data["name"], time_zone=form.cleaned_data["time_zone"])
        request.session[SESSION_KEY] = str(made.pk)
        return redirect("home")
    return render(request, "accounts/team_new.html", {"form": form, "zones": sorted(available_timezones())})


@login_required
@require_POST
def team_switch(request: HttpRequest) -> HttpResponse:
    membership = Membership.objects.filter(user=request.user.pk, team__slug=request.POST.get("team", "")).first()
    if membership is None:
        raise Http404
    request.session[SESSION_KEY] = str(membership.team_id)
    after = request.POST.get("next", "")
    safe = url_has_allowed_host_and_scheme(after, allowed_hosts={request.get_host()})
    return redirect(after if safe else "home")


@never_cache
@team_required
@require_http_methods(["GET", "POST"])
def key_list(request: TeamRequest) -> HttpResponse:
    """The list; a POST makes a key and shows it in its own answer, this once."""
    if request.method != "POST":
        return _keys_page(request, KeyForm())
    if request.membership.role not in MAKERS:
        return render(request, "403.html", {"reason": "Your role may look at keys, not make them."}, status=403)
    form = KeyForm(request.POST)
    if not form.is_valid():
        return _keys_page(request, form, status=400)
    day = form.cleaned_data["expires_on"]
    row, text = keys.issue(
        request.team,
        name=form.cleaned_data["name"],
        created_by=request.user,
        expires_at=datetime.combine(day, time.min, UTC) if day else None,
    )
    audit.record(request.team, actor=request.user.email, verb="issued the key", subject=str(row))
    return _keys_page(request, KeyForm(), fresh=text, fresh_name=row.name)


@require_POST
@team_required
def key_revoke(request: TeamRequest, pk: UUID) -> HttpResponse:
    key = get_object_or_404(request.team.api_keys, pk=pk)
    if request.membership.role not in MAKERS:
        return render(request, "403.html", {"reason": "Your role may look at keys, not revoke them."}, status=403)
    keys.revoke(key)
    audit.record(request.team, actor=request.user.email, verb="revoked the key", subject=str(key))
    messages.success(request, f"{key.name} is revoked: calls with it are refused within 5 seconds.")
    return redirect("keys")


def _keys_page(request: TeamRequest, form: KeyForm, *, status: int = 200, **context: str) -> HttpResponse:
    rows = list(request.team.api_keys.select_related("created_by"))
    now = datetime.now(UTC)
    for row in rows:
        expired = bool(row.expires_at and row.expires_at <= now)
        row.state = "revoked" if row.revoked_at else "expired" if expired else "live"  # type: ignore[attr-defined]
    page = {
        "form": form,
        "rows": rows,
        "may_make": request.membership.role in MAKERS,
        "base_url": request.build_absolute_uri("/v1"),
        **context,
    }
    return render(request, "accounts/keys.html", page, status=status)


def _team_page(request: TeamRequest, form: TeamForm, *, status: int = 200) -> HttpResponse:
    context = {
        "form": form,
        "members": request.team.memberships.select_related("user").order_by("created_at"),
        "may_edit": request.membership.role in MANAGERS,
        "zones": sorted(available_timezones()),
        "events": request.team.audit_events.all()[:20],
    }
    return render(request, "accounts/team.html", context, status=status)
