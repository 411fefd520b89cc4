"""Requests and tokens per minute, and calls at a time, per key and per team, counted in Redis for all processes.

Buckets refill steadily: a limit of 60 a minute lets 60 through at once and then one a second. Tokens are taken by
estimate when a call begins and put right when it ends. Many callers share one round trip, and under load each waits a
moment for company, as in billing.batching.

If Redis is away, calls are let through: rates are a courtesy between callers, money is guarded by the budget, which
PostgreSQL keeps. The answers then carry no x-ratelimit headers, and /metrics counts them.
"""

import asyncio
import logging
import math
import time
from dataclasses import dataclass, field
from typing import Any

import orjson
import redis.asyncio
from redis.exceptions import RedisError

from gateway import metrics
from gateway.errors import WireError, rate_limited

log = logging.getLogger(__name__)

CALL_LEASE_S = 90
TIMEOUT_S = 0.5
LEAVE_ALONE_S = 1.0
BATCH = 200
MANY, GATHER_S = 8, 0.002
REQUESTS, TOKENS, CALLS = "requests", "tokens", "concurrent calls"

SCRIPT = """
local t = redis.call('TIME')
local now = tonumber(t[1]) + tonumber(t[2]) / 1000000
local function level(key, limit)
  local v = redis.call('HMGET', key, 'l', 't')
  if not v[1] then return limit end
  return math.min(limit, tonumber(v[1]) + math.max(0, now - tonumber(v[2])) * limit / 60)
end
local function put(key, value)
  redis.call('HSET', key, 'l', string.format('%.6f', value), 't', string.format('%.6f', now))
  redis.call('EXPIRE', key, 180)
end
local out = {}
for i, item in ipairs(cjson.decode(ARGV[1])) do
  local answer = {ok = true, left = {}}
  if item.kind == 'admit' then
    local levels = {}
    for j, rate in ipairs(item.rates) do
      levels[j] = level(rate[1], rate[2])
      if levels[j] < rate[3] then
        local wait = (rate[3] - levels[j]) * 60 / rate[2]
        if answer.ok or wait > answer.wait then answer.ok = false; answer.wait = wait; answer.which = j end
      end
    end
    for j, cap in ipairs(item.caps) do
      redis.call('ZREMRANGEBYSCORE', cap[1], '-inf', now)
      if redis.call('ZCARD', cap[1]) >= cap[2] and answer.ok then
        answer.ok = false; answer.wait = 1; answer.which = #item.rates + j
      end
    end
    for j, rate in ipairs(item.rates) do
      local left = levels[j]
      if answer.ok then left = left - rate[3]; put(rate[1], left) end
      answer.left[j] = string.format('%.3f', left)
    end
    if answer.ok then
      for j, cap in ipairs(item.caps) do
        redis.call('ZADD', cap[1], now + item.lease, item.id); redis.call('EXPIRE', cap[1], 600)
      end
    end
  else
    for j, rate in ipairs(item.rates) do put(rate[1], level(rate[1], rate[2]) - rate[3]) end
    for j, cap in ipairs(item.caps) do
      if item.kind == 'end' then redis.call('ZREM', cap[1], item.id)
      else redis.call('ZADD', cap[1], 'XX', now + item.lease, item.id); redis.call('EXPIRE', cap[1], 600) end
    end
  end
  out[i] = answer
end
return cjson.encode(out)
"""


@dataclass(frozen=True, slots=True)
class Rule:
    """What one scope (`team` or `key`) may do; None: no limit of this kind. `key` begins its names in Redis."""

    scope: str
    key: str
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    concurrency: int | None = None


@dataclass(slots=True)
class Admission:
    """A call that was let in: what it took, to be put right at its end, and the headers that say what is left."""

    id: str
    rules: tuple[Rule, ...]
    tokens: int
    headers: dict[str, str] = field(default_factory=dict)
    counted: bool = False


