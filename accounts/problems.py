"""Errors of the management API as RFC 9457 problem details."""

from typing import Any

from rest_framework import status
from rest_framework.exceptions import PermissionDenied
from rest_framework.response import Response
from rest_framework.views import exception_handler

from accounts.errors import TwoFactorRequired


def problem_details(error: Exception, context: dict[str, Any]) -> Response | None:
    """RFC 9457: {type, title, status, detail, errors?} as application/problem+json, and the error's `more`."""
    if isinstance(error, TwoFactorRequired):
        error = PermissionDenied(str(error), code="two_factor_required")
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
    body |= getattr(error, "more", {})
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
