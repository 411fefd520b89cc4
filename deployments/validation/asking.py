"""Asking a model: an engine at its own address, or anything a team can call through the portal's own endpoint.

What goes through the endpoint is billed, logged and limited like any call. Each call has an Idempotency-Key: a run
that is done twice is answered, and billed, once.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import Any

import httpx
from django.conf import settings

from deployments.validation.models import Ended
from deployments.validation.work import Broken

CALL_S = 60.0
LONGEST_PAUSE_S, TRIES = 10.0, 4
LONGEST_ANSWER = 200_000
AGAIN = frozenset({429, 502, 503, 504})
# Told to come back for it, as often as there is time: a limit, or the same call that is still in flight.
PATIENTLY = frozenset({409, 429})
# Nobody was asked: that says nothing about an answer.
NOT_ASKED = frozenset({0, 409, 429, 503})
# This is about the caller, not about the call: the next one would end in the same way.
SPENT = "insufficient_quota"


@dataclass(frozen=True, slots=True)
class Said:
    """What came back: `told` is the body of an answer; else `problem` says what came instead, with `code`."""

    told: dict[str, Any] | None = None
    problem: str = ""
    code: str = ""
    status: int = 200
    cost: Decimal = Decimal(0)


@dataclass(frozen=True, slots=True)
class Door:
    """Where to ask, and with which key. `hold_s` 0: nothing is woken by it."""

    url: str
    key: str = field(repr=False)
    is_gateway: bool = True
    hold_s: int | None = None

    def ask(self, path: str, body: dict[str, Any], *, once: str, until: float, alive: Callable[[], None]) -> Said:
        """POST it, and again after a pause where that may help, until `until` (monotonic). `alive` is called before
        each try. Raises Broken where no other call would be answered either."""
        said, failures = Said(problem="There was no time left to ask.", status=0), 0
        while (left := until - time.monotonic()) > 0 and failures < TRIES:
            alive()
            said, pause_s = self._once(path, body, once=once, within_s=min(CALL_S, left))
            if pause_s is None:
                break
            failures += said.status not in PATIENTLY
            time.sleep(max(0.0, min(pause_s, LONGEST_PAUSE_S, until - time.monotonic())))
        if said.code == SPENT:
            raise Broken(Ended.BUDGET_SPENT, said.problem)
        if said.code == "invalid_api_key" and self.is_gateway:
            raise Broken(Ended.CALLED_OFF, "Its key was revoked.")
        return said

    def _once(self, path: str, body: dict[str, Any], *, once: str, within_s: float) -> tuple[Said, float | None]:
        """What came back, and after which pause it may be asked again; None: never."""
        headers = {"authorization": f"Bearer {self.key}"}
        if self.is_gateway:
            headers["idempotency-key"] = once
            if self.hold_s is not None:
                headers["x-modelport-hold-s"] = str(self.hold_s)
        try:
            answer = httpx.post(f"{self.url}/v1/{path}", json=body, headers=headers, timeout=within_s, trust_env=False)
        except httpx.ConnectError as error:
            if self.is_gateway:
                raise Broken(Ended.GATEWAY_AWAY, f"{self.url}: {error}") from error
            raise Broken(Ended.ENGINE_GONE, str(error)) from error
        except httpx.HTTPError as error:
            return Said(problem=f"It did not answer: {type(error).__name__} {error}".strip()), None
        return _read(answer), _pause(answer)


def text_of(told: dict[str, Any]) -> str | None:
    """The text of a chat/completions answer; None if it is none."""
    try:
        content = told["choices"][0]["message"].get("content")
    except (AttributeError, IndexError, KeyError, TypeError):
        return None
    return clean(content or "") if isinstance(content, str | None) else None


def clean(text: str) -> str:
    """As a database can keep it."""
    return text.encode("utf-8", "replace").decode().replace("\0", "\N{REPLACEMENT CHARACTER}")[:LONGEST_ANSWER]


def gateway(key: str, *, hold_s: int | None = None) -> Door:
    return Door(settings.GATEWAY_URL, key, hold_s=hold_s)


def _read(answer: httpx.Response) -> Said:
    try:
        told = answer.json()
    except ValueError:
        told = None
    if answer.status_code == httpx.codes.OK and isinstance(told, dict):
        return Said(told=told, cost=_cost(answer))
    error = told.get("error") if isinstance(told, dict) else None
    fields = error if isinstance(error, dict) else {}
    message = fields.get("message") or answer.text[:500] or "nothing"
    problem, code = clean(f"It answered with {answer.status_code}: {message}"), str(fields.get("code") or "")
    return Said(problem=problem, code=code, status=answer.status_code)


def _pause(answer: httpx.Response) -> float | None:
    should = answer.headers.get("x-should-retry", "")
    if should == "false" or (answer.status_code not in AGAIN and should != "true"):
        return None
    try:
        return max(0.1, float(answer.headers.get("retry-after", "0.5")))
    except ValueError:
        return None


def _cost(answer: httpx.Response) -> Decimal:
    try:
        cost = Decimal(answer.headers.get("x-modelport-cost", "0"))
    except InvalidOperation:
        return Decimal(0)
    return cost if cost.is_finite() else Decimal(0)
