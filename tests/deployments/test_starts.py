"""Starts: an engine's own words, the phases with their lengths, the history."""

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from deployments import charts, operations, phases, starts, status
from deployments.lifecycle import Reason, Status
from deployments.models import Deployment, DeploymentEvent, Replica
from tests.deployments.portals import Portal
from tests.factories.accounts import TeamFactory
from tests.factories.deployments import smollm2

LLAMA = """0.00.000.276 I srv          init: initializing ...
0.00.003.037 I srv          init: loading model
0.00.003.078 I srv    load_model: loading model '/weights/a.gguf'
1.02.375.804 I srv    load_model: initializing, n_slots = 4, n_ctx_slot = 2048, kv_unified = 'false'
1.02.577.819 I srv          init: listening on http://127.0.0.1:28848
serving demo/a at http://127.0.0.1:28848
1.30.000.000 I srv    load_model: loading model again"""
VLLM = """INFO 11-25 10:22:07 [api_server.py:1] vLLM API server version 0.19
INFO 11-25 10:22:17 [gpu_model_runner.py:2] Starting to load model /weights/a...
INFO 11-25 10:22:47 [default_loader.py:3] Loading weights took 28.41 seconds
INFO 11-25 10:23:07 [gpu_model_runner.py:4] Graph capturing finished in 9 secs
INFO 11-25 10:23:08 [api_server.py:5] Starting vLLM API server on http://127.0.0.1:1"""


@pytest.mark.parametrize(
    ("engine", "log", "expected"),
    [
        ("llama_cpp", LLAMA, [("loading", 0.003), ("warming", 62.376), ("listening", 62.578)]),
        ("vllm", VLLM, [("loading", 10), ("warming", 40), ("listening", 61)]),
        ("unheard_of", LLAMA, []),
        ("llama_cpp", "no clock here\nloading model", [("loading", None)]),
        ("llama_cpp", "", []),
    ],
)
def test_an_engine_says_its_phases(engine: str, log: str, expected: list[Any]) -> None:
    found = phases.said(engine, log.splitlines())
    assert [one.phase for one in found] == [phase for phase, _ in expected]
    for one, (_, offset) in zip(found, expected, strict=True):
        assert one.offset_s == (None if offset is None else pytest.approx(offset, abs=0.001))


@pytest.fixture
def row(db: None, small_portal: Portal) -> Deployment:
    model, hardware = smollm2()
    return operations.deploy(TeamFactory(), model=model, hardware=hardware, actor="t", name="a")


def current(row: Deployment) -> starts.Start | None:
    return known(row)[1]


def known(row: Deployment) -> tuple[starts.History, starts.Start | None]:
    return starts.known(status.of(row), list(row.events.order_by("-at", "-pk")))


def phases_of(row: Deployment) -> list[tuple[str, bool]]:
    start = current(row)
    assert start
    return [(phase.label, phase.is_now) for phase in start.phases]


def test_a_start_goes_through_its_phases(row: Deployment, small_portal: Portal) -> None:
    assert phases_of(row)[0] == ("Waiting for a worker", True)
    replica = Replica.objects.create(deployment=row, version=row.version)
    row.transition(Status.STARTING, since=Status.PENDING, reason=Reason.ENGINE_LOADING)
    assert phases_of(row)[1] == ("The engine's process starts", True)
    Replica.objects.filter(pk=replica.pk).update(started_at=timezone.now())
    assert phases_of(row)[2] == ("The engine is starting", True)
    folder = small_portal.root / replica.name
    folder.mkdir(parents=True)
    (folder / "engine.log").write_text("\n".join(LLAMA.splitlines()[:3]) + "\n")
    assert phases_of(row)[2] == ("The engine loads the weights", True)
    (folder / "engine.log").write_text(LLAMA + "\n")
    Replica.objects.filter(pk=replica.pk).update(ready_at=timezone.now() + timedelta(seconds=70))
    row.transition(Status.READY, since=Status.STARTING, reason=Reason.ENGINE_HEALTHY)
    start = current(row)
    assert start
    assert start.now is None
    lengths = {phase.label: phase.seconds for phase in start.phases}
    assert lengths["The engine loads the weights"] == pytest.approx(62.37, abs=0.01)
    assert lengths["The engine warms up"] == pytest.approx(0.2, abs=0.01)
    assert start.seconds == pytest.approx(70, abs=1)
    assert sum(phase.seconds or 0 for phase in start.phases) == pytest.approx(start.seconds, abs=0.01)


def test_a_wake_is_a_start_of_its_own(row: Deployment) -> None:
    now = timezone.now()
    DeploymentEvent.objects.filter(deployment=row).update(at=now - timedelta(hours=1))
    _event(row, Status.PENDING, Status.STARTING, now - timedelta(minutes=59))
    _event(row, Status.STARTING, Status.READY, now - timedelta(minutes=58))
    _event(row, Status.READY, Status.ASLEEP, now - timedelta(minutes=40))
    _event(row, Status.ASLEEP, Status.WAKING, now - timedelta(seconds=3))
    Deployment.objects.filter(pk=row.pk).update(status=Status.WAKING)
    start = current(row)
    assert start
    assert start.began_at == now - timedelta(seconds=3)


def test_a_first_start_that_goes_on_is_counted_from_the_click(row: Deployment) -> None:
    now = timezone.now()
    clicked = now - timedelta(seconds=9)
    DeploymentEvent.objects.filter(deployment=row).update(at=clicked)
    _event(row, Status.PENDING, Status.STARTING, now - timedelta(seconds=8))
    Deployment.objects.filter(pk=row.pk).update(status=Status.STARTING)
    start = current(row)
    assert start
    assert start.began_at == clicked


def test_history_is_its_own_and_that_of_the_same_weights_while_it_has_none(row: Deployment) -> None:
    other = operations.deploy(
        TeamFactory(), model=row.model, hardware=row.hardware, actor="t", name="b"
    )  # fmt: skip
    for seconds in range(1, 11):
        _replica(other, seconds)
    past, _ = known(row)
    assert (past.p50, past.p90) == (5.0, 9.0)
    _replica(row, 77)
    Replica.objects.create(deployment=row, crashed=True, exited_at=timezone.now())
    past, _ = known(row)
    assert (past.p50, past.p90, past.failed) == (77.0, 77.0, 1)
    assert past.process_s == pytest.approx(0.5)


def test_pictures_say_in_words_what_they_show() -> None:
    picture = charts.spark([0, 3, 1], label='at most "3"')
    assert 'aria-label="at most &quot;3&quot;"' in picture
    assert 'class="line"' in picture
    assert 'class="still"' in charts.spark([0, 0], label="none")
    assert charts.bars([1.0, 2.0], label="two").count("<rect") == 2


def _event(row: Deployment, before: Status, after: Status, at: Any) -> None:
    DeploymentEvent.objects.create(deployment=row, before=before, after=after, at=at)


def _replica(row: Deployment, seconds: float) -> None:
    made = timezone.now() - timedelta(hours=1) + timedelta(seconds=seconds)
    Replica.objects.create(
        deployment=row, created_at=made, started_at=made + timedelta(seconds=0.5),
        ready_at=made + timedelta(seconds=seconds), exited_at=timezone.now(),
    )  # fmt: skip
