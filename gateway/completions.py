"""The use case: let in, find a target, try, answer. The API and the playground both call it; gateway.attempt does the
one call to one target, and its bill."""

import asyncio
import contextlib
import logging
import random
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from decimal import Decimal
from typing import Any
from uuid import uuid4

from billing import rating
from billing.errors import DatabaseDown
from gateway import attempt, metrics
from gateway.aliases import Route
from gateway.attempt import Answer, Asking
from gateway.auth import Caller
from gateway.breaker import Breaker
from gateway.contents import Content
from gateway.errors import Next, WireError, store_down, upstream_failed
from gateway.journal import Entry
from gateway.protocols.asked import understood
from gateway.routing import Target, Wait
from gateway.runtime import Runtime
from gateway.surfaces import SURFACES, Surface

log = logging.getLogger(__name__)

ATTEMPTS = 3
FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 2.0
# A streaming caller whose target wakes hears a comment after this long, then each second.
COMMENT_AFTER_S = 1.0
MOST_SHADOWS = 64
SECONDS = re.compile(r"[0-9]{1,6}(\.[0-9]{1,6})?")
PER_MILLION = 1_000_000


async def chat(runtime: Runtime, caller: Caller, body: dict[str, Any], request_id: str) -> Answer:
    """A chat/completions body, answered."""
    return await answer(runtime, caller, SURFACES["chat"], body, request_id)


async def answer(
    runtime: Runtime,
    caller: Caller,
    surface: Surface,
    body: dict[str, Any],
    request_id: str,
    *,
    hold_s: float | None = None,
    traceparent: str = "",
    tag: str = "",
    betas: str = "",
    keep: Callable[[bytes, dict[str, str]], Awaitable[None]] | None = None,
) -> Answer:
    """Answer a body, or raise WireError. Nothing is billed for a call that fails before its first byte; a delivered
    one is billed once, durably, before its last byte goes out. `keep` is given the whole answer before the bill."""
    with understood():
        asked = surface.check(body)
    entry = Entry(caller.team_id, request_id, caller.api_key_name, surface.name, asked.model, asked.stream)
    entry.traceparent = traceparent
    if caller.keeps_prompts:
        entry.content = Content.of(body)
    asking = Asking(runtime, caller, surface, body, asked, request_id, entry, wait=Wait(hold_s), keep=keep, tag=tag)
    asking.betas = betas
    try:
        tokens = asked.prompt_tokens + (asked.max_tokens or 0)
        asking.admission = await runtime.limiter.admit(caller.rules, tokens, uuid4().hex)
        if asking.admission.counted:
            runtime.admissions[asking.admission.id] = asking.admission
        asking.answer.headers |= asking.admission.headers
        route = await runtime.router.route(caller, asked.model)
        asking.alias = route.alias
        if not asked.stream or (not route.alias and runtime.router.look(caller, asked.model)):
            await _try_all(asking, route)
            return asking.answer
        return await _streamed(asking, route)
    except WireError as error:
        attempt.close(asking, error.status, error.code or "")
        raise
    except DatabaseDown as error:
        attempt.close(asking, 503, "store_unavailable")
        raise store_down() from error
    except Exception:
        attempt.close(asking, 500, "internal_error")
        raise
    except BaseException:
        attempt.close(asking, 499, "client_gone")
        raise


async def _streamed(asking: Asking, route: Route) -> Answer:
    """A stream whose target may have to wake. Its headers name the target, so what may spill is waited for."""
    first = asyncio.create_task(_try_all(asking, route))
    try:
        while True:
            done, _ = await asyncio.wait({first}, timeout=COMMENT_AFTER_S)
            if done:
                first.result()
                return asking.answer
            if asking.wait.phase and len(route.order()) == 1:
                break
    except BaseException:
        first.cancel()
        raise
    path = "serverless" if asking.wait.where == asking.asked.model or route.alias else "hosted"
    asking.answer.headers |= {"x-modelport-path": path, "x-modelport-target": asking.wait.where}
    asking.answer.stream = _comments(asking, first)
    return asking.answer


async def _comments(asking: Asking, first: "asyncio.Task[None]") -> AsyncIterator[bytes]:
    """SSE comments until the target answers; from then on its own events, or the error that ended the wait."""
    began = time.monotonic()
    try:
        while not first.done():
            yield _comment(asking.wait, time.monotonic() - began + COMMENT_AFTER_S)
            await asyncio.wait({first}, timeout=COMMENT_AFTER_S)
        first.result()
    except WireError as error:
        attempt.close(asking, error.status, error.code or "")
        yield attempt.sink(asking, asking.asked.model).failure(error)
        return
    except DatabaseDown:
        attempt.close(asking, 503, "store_unavailable")
        yield attempt.sink(asking, asking.asked.model).failure(store_down())
        return
    except BaseException:
        first.cancel()
        with contextlib.suppress(asyncio.CancelledError, Exception):
            await first
        if asking.inner is not None:
            await asking.inner.aclose()  # type: ignore[attr-defined]
        attempt.close(asking, 499, "client_gone")
        raise
    inner = asking.inner
    assert inner is not None  # noqa: S101 - a stream was asked for
    async with contextlib.aclosing(inner) as events:  # type: ignore[type-var]
        async for event in events:
            yield event


def _comment(wait: Wait, waited_s: float) -> bytes:
    expected = f" expected_s={wait.expected_s:.0f}" if wait.expected_s else ""
    return f": modelport phase={wait.phase or 'starting'} waited_s={waited_s:.0f}{expected}\n\n".encode()


