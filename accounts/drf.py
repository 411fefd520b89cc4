"""The management API's door: a key or a signed-in session -> one team; errors as RFC 9457 problem details."""

from typing import Any

from rest_framework import exceptions, pagination, permissions, status
from rest_framework.authentication import BaseAuthentication, SessionAuthentication, get_authorization_header
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import exception_handler

from accounts import http, keys
from accounts.models import ApiKey, Role, Team

BAD_KEY = "The API key is missing or not valid. Send `Authorization: Bearer mp_...`."


class ApiKeyAuthentication(BaseAuthentication):
    """`Authorization: Bearer mp_...`; request.auth is the ApiKey."""

    def authenticate(self, request: Request) -> tuple[Any, ApiKey] | None:
        scheme, _, text = get_authorization_header(request).partition(b" ")
        if scheme.lower() != b"bearer":
            return None
        key = keys.look_up(text.strip().decode("latin-1"))
        if key is None:
            raise exceptions.AuthenticationFailed(BAD_KEY, code="invalid_api_key")
        return (key.created_by, key)

    def authenticate_header(self, request: Request) -> str:
        return "Bearer"


class TeamSessionAuthentication(SessionAuthentication):
    """The browser's session, with CSRF; request.auth is None."""


class HasTeam(permissions.BasePermission):
    """Read for every role; write for owner, admin and developer. A key may do what a developer may."""

    message = "Your role in this team may read, but not change this."

    def has_permission(self, request: Request, view: Any) -> bool:
        if isinstance(request.auth, ApiKey):
            return True
        membership = http.current_membership(request._request)
        if membership is None:
            raise exceptions.NotAuthenticated(BAD_KEY)
        return request.method in permissions.SAFE_METHODS or membership.role in {
            Role.OWNER,
            Role.ADMIN,
            Role.DEVELOPER,
        }


class Pages(pagination.LimitOffsetPagination):
    default_limit = 100
    max_limit = 1000


def team_of(request: Request) -> Team:
    """The one team whose rows this request may see."""
    if isinstance(request.auth, ApiKey):
        return request.auth.team
    membership = http.current_membership(request._request)
    if membership is None:
        raise exceptions.NotAuthenticated(BAD_KEY)
    return membership.team


def actor_of(request: Request) -> str:
    """Who acts, for the audit trail: the key's prefix or the user's e-mail."""
    return request.auth.prefix if isinstance(request.auth, ApiKey) else str(request.user)


def problem_details(error: Exception, context: dict[str, Any]) -> Response | None:
    """RFC 9457: {type, title, status, detail, errors?} as application/problem+json."""
    response = exception_handler(error, context)
    if response is None:
        return None
    data = response.data
    detail = data.get("detail") if isinstance(data, dict) else None
    body: dict[str, Any] = {
        "type": "about:blank",
        "title": status_title(response.status_code),
        "status": response.status_code,
        "detail": str(detail) if detail else "Some fields are not right; see errors.",
    }
    if code := getattr(detail, "code", None):
        body["code"] = code
    if not detail:
        body["errors"] = data
    response.data = body
    response.content_type = "application/problem+json"
    return response


def status_title(code: int) -> str:
    return {
        status.HTTP_400_BAD_REQUEST: "Bad request",
        status.HTTP_401_UNAUTHORIZED: "Not authenticated",
        status.HTTP_403_FORBIDDEN: "Not allowed",
        status.HTTP_404_NOT_FOUND: "Not found",
        status.HTTP_409_CONFLICT: "Conflict",
    }.get(code, "Error")
