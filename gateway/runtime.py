"""What one process's gateway holds: the batcher, the caches, the pooled client. Nothing that matters is only here."""

import asyncio
import contextlib
import functools
import logging
import os
import socket
import time
from collections.abc import Coroutine
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from django.conf import settings

from billing import pricing
from billing.batching import Batcher, conninfo_from_settings
from billing.errors import DatabaseDown, NoPrice
from billing.posting import Settlement
from deployments import endpoints, loads, orphans
from deployments.hearing import Hearing
from gateway import idempotency, metrics, recorder
from gateway.auth import Doorkeeper
from gateway.breaker import Breaker
from gateway.errors import Next, WireError
from gateway.idempotency import Claim
from gateway.journal import Journal
from gateway.limits import Admission, Limiter
from gateway.recorder import Left, Recorder
from gateway.remembering import Remembered
from gateway.routing import Router, Target
from gateway.stores import Stores
from gateway.upstream import Upstream
from gateway.usage import Tally

log = logging.getLogger(__name__)

LEASE_S = 30
RENEW_S = 5.0
TOUCH_S = 1.0
REPORT_S = 5.0
PRICE_FRESH_S = 4.0
MOST_PRICES = 20_000


class Runtime:
    def __init__(self) -> None:
        self.stores = Stores()
        self.batcher = Batcher(conninfo_from_settings())
        self.doorkeeper = Doorkeeper(self.stores)
        self.router = Router(self.stores, hold_s=settings.GATEWAY_HOLD_S)
        self.hearing = Hearing(conninfo_from_settings(), self._on_news)
        self.reporter = f"{socket.gethostname()[:20]}-{os.getpid()}-{uuid4().hex[:8]}"
        self.upstream = Upstream()
        self.limiter = Limiter(settings.REDIS_URL)
        self.breaker = Breaker()
        self.journal = Journal()
        self.recorder = Recorder(Path(settings.GATEWAY_CALLS_DIR))
        self.in_flight: dict[UUID, Tally] = {}
        self.settling: set[asyncio.Task[object]] = set()
        self.shadows: set[asyncio.Task[object]] = set()
        self.pumps: set[asyncio.Task[object]] = set()
        self.claims: set[Claim] = set()
        self._duties: set[asyncio.Task[None]] = set()
        self.admissions: dict[str, Admission] = {}
        self._called: set[UUID] = set()
        self._busy: dict[UUID, UUID] = {}
        self._replicas: dict[UUID, str] = {}
        self._prices: Remembered[tuple[str, UUID], dict[str, Decimal]] = Remembered(
            fresh_s=PRICE_FRESH_S, most=MOST_PRICES
        )
        self._clock: asyncio.Task[None] | None = None
        self._reported: tuple[object, ...] = ()
        self._reported_at = 0.0

    async def start(self) -> None:
        await self.batcher.start()
        self.hearing.start()
        self._do(self._close_what_the_dead_left())
        self._clock = asyncio.create_task(self._tick())

    async def close(self) -> None:
        """Let calls in flight settle for a moment, then let go."""
        end = time.monotonic() + settings.GATEWAY_DRAIN_S
        while (self.in_flight or self.settling or self.pumps) and time.monotonic() < end:  # noqa: ASYNC110 - once, at the end
            await asyncio.sleep(0.05)
        if self._clock:
            self._clock.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._clock
        await self.hearing.stop()
        await asyncio.gather(*self._duties)
        await _carefully(self.stores.ask(lambda: loads.leave(self.reporter)))
        for task in self.shadows | self.pumps:
            task.cancel()
        await asyncio.gather(*self.shadows, *self.pumps, return_exceptions=True)
        await self.upstream.close()
        await self.batcher.close()
        self.recorder.close()
        await self.limiter.close()
        await self.journal.write(self.stores)
        self.stores.close()

    async def prices(self, sku: str, team_id: UUID) -> dict[str, Decimal]:
        """The team's prices in force, never older than PRICE_FRESH_S; none is an error before the call, never 0."""
        asked = functools.partial(pricing.prices_at, sku, team_id=team_id)
        try:
            return await self._prices.get((sku, team_id), lambda: self.stores.ask(asked))
        except NoPrice as error:
            raise WireError(
                503, str(error), type="server_error", code="price_unknown", next=Next.ANOTHER_TARGET
            ) from error

    def begin(self, call_id: UUID, tally: Tally, target: Target) -> None:
        """From now on the call's lease is renewed and its deployment's idle clock stands still."""
        self.in_flight[call_id] = tally
        metrics.IN_FLIGHT.inc()
        if target.replica:
            self.router.outstanding[target.replica] = self.router.outstanding.get(target.replica, 0) + 1
            self._replicas[call_id] = target.replica
        if target.deployment_id:
            self._busy[call_id] = target.deployment_id
            self._called.add(target.deployment_id)

    def end(self, call_id: UUID) -> None:
        if self.in_flight.pop(call_id, None) is None:
            return
        metrics.IN_FLIGHT.dec()
        if replica := self._replicas.pop(call_id, None):
            left = self.router.outstanding.pop(replica, 1) - 1
            if left > 0:
                self.router.outstanding[replica] = left
        if deployment_id := self._busy.pop(call_id, None):
            self._called.add(deployment_id)

    async def _tick(self) -> None:
        renewed = time.monotonic()
        while True:
            await asyncio.sleep(TOUCH_S)
            if time.monotonic() - renewed > RENEW_S:
                renewed = time.monotonic()
                await _carefully(self._renew_leases())
                self._do(self._renew_claims())
                self._do(self._count_orphans())
                self._do(self._close_what_the_dead_left())
            self.router.hears = self.hearing.hears
            self._do(self._touch())
            self._do(self._report())
            self._do(self.journal.write(self.stores))

    def _do(self, duty: Coroutine[Any, Any, None]) -> None:
        """Beside the others: none of them waits for a slow one."""
        task = asyncio.create_task(_carefully(duty))
        self._duties.add(task)
        task.add_done_callback(self._duties.discard)

    async def _renew_leases(self) -> None:
        """Whatever this process holds goes on being held: reservations and places under a limit."""
        self.limiter.renew(list(self.admissions.values()))
        if self.in_flight:
            await self.batcher.renew({key: t.estimate() for key, t in self.in_flight.items()}, LEASE_S)

    async def _close_what_the_dead_left(self) -> None:
        """Calls of a gateway that died on this machine: billed by what it had read, or released."""
        for remains in await asyncio.to_thread(lambda: list(recorder.remains(Path(settings.GATEWAY_CALLS_DIR)))):
            try:
                outcomes = await asyncio.gather(*map(self._close_left, remains.calls), return_exceptions=True)
                if not any(isinstance(outcome, DatabaseDown) for outcome in outcomes):
                    log.warning("closed %d calls that a gateway left: %s", len(outcomes), remains.path.name)
                    remains.forget()
            finally:
                remains.let_go()

    async def _close_left(self, call: Left) -> None:
        if not call.begun:
            await self.batcher.void(call.id)
            return
        settlement = Settlement(
            id=call.id,
            quantities=call.tally.quantities(),
            quality="measured" if call.measured else "estimated",
            raw_usage=call.tally.usage,
            ended_at=call.at,
        )
        await self.batcher.settle(settlement)

    async def _renew_claims(self) -> None:
        if claims := list(self.claims):
            await self.stores.ask(lambda: idempotency.renew(claims))

    async def _count_orphans(self) -> None:
        metrics.ORPHANS.set(await self.stores.ask(orphans.removed))

    async def _touch(self) -> None:
        called = self._called | set(self._busy.values())
        self._called = set()
        if called:
            await self.stores.ask(lambda: endpoints.touch(called))

    async def _on_news(self, _deployment_id: str) -> None:
        """A deployment has changed. Who waits for a replica's last call hears at once that none is sent there now."""
        self.router.hears = self.hearing.hears
        self.router.heard()
        self._do(self._report(tell=True))

    async def _report(self, *, tell: bool = False) -> None:
        """Say what is held here, if it is not what was said last; and now and then all the same, as a sign of life."""
        calls, waiting = dict(self.router.outstanding), {key: many for key, many in self.router.waiting.items() if many}
        known = self.router.known()
        routed = sorted(replica.name for endpoint in known for replica in endpoint.replicas)
        said = (calls, waiting, routed)
        if said == self._reported and time.monotonic() - self._reported_at < REPORT_S:
            return
        self._reported, self._reported_at = said, time.monotonic()
        crowded = [endpoint.deployment_id for endpoint in known if endpoint.is_crowded(calls, waiting)]
        await self.stores.ask(
            lambda: endpoints.report(
                self.reporter, calls=calls, waiting=waiting, routed=routed, tell=tell, crowded=crowded
            )
        )


async def _carefully(duty: Coroutine[Any, Any, None]) -> None:
    try:
        await duty
    except Exception as error:
        log.warning("gateway clock: %s", error)


_runtimes: dict[asyncio.AbstractEventLoop, Runtime] = {}
_starting: dict[asyncio.AbstractEventLoop, asyncio.Lock] = {}


async def runtime_for_this_loop() -> Runtime:
    """The event loop's one runtime, started on first use; the site's playground and the gateway share it."""
    loop = asyncio.get_running_loop()
    if runtime := _runtimes.get(loop):
        return runtime
    async with _starting.setdefault(loop, asyncio.Lock()):
        if loop not in _runtimes:
            runtime = Runtime()
            await runtime.start()
            _runtimes[loop] = runtime
        return _runtimes[loop]


async def close_for_this_loop() -> None:
    loop = asyncio.get_running_loop()
    _starting.pop(loop, None)
    if runtime := _runtimes.pop(loop, None):
        await runtime.close()
