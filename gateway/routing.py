"""Name -> targets. A hosted name leads to a provider or to the platform's own deployment, TEAM/NAME to the team's
deployment, TEAM/ALIAS to what the team put behind it. A sleeper is woken once, and waited for up to a bound."""

import asyncio
import functools
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from billing.errors import BudgetSpent
from billing.pricing import INCLUDED_TOKENS
from catalog import offers
from catalog.licensing import agreements
from catalog.offers import HostedRoute
from deployments import endpoints, operations
from deployments.endpoints import Address, Endpoint
from gateway import aliases
from gateway.aliases import Route
from gateway.auth import Caller
from gateway.errors import Next, WireError, budget_spent, model_not_found, not_licensed, not_ready
from gateway.stores import Stores

FRESH_S = 2.0
LOOK_AGAIN_S = 0.1
# Changes are told; what is not heard of is looked for as often as this.
UNTOLD_S = 1.0
READ_AGAIN = 3
READY, ASLEEP, FAILED = "ready", "asleep", "failed"
ON_ITS_WAY = frozenset({"pending", "downloading", "starting", "waking", "updating", ASLEEP})
# READY without a replica lasts as long as it takes to say that another is started.
HELD_FOR = ON_ITS_WAY | {READY}


@dataclass(frozen=True, slots=True)
class Target:
    """Where one call goes, and under which sku its tokens are priced. `wire` names its adapter."""

    path: str
    wire: str
    model: str
    model_name: str
    sku: str
    base_url: str
    api_key: str = field(repr=False)
    upstream_model: str
    where: str
    deployment_name: str = ""
    deployment_id: UUID | None = None
    replica: str = ""
    context_tokens: int | None = None
    reads_media: bool = True


@dataclass(frozen=True, slots=True)
class Table:
    """Everything that can be called, as of `read_at` (monotonic seconds)."""

    read_at: float
    hosted: dict[str, HostedRoute]
    endpoints: dict[str, Endpoint]
    aliases: dict[str, Route]


@dataclass(slots=True)
class Wait:
    """What a held call waits for; `phase` is empty until it has to wait."""

    hold_s: float | None = None
    phase: str = ""
    expected_s: float | None = None
    where: str = ""
    deployment_id: UUID | None = None


