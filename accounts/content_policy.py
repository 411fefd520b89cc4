"""What a browser may do with an answer of this portal: scripts, styles, pictures and questions are the portal's own,
no script stands in a page, no other site frames one. So a text that gets into a page as markup still can't act."""

from collections.abc import Callable
from typing import Any

from asgiref.sync import iscoroutinefunction
from django.conf import settings
from django.http import HttpRequest, HttpResponseBase
from django.utils.decorators import sync_and_async_middleware

CSP = "content-security-policy"
# Files and JSON: nothing in them is run or loaded, should a browser show them.
DATA = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
DATA_HEADERS = ((CSP.encode(), DATA.encode()), (b"x-content-type-options", b"nosniff"))
"""As ASGI has them, for answers that Django does not write."""


@sync_and_async_middleware
def content_policy(get_response: Callable[..., Any]) -> Any:
    """Stands before all others, so errors, redirects and static files carry it as well."""
    if iscoroutinefunction(get_response):

        async def answer_soon(request: HttpRequest) -> HttpResponseBase:
            return _with_policy(request, await get_response(request))

        return answer_soon

    def answer(request: HttpRequest) -> HttpResponseBase:
        return _with_policy(request, get_response(request))

    return answer


def of_page(path: str) -> str:
    """The policy of a page. Styles may stand in it (charts and bars have widths); scripts may not."""
    # The administration's own Alpine reads expressions out of attributes; nothing of it is an inline script, either.
    scripts = "'self' 'unsafe-eval'" if path.startswith("/admin/") else "'self'"
    # A sign-on is a form, too, and browsers hold the policy against where it is led to: the provider.
    forms = "'self' https:" if path.startswith("/accounts/") and settings.SOCIALACCOUNT_PROVIDERS else "'self'"
    if forms != "'self'":
        forms += f" {_sign_on_server()}"
    return (
        f"default-src 'none'; script-src {scripts}; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
        f"font-src 'self'; connect-src 'self'; manifest-src 'self'; form-action {forms}; base-uri 'none'; "
        "frame-ancestors 'none'"
    )


def _sign_on_server() -> str:
    """A provider of one's own network may stand at http."""
    (app,) = settings.SOCIALACCOUNT_PROVIDERS["openid_connect"]["APPS"]
    scheme, _, rest = app["settings"]["server_url"].partition("://")
    return f"{scheme}://{rest.split('/')[0]}"


def _with_policy(request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
    is_page = response.headers.get("content-type", "text/html").startswith("text/html")
    response.headers.setdefault(CSP, of_page(request.path) if is_page else DATA)
    response.headers.setdefault("x-content-type-options", "nosniff")
    return response
