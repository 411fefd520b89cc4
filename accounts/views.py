"""Teams, the team switcher, and API keys."""

from uuid import UUID
from zoneinfo import available_timezones

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from accounts import audit, keys, teams
from accounts.forms import KeyForm, TeamForm
from accounts.http import SESSION_KEY, TeamRequest, team_required
from accounts.models import ApiKey, Role, Team, User

MAKERS = {Role.OWNER, Role.ADMIN, Role.DEVELOPER}
MANAGERS = {Role.OWNER, Role.ADMIN}
ROLES = {
    Role.OWNER: "everything",
    Role.ADMIN: "keys, deployments, the team's settings and budget",
    Role.DEVELOPER: "keys, deployments and calls",
    Role.BILLING: "costs, statements and the budget; looks at the rest",
    Role.VIEWER: "looks at everything, changes nothing",
}


@require_safe
@team_required
def team(request: TeamRequest) -> HttpResponse:
    return _team_page(request, TeamForm(instance=request.team))


@require_POST
@team_required
def team_edit(request: TeamRequest) -> HttpResponse:
    if request.membership.role not in MANAGERS:
        return _refused(request, "Only an owner or admin may change the team.")
    form = TeamForm(request.POST, instance=Team.objects.get(pk=request.team.pk))
    if not form.is_valid():
        return _team_page(request, form, status=400)
    changed = form.save()
    audit.record(changed, actor=request.user.email, verb="changed the team", subject=_described(changed))
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
    context = {"form": form, "zones": sorted(available_timezones())}
    return render(request, "accounts/team_new.html", context, status=400 if form.errors else 200)


@login_required
@require_POST
def team_switch(request: HttpRequest) -> HttpResponse:
    """Work for another of one's own teams from now on; any other slug, existing or not, is a 404."""
    own = {team.slug: team for team in Team.objects.filter(memberships__user=request.user.pk)}
    chosen = own.get(request.POST.get("team", ""))
    if chosen is None:
        raise Http404
    request.session[SESSION_KEY] = str(chosen.pk)
    after = request.POST.get("next", "")
    is_safe = url_has_allowed_host_and_scheme(
        after, allowed_hosts={request.get_host()}, require_https=request.is_secure()
    )
    return redirect(after if is_safe else "home")


@never_cache
@team_required
@require_http_methods(["GET", "POST"])
def key_list(request: TeamRequest) -> HttpResponse:
    """The list; a POST makes a key and shows it in its own answer, this once."""
    if request.method != "POST":
        return _keys_page(request, KeyForm(time_zone=request.team.time_zone))
    if request.membership.role not in MAKERS:
        return _refused(request, "Your role may look at keys, not make them.")
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
        return _refused(request, "Your role may look at keys, not revoke them.")
    if key.revoked_at is None:
        keys.revoke(key)
        audit.record(request.team, actor=request.user.email, verb="revoked the key", subject=str(key))
    messages.success(request, f"{key.name} is revoked: calls with it are refused within 5 seconds.")
    return redirect("keys")


def _refused(request: TeamRequest, reason: str) -> HttpResponse:
    return render(request, "403.html", {"reason": reason}, status=403)


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


def _team_page(request: TeamRequest, form: TeamForm, *, status: int = 200) -> HttpResponse:
    members = request.team.memberships.select_related("user").order_by("created_at")
    context = {
        "form": form,
        "members": [(member, ROLES[Role(member.role)]) for member in members],
        "may_edit": request.membership.role in MANAGERS,
        "zones": sorted(available_timezones()),
        "events": request.team.audit_events.all()[:20],
    }
    return render(request, "accounts/team.html", context, status=status)


def _described(team: Team) -> str:
    return f"{team.name}, days in {team.time_zone}"