class Router:
    """One per event loop. What it remembers is a few seconds old at most, and can be lost."""

    def __init__(self, stores: Stores, *, hold_s: float) -> None:
        self._stores = stores
        self._hold_s = hold_s
        self._table: Table | None = None
        self._reading = asyncio.Lock()
        self._waking: dict[UUID, asyncio.Task[object]] = {}
        self._changed = asyncio.Event()
        self.hears = False
        self.outstanding: dict[str, int] = {}
        self.waiting: Counter[UUID] = Counter()

    async def route(self, caller: Caller, name: str) -> Route:
        """The targets to try, in order: one for a plain name, several for an alias."""
        table = await self.table(max_age_s=FRESH_S)
        found = table.aliases.get(name)
        if found is None and _named(table, caller, name) is None:
            table = await self.table(max_age_s=LOOK_AGAIN_S)
            found = table.aliases.get(name)
        if found is None or found.team_id != caller.team_id:
            return Route.of(name)
        return found

    async def find(self, caller: Caller, name: str, wait: Wait | None = None, *, via: str = "") -> Target:
        """The target, once it can answer: a call for what is starting or asleep is held up to a bound. What the team's
        licence policy does not let it use, for what it or the alias (`via`) is used for, is refused before all."""
        wait, licensed = wait or Wait(), False
        began, end = time.monotonic(), None
        max_age_s = FRESH_S
        while True:
            changed = self._changed  # before the table is read: a change in between is not missed
            table = await self.table(max_age_s=max_age_s)
            licensed = licensed or await self._is_licensed(_named(table, caller, name), caller, name, via)
            found = self._resolve(table, caller, name)
            if isinstance(found, Target):
                return found
            if found is None:
                if max_age_s <= LOOK_AGAIN_S:
                    raise model_not_found(name)
            elif found.status not in HELD_FOR and max_age_s <= LOOK_AGAIN_S:
                wait.deployment_id = found.deployment_id
                raise _cannot_answer(found, name)
            else:
                end = end or began + self._bound(found, wait)
                if time.monotonic() >= end:
                    raise _too_late(found, name)
                _note(wait, found, caller)
                if found.status == ASLEEP:
                    await self._wake(found.deployment_id)
                await self._until(changed, end, found.deployment_id)
            max_age_s = LOOK_AGAIN_S

    async def _is_licensed(self, found: HostedRoute | Endpoint | None, caller: Caller, name: str, via: str) -> bool:
        """Raises where the team's policy refuses; False while there is nothing to ask about. What is known of the team
        may be some seconds old: before a refusal it is read anew, so that whoever has just agreed is let in."""
        if found is None or caller.policy.is_open(found.terms, caller.policy.use_of(via, name)):
            return found is not None
        policy = await self._stores.ask(functools.partial(agreements.policy_of, caller.team_id))
        use, brought_by = policy.use_of(via, name), found.brought_by if isinstance(found, Endpoint) else {}
        if refusal := policy.refusal(found.terms, use, model=found.model_slug, brought_by=brought_by):
            raise not_licensed(refusal)
        return True

    def look(self, caller: Caller, name: str, *, via: str = "") -> Target | None:
        """The target, if it is known to be ready just now and may be used; nothing is waited for."""
        table = self._table
        if table is None or time.monotonic() - table.read_at > FRESH_S:
            return None
        named = _named(table, caller, name)
        if named is not None and not caller.policy.is_open(named.terms, caller.policy.use_of(via, name)):
            return None
        found = self._resolve(table, caller, name)
        return found if isinstance(found, Target) else None

    async def models(self, caller: Caller) -> list[dict[str, Any]]:
        """What this caller can call now, both paths and the team's aliases, as OpenAI lists models."""
        table = await self.table(max_age_s=FRESH_S)
        hosted = [
            _listed(name, "hosted", owner=route.provider_name)
            for name, route in table.hosted.items()
            if route.callable_now
        ]
        own = [
            _listed(name, "serverless", owner=caller.team_slug, status=endpoint.status)
            for name, endpoint in table.endpoints.items()
            if endpoint.team_id == caller.team_id and endpoint.status in ON_ITS_WAY | {READY}
        ]
        named = [
            _listed(name, "alias", owner=caller.team_slug)
            for name, route in table.aliases.items()
            if route.team_id == caller.team_id
        ]
        return sorted(hosted, key=lambda model: str(model["id"])) + own + named

    async def table(self, *, max_age_s: float) -> Table:
        """Read at most once at a time, however many ask."""
        if (table := self._table) and time.monotonic() - table.read_at < max_age_s:
            return table
        async with self._reading:
            if (table := self._table) and time.monotonic() - table.read_at < max_age_s:
                return table
            for _ in range(READ_AGAIN):
                changed = self._changed
                table = await self._stores.ask(_read)
                if not changed.is_set():  # else something was told while it was read
                    break
            self._table = table
            assert table is not None  # noqa: S101 - it was just read
            return table

    def heard(self) -> None:
        """A deployment has changed: what is remembered is no longer true, and who waits looks again."""
        self._table = None
        self._changed.set()
        self._changed = asyncio.Event()

    def known(self) -> list[Endpoint]:
        """The deployments as calls are routed by just now, without looking again."""
        table = self._table
        if table is None or time.monotonic() - table.read_at > FRESH_S:
            return []
        return list(table.endpoints.values())

    async def _until(self, changed: asyncio.Event, end: float, deployment_id: UUID) -> None:
        """Held, until something has changed; where nothing is heard, for a moment. Never past `end`."""
        seconds = min(UNTOLD_S if self.hears else LOOK_AGAIN_S, max(end - time.monotonic(), 0.0))
        self.waiting[deployment_id] += 1
        try:
            async with asyncio.timeout(seconds):
                await changed.wait()
        except TimeoutError:
            pass
        finally:
            self.waiting[deployment_id] -= 1

    def _bound(self, endpoint: Endpoint, wait: Wait) -> float:
        longest = float(endpoint.hold_s if endpoint.hold_s is not None else self._hold_s)
        return longest if wait.hold_s is None else min(wait.hold_s, max(longest, self._hold_s))

    async def _wake(self, deployment_id: UUID) -> None:
        """Once for all callers of this process that wait; across processes it is safe to repeat."""
        task = self._waking.get(deployment_id)
        if task is None:
            task = asyncio.create_task(self._stores.ask(functools.partial(operations.wake, deployment_id)))
            self._waking[deployment_id] = task
            task.add_done_callback(lambda _: self._waking.pop(deployment_id, None))
        try:
            await asyncio.shield(task)
        except BudgetSpent as error:
            raise budget_spent(str(error)) from error

    def _resolve(self, table: Table, caller: Caller, name: str) -> Target | Endpoint | None:
        """A target that can answer, the endpoint that can't yet, or None."""
        found = _named(table, caller, name)
        if isinstance(found, HostedRoute):
            if not found.callable_now:
                raise WireError(
                    400, found.why_not, code="provider_key_missing", param="model", next=Next.ANOTHER_TARGET
                )
            if found.wire != "platform":
                return _provider(found)
            endpoint = table.endpoints.get(found.upstream_model)
            replica = self._least_busy(endpoint) if endpoint else None
            return _hosted_by_platform(found, endpoint, replica) if endpoint and replica else endpoint
        replica = self._least_busy(found) if found else None
        return _own(found, replica) if found and replica else found

    def _least_busy(self, endpoint: Endpoint) -> Address | None:
        if not endpoint.replicas:
            return None
        if len(endpoint.replicas) == 1:
            return endpoint.replicas[0]
        return min(endpoint.replicas, key=lambda replica: self.outstanding.get(replica.name, 0))


