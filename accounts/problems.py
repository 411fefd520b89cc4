"""Errors of the management API as RFC 9457 problem details."""

import contextlib
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views import defaults
from rest_framework import status
from rest_framework.exceptions import APIException, PermissionDenied
from rest_framework.response import Response
from rest_framework.views import exception_handler

from accounts.errors import AccountError, NotAllowed, QuotaReached, TwoFactorRequired


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


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    """The site's 404: a page, or a problem where the API was asked for what it has not."""
    if is_api(request):
        return problem(HTTPStatus.NOT_FOUND, f"There is no {request.path[:200]} here; /api/v1/schema lists what is.")
    return defaults.page_not_found(request, exception)


def broken(request: HttpRequest) -> HttpResponse:
    """The site's 500. What went wrong is in the log alone."""
    if is_api(request):
        return problem(HTTPStatus.INTERNAL_SERVER_ERROR, "Something went wrong here; the portal's log has it.")
    return defaults.server_error(request)


def is_api(request: HttpRequest) -> bool:
    return request.path.startswith("/api/")


def problem(code: HTTPStatus, detail: str) -> JsonResponse:
    """As problem_details(), for what goes wrong outside of an API view."""
    body = {"type": "about:blank", "title": status_title(code), "status": code, "detail": detail}
    return JsonResponse(body, status=code, content_type="application/problem+json")


def status_title(code: int) -> str:
    return {
        status.HTTP_400_BAD_REQUEST: "Bad request",
        status.HTTP_401_UNAUTHORIZED: "Not authenticated",
        status.HTTP_403_FORBIDDEN: "Not allowed",
        status.HTTP_404_NOT_FOUND: "Not found",
        status.HTTP_409_CONFLICT: "Conflict",
    }.get(code, "Error")


class Conflict(APIException):
    """409: it can't be done as things are now; the text says why."""

    status_code = status.HTTP_409_CONFLICT
    default_code = "conflict"


@contextlib.contextmanager
def told() -> Iterator[None]:
    """What this app refuses, as the management API says it: 403 by role, else a conflict with what is there."""
    try:
        yield
    except NotAllowed as error:
        raise PermissionDenied(str(error), code="not_allowed") from error
    except QuotaReached as error:
        raise Conflict(str(error), code="quota_reached") from error
    except AccountError as error:
        raise Conflict(str(error)) from error
