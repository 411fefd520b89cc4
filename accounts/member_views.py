"""Members and invitations: roles changed, members removed, places offered, taken back and taken."""

from urllib.parse import urlencode
from uuid import UUID

from django.contrib import messages
from django.contrib.auth import login
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from accounts import invitations, members
from accounts.errors import AccountError, DeadInvitation, NotAllowed
from accounts.forms import InvitationForm, JoinForm
from accounts.http import SESSION_KEY, TeamRequest, team_required
from accounts.invitations import Joined
from accounts.models import Invitation, Membership, Role, User
from accounts.roles import MAKERS, MANAGERS, WORDS
from accounts.views import refused, team_page

INVITATION_KEY = "invitation"
LOST = (
    "This account's address had never been confirmed. In case somebody else opened it, its other addresses, second "
    "factors and sign-ons were removed: set up your own again under Sign-in and security."
)
BACKEND = "django.contrib.auth.backends.ModelBackend"


@require_POST
@team_required
def member_role(request: TeamRequest, pk: int) -> HttpResponse:
    member = get_object_or_404(request.team.memberships, pk=pk)
    if request.membership.role not in MANAGERS:
        return refused(request, "Only an owner or admin may change roles.")
    wanted = request.POST.get("role", "")
    if wanted not in Role.values:
        return team_page(request, problem="Choose one of the roles.", status=400)
    try:
        members.change_role(member, wanted, by=request.membership)
    except AccountError as error:
        return _no(request, error)
    messages.success(request, f"{member.user.email} is {wanted} now.{_keys_left(member, wanted)}")
    return redirect("team")


@require_http_methods(["GET", "POST"])
@team_required
def member_remove(request: TeamRequest, pk: int) -> HttpResponse:
    """The page asks once more, and what becomes of the keys that they made; a POST removes."""
    member = get_object_or_404(request.team.memberships.select_related("user"), pk=pk)
    if request.membership.role not in MANAGERS:
        return refused(request, "Only an owner or admin may remove members.")
    if request.method != "POST":
        context = {"member": member, "keys": members.live_keys_of(member)}
        return render(request, "accounts/member_remove.html", context)
    try:
        revoked = members.remove(member, by=request.membership, revoke_keys="revoke_keys" in request.POST)
    except AccountError as error:
        return _no(request, error)
    keys = f" {revoked} of their keys are revoked." if revoked else ""
    messages.success(request, f"{member.user.email} is no member any more.{keys}")
    return redirect("team")


@require_POST
@team_required
def leave(request: TeamRequest) -> HttpResponse:
    try:
        members.leave(request.membership)
    except AccountError as error:
        return _no(request, error)
    request.session.pop(SESSION_KEY, None)
    messages.success(request, f"You have left {request.team.name}.")
    return redirect("home")


@never_cache
@require_POST
@team_required
def invite(request: TeamRequest) -> HttpResponse:
    """Offer a place; the link is shown in this answer, this once, for where no mail gets through."""
    if request.membership.role not in MANAGERS:
        return refused(request, "Only an owner or admin may invite people.")
    form = InvitationForm(request.POST, by=request.membership)
    if not form.is_valid():
        return team_page(request, invitation_form=form, status=400)
    try:
        row, link = invitations.invite(form.cleaned_data["email"], form.cleaned_data["role"], by=request.membership)
    except AccountError as error:
        form.add_error(None, str(error))
        return team_page(request, invitation_form=form, status=400)
    return team_page(request, invited=row, link=link)


@never_cache
@require_POST
@team_required
def invitation_resend(request: TeamRequest, pk: UUID) -> HttpResponse:
    row = get_object_or_404(request.team.invitations.select_related("team"), pk=pk)
    try:
        link = invitations.resend(row, by=request.membership)
    except AccountError as error:
        return _no(request, error)
    return team_page(request, invited=row, link=link)


