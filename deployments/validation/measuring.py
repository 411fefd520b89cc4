"""Measuring an engine: how fast it reads and writes for 1, 4 and 16 callers, asked at its own address.

Every figure is of one clock, the caller's. Each prompt is new, so that no cache answers, and each answer is as long as
was asked for.
"""

import contextlib
import json
import logging
import random
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from importlib import metadata
from uuid import UUID

import httpx
from django.db import transaction
from django.utils import timezone

from accounts import sealing
from catalog import measurements
from catalog.measurements import Figures
from deployments import endpoints, loads, operations
from deployments.lifecycle import SERVING, Status
from deployments.models import Deployment, Replica
from deployments.validation import work
from deployments.validation.models import Ended, ThroughputRun
from deployments.validation.work import Broken, Hold, Lost

log = logging.getLogger(__name__)

# callers -> how often they all call at once.
ROUNDS = {1: 3, 4: 2, 16: 1}
PROMPT_WORDS, OUTPUT_TOKENS = 160, 48
CALL_S, LOOK_S, RENEW_S = 90.0, 0.2, 15.0
# Where one call takes longer than this, each number of callers calls once.
SLOW_S = 10.0
# Whose version is an engine's own, where the engine does not know it.
PACKAGES = {"llama_cpp": "xllamacpp", "vllm": "vllm"}
WORDS = (
    "river", "stone", "window", "garden", "letter", "winter", "music", "paper", "silver", "market", "harbour",
    "candle", "forest", "engine", "mirror", "bridge", "kitchen", "summer", "planet", "button", "castle", "doctor",
    "finger", "guitar", "hammer", "island", "jacket", "ladder", "mountain", "needle", "orange", "pencil",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Timed:
    """One call, in monotonic seconds."""

    began: float
    first: float
    ended: float
    prompt_tokens: int
    output_tokens: int


@dataclass(frozen=True, slots=True)
class Engine:
    """`slots` is how many it answers at once, None if nothing says so."""

    url: str
    headers: dict[str, str]
    model: str
    context_tokens: int | None
    slots: int | None

    @property
    def prompt_words(self) -> int:
        """A word of these is two tokens at most; chat templates take some more."""
        return min(PROMPT_WORDS, self.context_tokens // 5) if self.context_tokens else PROMPT_WORDS

    @property
    def output_tokens(self) -> int:
        return min(OUTPUT_TOKENS, self.context_tokens // 5) if self.context_tokens else OUTPUT_TOKENS


def carry_out(run_id: UUID) -> None:
    """Measure all of it, or end by name. Done again after a worker's death, it replaces what was found before."""
    with work.held(ThroughputRun, run_id) as mine:
        if mine is None:
            return
        run, hold = mine
        try:
            replica = _awake(run, hold)
            _measure(run, hold, replica)
            work.finish(run, ThroughputRun.Status.DONE)
        except Lost:
            return
        except Broken as error:
            work.finish(run, ThroughputRun.Status.ENDED, ended=error.why, detail=error.detail)
        except Exception:
            log.exception("throughput %s", run_id)
            work.finish(run, ThroughputRun.Status.ENDED, ended=Ended.DEFECT)


def _awake(run: ThroughputRun, hold: Hold) -> Replica:
    """A replica that takes calls; a sleeper is woken and waited for."""
    while True:
        row = Deployment.objects.get(pk=run.deployment_id)
        ready = row.replicas.filter(exited_at=None, remove_asked_at=None, ready_at__isnull=False)
        replica = ready.filter(version=run.version).first()
        if row.status in SERVING and replica:
            return replica
        if row.stop_asked_at or row.status in {Status.STOPPED, Status.STOPPING, Status.FAILED}:
            raise Broken(Ended.NOT_CALLABLE, f"It is {row.status}. {row.get_reason_display()}.")
        if row.version_id != run.version_id:
            raise Broken(Ended.CHANGED)
        _in_time(run)
        hold.renew()
        operations.wake(row.pk)
        time.sleep(LOOK_S)


def _measure(run: ThroughputRun, hold: Hold, replica: Replica) -> None:
    row = run.deployment
    engine = Engine(
        url=replica.address,
        headers={"authorization": f"Bearer {sealing.unseal(replica.sealed_key)}"},
        model=row.endpoint_model,
        context_tokens=row.options.get("context_tokens"),
        slots=row.options.get("slots"),
    )
    # No connection is used twice: engines close those that stood idle, and one on loopback costs nothing.
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
    with httpx.Client(headers=engine.headers, timeout=CALL_S, trust_env=False, limits=limits) as client:
        version = _version(client, engine, row.engine)
        # The first call of an engine is not like the others.
        (first,) = _at_once(lambda: call(client, engine), 1, alive=lambda: _alive(run, hold))
        is_slow = first.ended - first.began > SLOW_S
        found = []
        for callers, rounds in ROUNDS.items():
            _in_time(run)
            before = loads.now().calls[replica.name]
            batches = [
                _at_once(lambda: call(client, engine), callers, alive=lambda: _alive(run, hold))
                for _ in range(1 if is_slow else rounds)
            ]
            disturbed = bool(before or loads.now().calls[replica.name])
            found.append((_figures(batches, callers, slots=engine.slots), disturbed))
    _keep(run, found, engine_version=version)


def _keep(run: ThroughputRun, found: list[tuple[Figures, bool]], *, engine_version: str) -> None:
    """All of it or nothing: what broke off half-way is no measurement."""
    row, now = run.deployment, timezone.now()
    with transaction.atomic():
        for figures, disturbed in found:
            measurements.record(
                figures,
                run=run.pk,
                model=row.model,
                weights=row.weights,
                hardware=row.hardware,
                engine=row.engine,
                engine_version=engine_version,
                options=row.options,
                disturbed=disturbed,
                measured_at=now,
            )


def _in_time(run: ThroughputRun) -> None:
    if timezone.now() > run.deadline_at:
        raise Broken(Ended.TOO_LONG)


def _alive(run: ThroughputRun, hold: Hold) -> None:
    """Nobody else takes it up, and what is measured does not fall asleep."""
    hold.renew()
    endpoints.touch([run.deployment_id])


def _figures(batches: list[list[Timed]], callers: int, *, slots: int | None) -> Figures:
    everything = [timed for batch in batches for timed in batch]
    # Who has to queue is waiting for others to write, and that is no reading speed.
    reads = slots is None or callers <= slots
    return Figures(
        callers=callers,
        samples=len(everything),
        prompt_tokens=round(statistics.median(timed.prompt_tokens for timed in everything)),
        output_tokens=round(statistics.median(timed.output_tokens for timed in everything)),
        first_token_ms=statistics.median((timed.first - timed.began) * 1000 for timed in everything),
        prefill_tokens_per_s=statistics.median(map(_prefill, batches)) if reads else None,
        decode_tokens_per_s=statistics.median(map(_decode, batches)),
    )


def _at_once(one: Callable[[], Timed], callers: int, *, alive: Callable[[], None]) -> list[Timed]:
    with ThreadPoolExecutor(callers) as pool:
        calls = [pool.submit(one) for _ in range(callers)]
        pending = set(calls)
        while pending:
            alive()
            _, pending = wait(pending, timeout=RENEW_S)
        return [made.result() for made in calls]


def _prefill(batch: list[Timed]) -> float:
    """Tokens of all prompts, by the time until the last of them was read."""
    took = max(timed.first for timed in batch) - min(timed.began for timed in batch)
    return sum(timed.prompt_tokens for timed in batch) / max(took, 1e-6)


def _decode(batch: list[Timed]) -> float:
    """Tokens of all answers but their first ones, by the time from the first token of all to the last."""
    took = max(timed.ended for timed in batch) - min(timed.first for timed in batch)
    return sum(timed.output_tokens - 1 for timed in batch) / max(took, 1e-6)


def call(client: httpx.Client, engine: Engine) -> Timed:
    """One streamed call. Raises Broken if the engine does not answer as engines do."""
    text = " ".join(random.choices(WORDS, k=engine.prompt_words))  # noqa: S311 - not a secret
    body = {
        "model": engine.model, "messages": [{"role": "user", "content": text}], "temperature": 0, "stream": True,
        "max_tokens": engine.output_tokens, "ignore_eos": True, "cache_prompt": False,
        "stream_options": {"include_usage": True},
    }  # fmt: skip
    usage: dict[str, int] = {}
    began, first, pieces = time.monotonic(), 0.0, 0
    try:
        with client.stream("POST", f"{engine.url}/v1/chat/completions", json=body) as answer:
            if answer.status_code != httpx.codes.OK:
                answer.read()
                raise Broken(Ended.NOT_CALLABLE, f"It answered with {answer.status_code}: {answer.text[:300]}")
            for line in answer.iter_lines():
                if not line.startswith("data: {"):
                    continue
                told = json.loads(line.removeprefix("data: "))
                usage = told.get("usage") or usage
                if any((choice.get("delta") or {}).get("content") for choice in told.get("choices") or []):
                    first, pieces = first or time.monotonic(), pieces + 1
                    ended = time.monotonic()
    except (httpx.HTTPError, ValueError) as error:
        raise Broken(Ended.ENGINE_GONE, f"{type(error).__name__} {error}".strip()) from error
    if not pieces:
        raise Broken(Ended.NOT_CALLABLE, "It wrote no token.")
    output = int(usage.get("completion_tokens") or pieces)
    return Timed(began, first, ended, int(usage.get("prompt_tokens") or 0), output)


def _version(client: httpx.Client, engine: Engine, name_of_engine: str) -> str:
    """As the engine says it, else that of its package here; "" if nothing says so."""
    for path, name in (("/version", "version"), ("/props", "build_info")):
        try:
            told = client.get(f"{engine.url}{path}").json()
        except (httpx.HTTPError, ValueError):
            continue
        if isinstance(told, dict) and isinstance(told.get(name), str) and "unknown" not in told[name]:
            return str(told[name])[:80]
    package = PACKAGES.get(name_of_engine, "")
    with contextlib.suppress(metadata.PackageNotFoundError, ValueError):
        return f"{package} {metadata.version(package)}"
    return ""
