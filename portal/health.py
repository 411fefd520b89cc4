"""Is the process alive (/healthz); can the whole portal do its work (/readyz)."""

from collections.abc import Callable

import httpx
from django.core.cache import cache
from django.db import connection
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from deployments import endpoints
from portal.celery import app
from portal.tasks import HEARTBEAT


@require_safe
def healthz(request: HttpRequest) -> HttpResponse:
    return HttpResponse("ok\n", content_type="text/plain")


@require_safe
@never_cache
def readyz(request: HttpRequest) -> HttpResponse:
    """200 with {"ready": true}, or 503; "missing" names what does not answer. Never an error of its own.

    "waking" lists the platform's own models that can't be called yet; they don't count as missing.
    """
    missing = [name for name, ask in CHECKS.items() if not _holds(ask)]
    waking = [] if "database" in missing else _waking()
    body = {"ready": not missing, "missing": missing, "waking": waking}
    return JsonResponse(body, status=503 if missing else 200)


def _holds(ask: Callable[[], bool]) -> bool:
    try:
        return ask()
    except Exception:  # whatever goes wrong in asking, the answer is no
        return False


def _database() -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
        return True


def _broker() -> bool:
    with app.connection_for_read() as broker:
        broker.ensure_connection(max_retries=1, interval_start=0, interval_step=0, timeout=2)
        return True


def _worker() -> bool:
    return cache.get(HEARTBEAT) is not None


def _waking() -> list[str]:
    try:
        return [
            endpoint.endpoint_model
            for endpoint in endpoints.live_endpoints()
            if endpoint.is_platform and not (endpoint.address and _answers(endpoint.address))
        ]
    except Exception:  # the state of the models never makes this page fail
        return []


def _answers(address: str) -> bool:
    try:
        return httpx.get(f"{address}/health", timeout=1, trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False


CHECKS: dict[str, Callable[[], bool]] = {"database": _database, "broker": _broker, "worker": _worker}
