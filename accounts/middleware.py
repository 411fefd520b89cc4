"""What every request of the site passes: where it came from is known, and a team's second factor is asked for."""

from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from allauth.account.adapter import get_adapter
from asgiref.sync import iscoroutinefunction
from django.core.exceptions import ImproperlyConfigured, PermissionDenied, SuspiciousOperation
from django.db import DataError
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect, render
from django.utils.decorators import sync_and_async_middleware
from django.views.defaults import bad_request, page_not_found
from requests import RequestException

from accounts import audit, problems
from accounts.errors import TwoFactorRequired

# What PostgreSQL's driver says of a NUL, wherever one was given; forms and serializers refuse it before.
NO_TEXT = "NUL (0x00)"


@sync_and_async_middleware
def access(get_response: Callable[..., Any]) -> Any:
    """The audit trail learns the client's address; who lacks the second factor that a team asks for is led to it;
    a sign-on provider that is away is said in plain words; nothing has a name that no text can be."""

    def refused(error: Exception, request: HttpRequest) -> HttpResponse | None:
        if isinstance(error, RequestException) and request.path.startswith("/accounts/"):
            return render(request, "socialaccount/authentication_error.html", status=502)
        if isinstance(error, DataError) and NO_TEXT in str(error):
            return _unreadable(request)
        if not isinstance(error, TwoFactorRequired):
            return None
        if request.headers.get("accept", "").startswith("text/html") or request.method in {"GET", "HEAD"}:
            return redirect("two-factor-required")
        return JsonResponse({"error": {"message": str(error), "code": "two_factor_required"}}, status=403)

    if iscoroutinefunction(get_response):

        async def answer_soon(request: HttpRequest) -> Any:
            token = audit.came_from.set(address_of(request))
            try:
                return await get_response(request)
            finally:
                audit.came_from.reset(token)

        answer_soon.process_exception = lambda request, error: refused(error, request)  # type: ignore[attr-defined]
        return answer_soon

    def answer(request: HttpRequest) -> Any:
        token = audit.came_from.set(address_of(request))
        try:
            return get_response(request)
        finally:
            audit.came_from.reset(token)

    answer.process_exception = lambda request, error: refused(error, request)  # type: ignore[attr-defined]
    return answer


def _unreadable(request: HttpRequest) -> HttpResponse:
    """A NUL is in no name, so what was asked for by one is not there; what was to be stored with one is not taken."""
    is_read = request.method in {"GET", "HEAD"}
    if problems.is_api(request):
        status = HTTPStatus.NOT_FOUND if is_read else HTTPStatus.BAD_REQUEST
        return problems.problem(status, "Text holds no NUL (0x00).")
    return page_not_found(request, Http404()) if is_read else bad_request(request, SuspiciousOperation())


def address_of(request: HttpRequest) -> str | None:
    """The client's address: the last one that a proxy of ours wrote down, else the socket's. None: not known."""
    try:
        found: str = get_adapter(request).get_client_ip(request)
    except (ImproperlyConfigured, PermissionDenied):
        return None
    return found