class Limiter:
    """One per event loop."""

    def __init__(self, url: str, *, prefix: str = "") -> None:
        self._redis: Any = redis.asyncio.Redis.from_url(
            url, socket_timeout=TIMEOUT_S, socket_connect_timeout=TIMEOUT_S, retry=None
        )
        self._script = self._redis.register_script(SCRIPT)
        self._prefix = f"{prefix}mp:limit:"
        self._waiting: list[tuple[dict[str, Any], asyncio.Future[dict[str, Any] | None] | None]] = []
        self._runner: asyncio.Task[None] | None = None
        self._away_until = 0.0
        self._under_load = False

    async def close(self) -> None:
        if self._runner:
            await asyncio.wait({self._runner}, timeout=TIMEOUT_S)
        await self._redis.aclose()

    async def admit(self, rules: tuple[Rule, ...], tokens: int, call_id: str) -> Admission:
        """Let a call in, or raise 429 with the time to wait."""
        admission = Admission(call_id, rules, tokens)
        if not rules:
            return admission
        rates, names = self._rates(rules, tokens)
        caps = self._caps(rules)
        names += [(rule.scope, CALLS, rule.concurrency or 0) for rule in rules if rule.concurrency]
        item = {"kind": "admit", "id": call_id, "rates": rates, "caps": caps, "lease": CALL_LEASE_S}
        try:
            answer = await self._ask(item)
        except asyncio.CancelledError:
            admission.counted = True
            self.end(admission, None)
            raise
        if answer is None:
            metrics.LIMITS_AWAY.inc()
            return admission
        admission.counted = True
        admission.headers = _headers(names, answer["left"])
        if not answer["ok"]:
            raise _refused(names[int(answer["which"]) - 1], float(answer["wait"]), admission.headers)
        return admission

    def end(self, admission: Admission, tokens: int | None) -> None:
        """The call is over and used so many tokens (None: it failed and used none). Nobody waits for this."""
        if not admission.counted:
            return
        caps = self._caps(admission.rules)
        rates = []
        for rule in admission.rules:
            if limit := rule.tokens_per_minute:
                more = (tokens or 0) - min(admission.tokens, limit)  # beyond what was taken at the door
                rates.append([f"{self._prefix}{rule.key}:t", limit, more])
        rates = [rate for rate in rates if rate[2]]
        if rates or caps:
            self._tell({"kind": "end", "id": admission.id, "rates": rates, "caps": caps})

    def renew(self, admissions: list[Admission]) -> None:
        """These calls go on: their places stay taken."""
        for admission in admissions:
            if admission.counted and (caps := self._caps(admission.rules)):
                self._tell({"kind": "renew", "id": admission.id, "rates": [], "caps": caps, "lease": CALL_LEASE_S})

    def _rates(self, rules: tuple[Rule, ...], tokens: int) -> tuple[list[list[Any]], list[tuple[str, str, int]]]:
        """([name in Redis, limit a minute, what this call takes] ..., the same for people)."""
        rates: list[list[Any]] = []
        names = []
        for rule in rules:
            if limit := rule.requests_per_minute:
                rates.append([f"{self._prefix}{rule.key}:r", limit, 1])
                names.append((rule.scope, REQUESTS, limit))
            if limit := rule.tokens_per_minute:
                # A call that is larger than the whole bucket goes when the bucket is full, and leaves a debt.
                rates.append([f"{self._prefix}{rule.key}:t", limit, min(tokens, limit)])
                names.append((rule.scope, TOKENS, limit))
        return rates, names

    def _caps(self, rules: tuple[Rule, ...]) -> list[list[Any]]:
        return [[f"{self._prefix}{rule.key}:c", rule.concurrency] for rule in rules if rule.concurrency]

    async def _ask(self, item: dict[str, Any]) -> dict[str, Any] | None:
        """Redis' answer, or None while it is away."""
        if time.monotonic() < self._away_until:
            return None
        future: asyncio.Future[dict[str, Any] | None] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        self._run_soon()
        return await future

    def _tell(self, item: dict[str, Any]) -> None:
        self._waiting.append((item, None))
        self._run_soon()

    def _run_soon(self) -> None:
        if self._runner is None or self._runner.done():
            self._runner = asyncio.create_task(self._run())

    async def _run(self) -> None:
        while self._waiting:
            if self._under_load and len(self._waiting) < BATCH:
                await asyncio.sleep(GATHER_S)
            batch, self._waiting = self._waiting[:BATCH], self._waiting[BATCH:]
            self._under_load = len(batch) >= MANY
            answers: list[dict[str, Any] | None] = [None] * len(batch)
            try:
                answers = orjson.loads(await self._script(args=[orjson.dumps([item for item, _ in batch])]))
            except (RedisError, OSError, TimeoutError, asyncio.CancelledError) as error:
                self._away_until = time.monotonic() + LEAVE_ALONE_S
                log.warning("rate limits are not enforced just now, Redis does not answer: %s", error)
            for (_, future), answer in zip(batch, answers, strict=True):
                if future is not None and not future.done():
                    future.set_result(answer)


def _headers(names: list[tuple[str, str, int]], left: list[str]) -> dict[str, str]:
    """x-ratelimit-*, of the scope that leaves least, as OpenAI names them."""
    headers: dict[str, str] = {}
    least: dict[str, float] = {}
    for (_, kind, limit), text in zip(names, left, strict=False):
        remaining = float(text)
        if kind in least and least[kind] <= remaining:
            continue
        least[kind] = remaining
        reset_s = max(0.0, (limit - remaining) * 60 / limit)
        headers[f"x-ratelimit-limit-{kind}"] = str(limit)
        headers[f"x-ratelimit-remaining-{kind}"] = str(max(0, math.floor(remaining)))
        headers[f"x-ratelimit-reset-{kind}"] = f"{reset_s:.3f}s"
    return headers


def _refused(limit: tuple[str, str, int], wait_s: float, headers: dict[str, str]) -> WireError:
    scope, kind, most = limit
    whose = "this key" if scope == "key" else "your team"
    per = "at a time" if kind == CALLS else "a minute"
    metrics.LIMITED.labels(scope=scope, kind=kind).inc()
    return rate_limited(
        f"The limit of {most:,} {kind} {per} of {whose} is reached. Try again in {wait_s:.1f} s.",
        retry_after_s=wait_s,
        headers=headers,
    )
