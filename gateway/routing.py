"""Name -> target. A hosted name leads to a provider or the platform's own deployment, TEAM/NAME to the team's own."""

import asyncio
import functools
import time
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from billing.pricing import INCLUDED_TOKENS
from catalog import offers
from catalog.offers import HostedRoute
from deployments import endpoints, operations
from deployments.endpoints import Endpoint
from gateway.auth import Caller
from gateway.errors import WireError, bad_request, model_not_found, not_ready
from gateway.stores import Stores

FRESH_S = 2.0
LOOK_AGAIN_S = 0.2
READY, ASLEEP, FAILED = "ready", "asleep", "failed"
ON_ITS_WAY = frozenset({"pending", "downloading", "starting", "waking", "updating", ASLEEP})


@dataclass(frozen=True, slots=True)
class Target:
    """Where one call goes, and under which sku its tokens are priced."""

    path: str
    model: str
    model_name: str
    sku: str
    base_url: str
    api_key: str = field(repr=False)
    upstream_model: str
    where: str
    deployment_name: str = ""
    deployment_id: UUID | None = None
    context_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Table:
    """Everything that can be called, as of `read_at` (monotonic seconds)."""

    read_at: float
    hosted: dict[str, HostedRoute]
    endpoints: dict[str, Endpoint]


class Router:
    def __init__(self, stores: Stores, *, hold_s: float) -> None:
        self._stores = stores
        self._hold_s = hold_s
        self._table: Table | None = None
        self._reading = asyncio.Lock()

    async def find(self, caller: Caller, name: str) -> Target:
        """The target, once it can answer: a call for what is starting or asleep is held up to a bound."""
        end = time.monotonic() + self._hold_s
        max_age_s, woken = FRESH_S, False
        while True:
            found = _resolve(await self.table(max_age_s=max_age_s), caller, name)
            if isinstance(found, Target):
                return found
            if found is None:
                if max_age_s <= LOOK_AGAIN_S:
                    raise model_not_found(name)
            elif found.status not in ON_ITS_WAY and max_age_s <= LOOK_AGAIN_S:
                raise _cannot_answer(found, name)
            elif time.monotonic() > end:
                raise not_ready(f"`{name}` is {found.status}: {found.reason}. It did not become ready in time.")
            elif found.status == ASLEEP and not woken:
                woken = True
                await self._stores.ask(functools.partial(operations.wake, found.deployment_id))
            if max_age_s <= LOOK_AGAIN_S:
                await asyncio.sleep(LOOK_AGAIN_S)
            max_age_s = LOOK_AGAIN_S

    async def models(self, caller: Caller) -> list[dict[str, Any]]:
        """What this caller can call now, both paths, as OpenAI lists models."""
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
        return sorted(hosted, key=lambda model: str(model["id"])) + own

    async def table(self, *, max_age_s: float) -> Table:
        """Read at most once at a time, however many ask."""
        if (table := self._table) and time.monotonic() - table.read_at < max_age_s:
            return table
        async with self._reading:
            if (table := self._table) and time.monotonic() - table.read_at < max_age_s:
                return table
            self._table = await self._stores.ask(_read)
            return self._table


def _read() -> Table:
    read_at = time.monotonic()
    hosted = {route.model_slug: route for route in offers.hosted_routes()}
    own = {endpoint.endpoint_model: endpoint for endpoint in endpoints.live_endpoints()}
    return Table(read_at, hosted, own)


def _resolve(table: Table, caller: Caller, name: str) -> Target | Endpoint | None:
    """A target that can answer, the endpoint that can't yet, or None."""
    if route := table.hosted.get(name):
        if not route.callable_now:
            raise bad_request(route.why_not, param="model", code="provider_key_missing")
        if route.wire != "platform":
            return _provider(route)
        endpoint = table.endpoints.get(route.upstream_model)
        return _hosted_by_platform(route, endpoint) if endpoint else None
    endpoint = table.endpoints.get(name)
    if endpoint is None or endpoint.team_id != caller.team_id:
        return None
    return _own(endpoint) if endpoint.status == READY and endpoint.address else endpoint


def _provider(route: HostedRoute) -> Target:
    return Target(
        path="hosted",
        model=route.model_slug,
        model_name=route.model_name,
        sku=route.sku,
        base_url=route.base_url.rstrip("/"),
        api_key=route.api_key,
        upstream_model=route.upstream_model,
        where=route.provider_name,
        context_tokens=route.context_tokens,
    )


def _hosted_by_platform(route: HostedRoute, endpoint: Endpoint) -> Target | Endpoint:
    if endpoint.status != READY or not endpoint.address:
        return endpoint
    return Target(
        path="hosted",
        model=route.model_slug,
        model_name=route.model_name,
        sku=route.sku,
        base_url=f"{endpoint.address}/v1",
        api_key=endpoint.key,
        upstream_model=endpoint.endpoint_model,
        where=route.provider_name,
        deployment_id=endpoint.deployment_id,
        context_tokens=endpoint.context_tokens,
    )


def _own(endpoint: Endpoint) -> Target:
    return Target(
        path="serverless",
        model=endpoint.endpoint_model,
        model_name=endpoint.model_name,
        sku=INCLUDED_TOKENS,
        base_url=f"{endpoint.address}/v1",
        api_key=endpoint.key,
        upstream_model=endpoint.endpoint_model,
        where=endpoint.endpoint_model,
        deployment_name=endpoint.name,
        deployment_id=endpoint.deployment_id,
        context_tokens=endpoint.context_tokens,
    )


def _cannot_answer(endpoint: Endpoint, name: str) -> WireError:
    if endpoint.status == FAILED:
        return not_ready(f"`{name}` has failed: {endpoint.reason}. Its page shows the log.", retry_after_s=30)
    if endpoint.status == READY:
        return not_ready(f"`{name}` is just changing replicas.", retry_after_s=2)
    return model_not_found(name)


def _listed(name: str, path: str, *, owner: str, **more: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": owner, "path": path, **more}