async def _try_all(asking: Asking, route: Route) -> None:
    """One target after the other, until one answers. The last failure is the client's."""
    order = route.order()
    failure: WireError | None = None
    for place, name in enumerate(order):
        is_last = place == len(order) - 1
        try:
            target = await _ready(asking, route, name, is_last=is_last)
            if place and asking.slept and not await _within_cap(asking, route, target):
                continue
            await _try_one(asking, target)
        except WireError as error:
            failure = error
            asking.slept = asking.slept or error.code == "deployment_not_ready"
            if error.next is Next.NOTHING or is_last or (error.code == "deployment_not_ready" and not route.spills):
                break
            continue
        for shadow in route.shadowed():
            _send_shadow(asking, shadow)
        return
    raise failure or upstream_failed("No target of this alias could be tried.", status=503)


async def _ready(asking: Asking, route: Route, name: str, *, is_last: bool) -> Target:
    """The target once it is awake. An alias may say how long that may take, the client may ask for less or more."""
    if found := asking.runtime.router.look(asking.caller, name, via=route.alias):
        return found
    wait = asking.wait
    if wait.hold_s is None and route.hold_s is not None and not is_last:
        wait = Wait(route.hold_s)
    elif wait.hold_s is None and route.hold_s is not None:
        wait.hold_s = route.hold_s
    metrics.HELD.inc()
    try:
        return await asking.runtime.router.find(asking.caller, name, wait, via=route.alias)
    finally:
        metrics.HELD.dec()


async def _within_cap(asking: Asking, route: Route, target: Target) -> bool:
    if route.spill_cap_usd is None:
        return True
    prices = await asking.runtime.prices(target.sku, asking.caller.team_id)
    dearest = max((price for meter, price in prices.items() if meter != rating.DISCOUNT), default=Decimal(0))
    return dearest * PER_MILLION <= route.spill_cap_usd


async def _try_one(asking: Asking, target: Target) -> None:
    """Up to ATTEMPTS calls to one target, with a growing pause that honours retry-after. Each is reserved anew."""
    breaker, name = asking.runtime.breaker, f"{target.base_url} {target.upstream_model}"
    own = f"{name} {asking.caller.team_id}"
    for number in range(ATTEMPTS):
        if shut := next((one for one in (name, own) if not breaker.allows(one)), None):
            breaker.undecided(name)
            wait = {"retry-after": str(breaker.retry_after_s(shut))}
            text = f"{target.where} failed several times in a row and is left alone for a moment."
            raise upstream_failed(text, status=503, headers=wait, after=Next.ANOTHER_TARGET)
        asking.entry.attempts += 1
        try:
            await attempt.run(asking, target)
        except WireError as error:
            metrics.child(metrics.ATTEMPTS, str(error.status)).inc()
            pause = _pause(error, number)
            if error.next is not Next.THE_SAME_AGAIN or number == ATTEMPTS - 1 or pause > LONGEST_PAUSE_S:
                _tell_breaker(breaker, name, own, target, error)
                raise
            breaker.undecided(name, own)
            await asyncio.sleep(pause)
            target = asking.runtime.router.look(asking.caller, target.model, via=asking.alias) or target
        except BaseException:
            breaker.undecided(name, own)
            raise
        else:
            breaker.succeeded(name, own)
            metrics.child(metrics.ATTEMPTS, "ok").inc()
            return


def _tell_breaker(breaker: Breaker, name: str, own: str, target: Target, error: WireError) -> None:
    """One request counts once, however often it was tried. A 500 may be the doing of its caller's body, and one team
    must not close a target for all: a provider's counts for that team, an engine's own for nobody."""
    if error.upstream_status == 500 and not target.deployment_id and error.next is not Next.NOTHING:
        breaker.undecided(name)
        breaker.failed(own)
        return
    breaker.undecided(own)
    if error.next is Next.NOTHING or error.status == 429 or error.upstream_status == 500:
        breaker.undecided(name)
    else:
        breaker.failed(name)


def _pause(error: WireError, number: int) -> float:
    """Seconds to the next attempt: what the target asked for, else doubling with jitter."""
    asked = error.headers.get("retry-after", "")
    if SECONDS.fullmatch(asked):
        return float(asked)
    if asked:
        return LONGEST_PAUSE_S + 1  # a date: longer than we would wait
    return FIRST_PAUSE_S * float(2**number) * random.uniform(0.5, 1.5)  # noqa: S311 - jitter


def _send_shadow(asking: Asking, name: str) -> None:
    """A copy whose answer goes nowhere. It has a reservation and a line on the bill of its own."""
    runtime = asking.runtime
    if len(runtime.shadows) >= MOST_SHADOWS:
        return
    task = asyncio.create_task(_shadow(asking, name))
    runtime.shadows.add(task)
    task.add_done_callback(runtime.shadows.discard)


async def _shadow(asking: Asking, name: str) -> None:
    body = {key: value for key, value in asking.body.items() if key not in {"stream", "stream_options"}}
    asked = asking.surface.check(body)
    entry = Entry(asking.caller.team_id, asking.request_id, asking.caller.api_key_name, "shadow", name, False)
    copy = Asking(asking.runtime, asking.caller, asking.surface, body, asked, asking.request_id, entry)
    copy.shadow_of, copy.alias, copy.tag, copy.betas = asking.asked.model, asking.alias, asking.tag, asking.betas
    try:
        target = await asking.runtime.router.find(asking.caller, name, Wait(0), via=asking.alias)
        await attempt.run(copy, target)
    except WireError as error:
        attempt.close(copy, error.status, error.code or "")
    except Exception as error:
        log.info("a shadow of %s failed: %s", asking.asked.model, error)
        attempt.close(copy, 500, "shadow_failed")