def _read() -> Table:
    read_at = time.monotonic()
    hosted = {route.model_slug: route for route in offers.hosted_routes()}
    own = {endpoint.endpoint_model: endpoint for endpoint in endpoints.live_endpoints()}
    return Table(read_at, hosted, own, aliases.routes())


def _named(table: Table, caller: Caller, name: str) -> HostedRoute | Endpoint | None:
    if route := table.hosted.get(name):
        return route
    endpoint = table.endpoints.get(name)
    return endpoint if endpoint is not None and endpoint.team_id == caller.team_id else None


def _provider(route: HostedRoute) -> Target:
    return Target(
        path="hosted",
        wire=route.wire,
        model=route.model_slug,
        model_name=route.model_name,
        sku=route.sku,
        base_url=route.base_url.rstrip("/"),
        api_key=route.api_key,
        upstream_model=route.upstream_model,
        where=route.provider_name,
        context_tokens=route.context_tokens,
    )


def _hosted_by_platform(route: HostedRoute, endpoint: Endpoint, replica: Address) -> Target:
    return Target(
        path="hosted",
        wire="platform",
        model=route.model_slug,
        model_name=route.model_name,
        sku=route.sku,
        base_url=f"{replica.url}/v1",
        api_key=replica.key,
        upstream_model=endpoint.endpoint_model,
        where=route.provider_name,
        deployment_id=endpoint.deployment_id,
        replica=replica.name,
        context_tokens=endpoint.context_tokens,
        reads_media=endpoint.reads_media,
    )


def _own(endpoint: Endpoint, replica: Address) -> Target:
    return Target(
        path="serverless",
        wire="platform",
        model=endpoint.endpoint_model,
        model_name=endpoint.model_name,
        sku=INCLUDED_TOKENS,
        base_url=f"{replica.url}/v1",
        api_key=replica.key,
        upstream_model=endpoint.endpoint_model,
        where=endpoint.endpoint_model,
        deployment_name=endpoint.name,
        deployment_id=endpoint.deployment_id,
        replica=replica.name,
        context_tokens=endpoint.context_tokens,
        reads_media=endpoint.reads_media,
    )


def _note(wait: Wait, endpoint: Endpoint, caller: Caller) -> None:
    wait.phase, wait.expected_s = endpoint.status, endpoint.expected_start_s
    wait.deployment_id = endpoint.deployment_id
    wait.where = endpoint.endpoint_model if endpoint.team_id == caller.team_id else "Modelport"


def _too_late(endpoint: Endpoint, name: str) -> WireError:
    left = max(2, round(endpoint.expected_start_s or 5))
    text = f"`{name}` is {endpoint.status}: {endpoint.reason or 'on its way'}. It did not become ready in time."
    error = not_ready(text, retry_after_s=left)
    error.headers["x-modelport-state"] = endpoint.status
    return error


def _cannot_answer(endpoint: Endpoint, name: str) -> WireError:
    if endpoint.status == FAILED:
        error = not_ready(f"`{name}` has failed: {endpoint.reason}. Its page shows the log.", retry_after_s=30)
        error.code = "deployment_failed"
        return error
    if endpoint.status == READY:
        return not_ready(f"`{name}` is just changing replicas.", retry_after_s=2)
    return model_not_found(name)


def _listed(name: str, path: str, *, owner: str, **more: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": owner, "path": path, **more}
