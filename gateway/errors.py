"""What can go wrong on the wire, and how it is said there.

WireError                 anything that ends a call with a status and an error in the shape of the client's API
    bad_request           400, with the field in `param`
    invalid_api_key       401, one text for every kind of bad key
    missing_scope         403, a good key that may not do this
    not_licensed          403, the team's licence policy denies it, or nobody has agreed yet
    model_not_found       404, unknown and another team's alike
    not_ready             503, a deployment that can't answer in time
    rate_limited          429, a limit of the key or the team
    upstream_failed       429, 502, 503, 504: what the target did, without its secrets
"""

from dataclasses import dataclass, field
from enum import Enum
from types import MappingProxyType
from typing import Any

import orjson
from django.conf import settings

from catalog.licensing.policy import Refusal


class Next(Enum):
    """What may be tried after a target failed before its first byte."""

    NOTHING = "nothing"
    ANOTHER_TARGET = "another target"
    THE_SAME_AGAIN = "the same again"


_ANTHROPIC_TYPES = MappingProxyType(
    {
        400: "invalid_request_error",
        401: "authentication_error",
        402: "billing_error",
        403: "permission_error",
        404: "not_found_error",
        405: "invalid_request_error",
        409: "invalid_request_error",
        413: "request_too_large",
        422: "invalid_request_error",
        429: "rate_limit_error",
        503: "overloaded_error",
        504: "timeout_error",
    }
)


@dataclass(slots=True)
class WireError(Exception):
    """An answer in the shape of OpenAI's API: {"error": {"message", "type", "param", "code"}}, or of Anthropic's:
    {"type": "error", "error": {"type", "message"}, "request_id"}."""

    status: int
    message: str
    type: str = "invalid_request_error"
    code: str | None = None
    param: str | None = None
    headers: dict[str, str] = field(default_factory=dict)
    next: Next = Next.NOTHING
    upstream_status: int = 0

    def body(self) -> bytes:
        return orjson.dumps({"error": self.shape()})

    def shape(self) -> dict[str, Any]:
        return {"message": self.message, "type": self.type, "param": self.param, "code": self.code}

    def anthropic_body(self, request_id: str) -> bytes:
        kind = "billing_error" if self.code == "insufficient_quota" else _ANTHROPIC_TYPES.get(self.status, "api_error")
        message = f"{self.param}: {self.message}" if self.param else self.message
        shape = {"type": "error", "error": {"type": kind, "message": message}, "request_id": request_id}
        return orjson.dumps(shape)


def bad_request(message: str, *, param: str | None = None, code: str | None = None) -> WireError:
    return WireError(400, message, param=param, code=code)


def invalid_api_key() -> WireError:
    return WireError(
        401,
        "Incorrect API key provided. Make one on the Keys page and send it as `Authorization: Bearer mp_...`.",
        code="invalid_api_key",
        headers={"www-authenticate": "Bearer"},
    )


def missing_scope(message: str) -> WireError:
    return WireError(403, message, code="missing_scope")


def model_not_found(name: str) -> WireError:
    return WireError(
        404,
        f"The model `{name[:200]}` does not exist or your team has no access to it. GET /v1/models lists yours.",
        code="model_not_found",
        param="model",
        next=Next.ANOTHER_TARGET,
    )


def not_licensed(refusal: Refusal) -> WireError:
    """Nothing was called. An alias goes on to its next target, which may be under another licence."""
    return WireError(
        403,
        refusal.text(settings.PUBLIC_URL),
        type="permission_error",
        code=refusal.code,
        param="model",
        headers={"x-should-retry": "false"},
        next=Next.ANOTHER_TARGET,
    )


def not_ready(message: str, *, retry_after_s: int = 5) -> WireError:
    headers = {"retry-after": str(retry_after_s), "x-should-retry": "true"}
    return WireError(
        503, message, type="server_error", code="deployment_not_ready", headers=headers, next=Next.ANOTHER_TARGET
    )


def store_down() -> WireError:
    headers = {"retry-after": "2", "x-should-retry": "true"}
    text = "The portal's database can't be reached, so the call was not made and nothing is billed. Try again soon."
    return WireError(503, text, type="server_error", code="store_unavailable", headers=headers)


def unsettled() -> WireError:
    """The answer was made, but its bill could not be written yet: it will be, so trying again would cost twice."""
    text = "The answer was made, but the portal's database can't be reached to bill it now; it is billed later."
    return WireError(503, text, type="server_error", code="store_unavailable", headers={"x-should-retry": "false"})


def budget_spent(message: str) -> WireError:
    headers = {"x-should-retry": "false"}
    return WireError(429, message, type="insufficient_quota", code="insufficient_quota", headers=headers)


def rate_limited(message: str, *, retry_after_s: float, headers: dict[str, str]) -> WireError:
    wait = {
        "retry-after": str(max(1, round(retry_after_s + 0.5))),
        "retry-after-ms": str(int(retry_after_s * 1000) + 1),
    }
    return WireError(429, message, type="rate_limit_error", code="rate_limit_exceeded", headers=headers | wait)


def upstream_failed(
    message: str, *, status: int = 502, headers: dict[str, str] | None = None, after: Next = Next.THE_SAME_AGAIN
) -> WireError:
    kind, code = ("rate_limit_error", "rate_limit_exceeded") if status == 429 else ("server_error", "upstream_error")
    return WireError(status, message, type=kind, code=code, headers=headers or {}, next=after)
