"""API keys: made, shown once, changed, rotated, revoked."""

from typing import Any
from uuid import UUID

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST

from accounts import keyring, scopes
from accounts.errors import NotAllowed, QuotaReached, UnknownKey
from accounts.http import TeamRequest, team_required
from accounts.key_forms import KeyForm, KeySettingsForm, RotateForm
from accounts.models import ApiKey, Scope
from accounts.roles import MAKERS
from accounts.views import refused


@never_cache
@team_required
@require_http_methods(["GET", "POST"])
def key_list(request: TeamRequest) -> HttpResponse:
    """The list; a POST makes a key and shows it in its own answer, this once."""
    if request.method != "POST":
        return _keys_page(request)
    if request.membership.role not in MAKERS:
        return refused(request, "Your role may look at keys, not make them.")
    form = KeyForm(request.POST, time_zone=request.team.time_zone)
    if not form.is_valid():
        return _keys_page(request, form=form, status=400)
    try:
        row, text = keyring.issue(
            request.team, actor=request.user.email, created_by=request.user, expires_at=form.expires_at, **form.settings
        )
    except QuotaReached as error:
        form.add_error(None, f"{error} Or revoke a key that nobody uses.")
        return _keys_page(request, form=form, status=400)
    return _keys_page(request, fresh=text, fresh_key=row)


@team_required
@require_http_methods(["GET", "POST"])
def key_detail(request: TeamRequest, pk: UUID) -> HttpResponse:
    """One key: what it may be used for, a new secret, its end. A POST changes its name, scopes and tag."""
    key = get_object_or_404(request.team.api_keys.select_related("created_by"), pk=pk)
    if request.method != "POST":
        return _key_page(request, key)
    if request.membership.role not in MAKERS:
        return refused(request, "Your role may look at keys, not change them.")
    form = KeySettingsForm(request.POST)
    if not form.is_valid():
        return _key_page(request, key, form=form, status=400)
    try:
        keyring.change(key, by=request.membership, actor=request.user.email, **form.settings)
    except NotAllowed as error:
        return _key_page(request, key, form=form, problem=str(error), status=403)
    except UnknownKey as error:
        return _key_page(request, key, form=form, problem=str(error), status=409)
    messages.success(request, "Saved. Programs notice within 5 seconds.")
    return redirect("key-detail", pk)


@never_cache
@require_POST
@team_required
def key_rotate(request: TeamRequest, pk: UUID) -> HttpResponse:
    """A new secret for the key, shown in this answer, this once."""
    key = get_object_or_404(request.team.api_keys.select_related("created_by"), pk=pk)
    if request.membership.role not in MAKERS:
        return refused(request, "Your role may look at keys, not rotate them.")
    form = RotateForm(request.POST, time_zone=request.team.time_zone)
    if not form.is_valid():
        return _key_page(request, key, rotate_form=form, status=400)
    try:
        text = keyring.rotate(
            key,
            by=request.membership,
            actor=request.user.email,
            overlap=form.overlap_lasts,
            **form.fields_changed,
        )
    except NotAllowed as error:
        return _key_page(request, key, rotate_form=form, problem=str(error), status=403)
    except UnknownKey as error:
        return _key_page(request, key, problem=str(error), status=409)
    return _key_page(request, key, fresh=text)


@require_POST
@team_required
def key_revoke(request: TeamRequest, pk: UUID) -> HttpResponse:
    key = get_object_or_404(request.team.api_keys, pk=pk)
    if request.membership.role not in MAKERS:
        return refused(request, "Your role may look at keys, not revoke them.")
    keyring.revoke(key, actor=request.user.email)
    messages.success(request, f"{key.name} is revoked: calls with it are refused within 5 seconds.")
    return redirect("keys")


def _keys_page(request: TeamRequest, *, status: int = 200, **found: Any) -> HttpResponse:
    rows = [(row, row.state) for row in request.team.api_keys.select_related("created_by")]
    fresh = {"name": "", "scopes": [Scope.MODELS], "lasts": "90"}
    page = {
        "form": KeyForm(time_zone=request.team.time_zone, initial=fresh),
        "rows": [pair for pair in rows if pair[1] == "live"],
        "dead": [pair for pair in rows if pair[1] != "live"],
        "may_make": request.membership.role in MAKERS,
        "scope_words": scopes.WORDS,
        "base_url": request.build_absolute_uri("/v1"),
    }
    return render(request, "accounts/keys.html", page | found, status=status)


def _key_page(request: TeamRequest, key: ApiKey, *, status: int = 200, **found: Any) -> HttpResponse:
    has = {"name": key.name, "scopes": key.scopes, "tag": key.tag}
    page = {
        "key": key,
        "state": key.state,
        "form": KeySettingsForm(initial=has),
        "rotate_form": RotateForm(time_zone=request.team.time_zone, initial={"overlap": "24", "lasts": "keep"}),
        "may_make": request.membership.role in MAKERS,
        "scope_words": scopes.WORDS,
        "base_url": request.build_absolute_uri("/v1"),
        "overlaps": key.old_until is not None and key.old_until > timezone.now(),
    }
    return render(request, "accounts/key.html", page | found, status=status)
