"""The management API's door: a key or a signed-in session -> one team."""

import json
from typing import Any

from rest_framework import exceptions, pagination, parsers, permissions
from rest_framework.authentication import BaseAuthentication, SessionAuthentication, get_authorization_header
from rest_framework.request import Request

from accounts import http, keys, scopes
from accounts.errors import TwoFactorRequired
from accounts.models import ApiKey, Membership, Role, Team
from accounts.roles import MAKERS

BAD_KEY = "The API key is missing or not valid. Send `Authorization: Bearer mp_...`."


class Json(parsers.JSONParser):
    """What goes deeper than Python reads, or has halves of surrogates, which nothing can store or answer, is a 400."""

    def parse(self, stream: Any, media_type: str | None = None, parser_context: Any = None) -> Any:
        try:
            found = super().parse(stream, media_type, parser_context)
            json.dumps(found, ensure_ascii=False).encode()
        except (RecursionError, UnicodeEncodeError) as error:
            raise exceptions.ParseError("The body goes too deep, or holds characters that no text has.") from error
        return found


class ApiKeyAuthentication(BaseAuthentication):
    """`Authorization: Bearer mp_...`; request.auth is the ApiKey."""

    def authenticate(self, request: Request) -> tuple[Any, ApiKey] | None:
        scheme, _, text = get_authorization_header(request).partition(b" ")
        if scheme.lower() != b"bearer":
            return None
        key = keys.look_up(text.strip().decode("latin-1"))
        if key is None:
            raise exceptions.AuthenticationFailed(BAD_KEY, code="invalid_api_key")
        keys.touch(key)
        return (key.created_by, key)

    def authenticate_header(self, request: Request) -> str:
        return "Bearer"


class TeamSessionAuthentication(SessionAuthentication):
    """The browser's session, with CSRF; request.auth is None."""


class HasTeam(permissions.BasePermission):
    """Read for every role; write for owner, admin and developer. A key: what a developer may, within its scopes."""

    message = "Your role in this team may read, but not change this."

    def has_permission(self, request: Request, view: Any) -> bool:
        if isinstance(request.auth, ApiKey):
            needed = scopes.of_path(request.path)
            if needed not in request.auth.scopes:
                raise exceptions.PermissionDenied(scopes.lacking(request.auth.scopes, needed), code="missing_scope")
            return True
        membership = _membership(request)
        return request.method in permissions.SAFE_METHODS or membership.role in MAKERS


class AsOnThePages(HasTeam):
    """By role, as on the pages. A key acts for who made it: it may what they may now, within its scopes."""

    readers: frozenset[Role] = frozenset(Role)
    writers: frozenset[Role]

    def has_permission(self, request: Request, view: Any) -> bool:
        if isinstance(request.auth, ApiKey):
            super().has_permission(request, view)  # raises without the scope
        is_read = request.method in permissions.SAFE_METHODS
        member = acting(request)
        if member is None:
            return self.lets_the_operator(is_read=is_read)
        return member.role in (self.readers if is_read else self.writers)

    def lets_the_operator(self, *, is_read: bool) -> bool:
        """A key of the command line's, which acts for nobody."""
        return is_read


class WritesSignedIn(HasTeam):
    """Read for every role and key; write for `writers` alone, in the browser's session: no key may widen itself."""

    writers: frozenset[Role]

    def has_permission(self, request: Request, view: Any) -> bool:
        if request.method in permissions.SAFE_METHODS:
            return super().has_permission(request, view)
        if isinstance(request.auth, ApiKey):
            return False
        membership = http.current_membership(request._request)
        return membership is not None and membership.role in self.writers


class Pages(pagination.LimitOffsetPagination):
    default_limit = 100
    max_limit = 1000


def team_of(request: Request) -> Team:
    """The one team whose rows this request may see."""
    if isinstance(request.auth, ApiKey):
        return request.auth.team
    return _membership(request).team


def acting(request: Request) -> Membership | None:
    """Whose role decides: the session's member; for a key, who made it, at most as an admin: owners are made and
    unmade by hand. None for a key of the command line's. Raises PermissionDenied where the maker is no member now."""
    if not isinstance(request.auth, ApiKey):
        return _membership(request)
    key = request.auth
    if key.created_by_id is None:
        return None
    rows = Membership.objects.filter(team=key.team_id, user=key.created_by_id, user__is_active=True)
    found = rows.select_related("team", "user").first()
    if found is None:
        raise exceptions.PermissionDenied("Who made this key is no member of the team any more.", code="maker_left")
    if found.role == Role.OWNER:
        found.role = Role.ADMIN  # of this copy: it is never saved
    return found


def _membership(request: Request) -> Membership:
    """Of the session's user. Raises NotAuthenticated, or PermissionDenied where a second factor is missing."""
    try:
        membership = http.current_membership(request._request)
    except TwoFactorRequired as error:
        raise exceptions.PermissionDenied(str(error), code="two_factor_required") from error
    if membership is None:
        raise exceptions.NotAuthenticated(BAD_KEY)
    return membership


def actor_of(request: Request) -> str:
    """Who acts, for the audit trail: the key's prefix or the user's e-mail."""
    return request.auth.prefix if isinstance(request.auth, ApiKey) else str(request.user)
