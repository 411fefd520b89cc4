"""Teams: the team's page, its settings, a new one, and the team switcher."""

from typing import Any
from zoneinfo import available_timezones

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from accounts import audit, quotas, teams, two_factor
from accounts.forms import InvitationForm, TeamForm
from accounts.http import SESSION_KEY, TeamRequest, chosen_membership, team_required
from accounts.models import Membership, Role, Team, User
from accounts.roles import MANAGERS, WORDS, grantable, may_manage
from accounts.trail import Line


@require_safe
@team_required
def team(request: TeamRequest) -> HttpResponse:
    return team_page(request)


@require_POST
@team_required
def team_edit(request: TeamRequest) -> HttpResponse:
    if request.membership.role not in MANAGERS:
        return refused(request, "Only an owner or admin may change the team.")
    form = TeamForm(request.POST, instance=Team.objects.get(pk=request.team.pk))
    if not form.is_valid():
        return team_page(request, form=form, status=400)
    changed = form.save()
    before, after = _described(request.team), _described(changed)
    audit.record(
        changed, actor=request.user.email, verb="changed the team", subject=changed.name, before=before, after=after
    )
    messages.success(request, "Saved.")
    return redirect("team")


@require_POST
@team_required
def team_two_factor(request: TeamRequest) -> HttpResponse:
    """Ask members for a second factor from now on, or no more. Who turns it on must have one."""
    if request.membership.role not in MANAGERS:
        return refused(request, "Only an owner or admin may say whether members need a second factor.")
    wanted = request.POST.get("require") == "yes"
    if wanted and not two_factor.has_one(request.user):
        return team_page(
            request, problem="Set up a second factor for yourself first: you would lock yourself out.", status=409
        )
    before, request.team.require_two_factor = request.team.require_two_factor, wanted
    request.team.save(update_fields=["require_two_factor"])
    audit.record(
        request.team, actor=request.user.email, verb="changed the team", subject=request.team.name,
        before={"two-factor required": before}, after={"two-factor required": wanted},
    )  # fmt: skip
    messages.success(request, "Saved.")
    return redirect("team")


@login_required
@require_safe
def two_factor_required(request: HttpRequest) -> HttpResponse:
    """Where somebody is led whose team asks for a second factor that they don't have."""
    member = chosen_membership(request)
    if member is None or not member.team.require_two_factor or two_factor.has_one(member.user):
        return redirect("home")
    return render(request, "accounts/two_factor_required.html", status=403)


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


def refused(request: TeamRequest, reason: str) -> HttpResponse:
    return render(request, "403.html", {"reason": reason}, status=403)


def team_page(request: TeamRequest, *, status: int = 200, **found: Any) -> HttpResponse:
    """The team's page: members, invitations, settings. `found` is what a POST has to say: a form with errors, a
    problem, an invitation with its link."""
    team, me = request.team, request.membership
    may_edit = me.role in MANAGERS
    members = team.memberships.select_related("user").annotate(has_second=two_factor.EXISTS)
    rows = list(members.order_by("created_at", "pk"))
    safe = {row.user_id for row in rows if row.has_second}
    owners = sum(row.role == Role.OWNER for row in rows)
    context = {
        "form": TeamForm(instance=team),
        "invitation_form": InvitationForm(by=me, initial={"role": Role.DEVELOPER}),
        "members": [_Member(row, me, owners, safe=row.user_id in safe) for row in rows],
        "has_second": me.user_id in safe,
        "without_second": len(rows) - len(safe),
        "invitations": team.invitations.open().select_related("invited_by") if may_edit else [],
        "may_edit": may_edit,
        "quotas": quotas.standings(team),
        "words": WORDS,
        "zones": sorted(available_timezones()),
        "events": [Line(row) for row in team.audit_events.all()[:8]] if may_edit else [],
    }
    return render(request, "accounts/team.html", context | found, status=status)


class _Member:
    """A line of the members' table: who it is, and what the one who looks may do with it."""

    def __init__(self, row: Membership, me: Membership, owners: int, *, safe: bool) -> None:
        self.has_second = safe
        self.row, self.is_me = row, row.pk == me.pk
        self.words = WORDS[Role(row.role)]
        self.is_last_owner = row.role == Role.OWNER and owners == 1
        self.grantable = grantable(me) if may_manage(me, row.role) and not self.is_last_owner else []


def _described(team: Team) -> dict[str, str]:
    return {"name": team.name, "time zone": team.time_zone}