@require_POST
@team_required
def invitation_revoke(request: TeamRequest, pk: UUID) -> HttpResponse:
    row = get_object_or_404(request.team.invitations.select_related("team"), pk=pk)
    try:
        invitations.revoke(row, by=request.membership)
    except AccountError as error:
        return _no(request, error)
    messages.success(request, f"The invitation of {row.email} is taken back: its link opens nothing.")
    return redirect("team")


@never_cache
@require_safe
def join_link(request: HttpRequest, token: str) -> HttpResponse:
    """Where the link in the mail leads. Looking uses nothing up: mail scanners follow links, too. From here on the
    token stands in no address, which logs and histories would keep; the session knows its hash."""
    try:
        digest = invitations.digest_of(token)
        invitations.find(digest)
    except DeadInvitation as error:
        return _dead(request, str(error))
    request.session[INVITATION_KEY] = digest
    return redirect("join")


@never_cache
@require_http_methods(["GET", "POST"])
def join(request: HttpRequest) -> HttpResponse:
    """The invitation whose link was opened: who invites, as what, and the one way in that fits."""
    digest = request.session.get(INVITATION_KEY, "")
    if not digest:
        return _dead(request, "No invitation is open here. Open the link in the mail.")
    try:
        row = invitations.find(digest)
    except DeadInvitation as error:
        return _dead(request, str(error))
    account = invitations.account_of(row)
    form = None if account or request.user.is_authenticated else JoinForm(request.POST or None, email=row.email)
    if request.method == "POST":
        try:
            joined = _joined(request, digest, form)
        except AccountError as error:
            return _join_page(request, row, account, form, problem=str(error), status=400)
        if joined is not None:
            request.session.pop(INVITATION_KEY, None)
            request.session[SESSION_KEY] = str(joined.member.team_id)
            messages.success(request, f"Welcome to {row.team.name}: you are {joined.member.role} here.")
            if joined.lost:
                messages.warning(request, LOST)
            return redirect("home")
    return _join_page(request, row, account, form, status=400 if form is not None and form.errors else 200)


def _dead(request: HttpRequest, reason: str) -> HttpResponse:
    return render(request, "accounts/join_dead.html", {"reason": reason}, status=410)


def _joined(request: HttpRequest, digest: str, form: JoinForm | None) -> Joined | None:
    """The new membership; None where something is missing: a password that is good, or signing in first."""
    if isinstance(request.user, User):
        return invitations.accept(digest, user=request.user, session_key=request.session.session_key or "")
    if form is None or not form.is_valid():
        return None
    joined = invitations.join_as_new(digest, password=form.cleaned_data["password1"])
    login(request, joined.member.user, backend=BACKEND)
    return joined


def _join_page(
    request: HttpRequest,
    row: Invitation,
    account: User | None,
    form: JoinForm | None,
    *,
    problem: str = "",
    status: int = 200,
) -> HttpResponse:
    signed_in = request.user if isinstance(request.user, User) else None
    context = {
        "invitation": row,
        "words": WORDS[Role(row.role)],
        "account": account,
        "form": form,
        "problem": problem,
        "is_other": signed_in is not None and not invitations.is_for(row, signed_in),
        "sign_in": f"{reverse('account_login')}?{urlencode({'next': request.path})}",
    }
    return render(request, "accounts/join.html", context, status=status)


def _keys_left(member: Membership, role: str) -> str:
    """A role that makes no keys does not stop those that were made: whoever gives it is told."""
    live = 0 if role in MAKERS else members.live_keys_of(member)
    if not live:
        return ""
    made = "1 key that they made still works" if live == 1 else f"{live} keys that they made still work"
    return f" {made}: revoke what must not on the Keys page."


def _no(request: TeamRequest, error: AccountError) -> HttpResponse:
    if isinstance(error, NotAllowed):
        return refused(request, str(error))
    return team_page(request, problem=str(error), status=409)
