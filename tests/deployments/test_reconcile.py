"""Deploy -> READY -> stop -> gone, with a real engine and a real model; and what must hold when things die."""

import contextlib
import hashlib
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from django.db import connection
from django.db.models import Sum
from django.utils import timezone

from accounts import sealing
from billing.metering import Slice
from billing.models import LedgerEntry
from deployments import operations, reconcile
from deployments.backends import Seen, backends
from deployments.errors import IllegalTransition, NameTaken, NotDeployable
from deployments.launch import LaunchSpec
from deployments.lifecycle import MOVES, Reason, Status
from deployments.models import Deployment, Replica
from tests.factories.accounts import TeamFactory
from tests.factories.deployments import smollm2

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def instance(settings: Any, tmp_path: Path) -> Iterator[str]:
    """A portal of its own: its engines are told from all others by its tag, and none is left."""
    settings.INSTANCE_ID = uuid.uuid4().hex
    settings.DEPLOYMENT_BACKENDS = {
        "local": {
            "BACKEND": "deployments.backends.local.LocalBackend",
            "OPTIONS": {"root": str(tmp_path / "engines")},
        }
    }
    backends.settings = backends.configure_settings(None)
    _forget_backend()
    yield settings.INSTANCE_ID
    for process in engine_processes(settings.INSTANCE_ID):
        process.kill()
    _forget_backend()


def _forget_backend() -> None:
    with contextlib.suppress(AttributeError):
        del backends["local"]


def engine_processes(instance: str) -> list[psutil.Process]:
    return [p for p in psutil.process_iter() if f"{instance}:" in " ".join(_cmdline(p))]


def _cmdline(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def deploy(**options: Any) -> Deployment:
    model, hardware = smollm2()
    team = options.pop("team", None) or TeamFactory()
    return operations.deploy(team, model=model, hardware=hardware, actor="test", min_replicas=1, **options)


def until(deployment: Deployment, status: Status, *, seconds: float = 30) -> Deployment:
    end = time.monotonic() + seconds
    while deployment.status != status:
        assert time.monotonic() < end, f"{deployment.status}: {deployment.reason} {deployment.detail}"
        reconcile.step(deployment)
        deployment.refresh_from_db()
        time.sleep(0.05)
    return deployment


def test_a_deployment_answers_then_is_gone_and_billed_to_the_last_second(instance: str) -> None:
    deployment = until(deploy(name="real"), Status.READY)
    replica = deployment.replicas.get()
    answer = httpx.post(
        f"{replica.address}/v1/chat/completions",
        headers={"authorization": f"Bearer {sealing.unseal(replica.sealed_key)}"},
        json={"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 3},
        timeout=30,
    )
    assert answer.json()["usage"]["completion_tokens"] == 3
    assert httpx.get(f"{replica.address}/v1/models", timeout=5).status_code in {200, 401}
    assert httpx.post(f"{replica.address}/v1/chat/completions", json={}, timeout=5).status_code == 401
    operations.stop(deployment, actor="test")
    until(deployment, Status.STOPPED)
    replica.refresh_from_db()
    assert engine_processes(instance) == []
    billed = LedgerEntry.objects.filter(team=deployment.team).aggregate(total=Sum("quantity"))["total"]
    assert replica.started_at
    assert replica.exited_at
    assert billed == Slice(replica.started_at, replica.exited_at).seconds > 0
    moves = list(deployment.events.values_list("before", "after"))
    assert moves == [("", "pending"), ("pending", "starting"), ("starting", "ready"), ("ready", "stopping"),
                     ("stopping", "stopped")]  # fmt: skip


def test_one_launch_delivered_ten_times_makes_one_engine(instance: str) -> None:
    deployment = deploy()

    def once(_: int) -> None:
        reconcile.follow(deployment.pk, seconds=15)
        connection.close()

    _threads(once, 10)
    until(Deployment.objects.get(pk=deployment.pk), Status.READY)
    assert Replica.objects.count() == 1
    assert len(engine_processes(instance)) == 2, "one shim, one engine"


def test_an_engine_that_dies_is_billed_to_its_exit_and_started_again(instance: str) -> None:
    deployment = until(deploy(), Status.READY)
    first = deployment.replicas.get()
    engine = next(
        p for p in engine_processes(instance) if "llama_cpp_host" in " ".join(p.cmdline()) and "-S" not in p.cmdline()
    )
    engine.kill()
    until(deployment, Status.STARTING)
    assert deployment.reason == Reason.ENGINE_EXITED
    until(deployment, Status.READY)
    first.refresh_from_db()
    assert first.exited_at
    assert first.billed_until == first.exited_at
    assert deployment.replicas.filter(exited_at=None).count() == 1


def test_a_shim_that_is_killed_takes_its_engine_along(instance: str) -> None:
    deployment = until(deploy(), Status.READY)
    shim = next(p for p in engine_processes(instance) if "-S" in p.cmdline())
    shim.kill()
    _wait(lambda: engine_processes(instance) == [])
    seen = backends["local"].observe(deployment.replicas.get().name)
    assert seen.seen == Seen.EXITED
    assert seen.exited_at


def test_an_engine_without_a_row_is_swept_and_others_portals_engines_are_not(instance: str, tmp_path: Path) -> None:
    sleeper = (sys.executable, "-c", "import time; time.sleep(60)")
    backends["local"].ensure(LaunchSpec(name="r-orphan", argv=sleeper, key="k"))
    stranger = subprocess.Popen([*sleeper, "--tag=another-portal:r-1"])
    assert list(backends["local"].running()) == ["r-orphan"]
    reconcile.sweep()
    _wait(lambda: engine_processes(instance) == [])
    assert stranger.poll() is None
    stranger.kill()
    stranger.wait()


def test_an_engine_that_ignores_sigterm_is_killed(instance: str) -> None:
    deaf = (sys.executable, "-c", "import signal,time; signal.signal(15, signal.SIG_IGN); time.sleep(60)")
    backends["local"].ensure(LaunchSpec(name="r-deaf", argv=deaf, key="k"))
    time.sleep(0.5)  # until it is deaf
    backends["local"].remove("r-deaf")
    _wait(lambda: engine_processes(instance) == [], seconds=8)
    assert backends["local"].observe("r-deaf").exit_code == -signal.SIGKILL


def test_weights_that_no_engine_can_load_are_named_at_the_first_try_with_the_line_that_says_so() -> None:
    deployment = deploy()
    deployment.weights.path = str(_broken_copy(deployment))
    deployment.weights.save()
    until(deployment, Status.FAILED, seconds=60)
    assert deployment.reason == Reason.BAD_WEIGHTS
    assert "load" in deployment.detail.splitlines()[0]
    assert deployment.replicas.filter(exited_at=None).count() == 0
    assert deployment.replicas.count() == 1


def test_a_crash_loop_pauses_longer_each_time_and_ends_in_failed_where_nothing_costs(instance: str) -> None:
    deployment = deploy()
    pauses = []
    for _ in range(reconcile.CRASHES_ALLOWED):
        _crash(deployment, instance)
        pauses.append(deployment.next_try_at - timezone.now() if deployment.next_try_at else None)
        if deployment.status != Status.FAILED:
            assert engine_processes(instance) == [], "it waits, and nothing runs meanwhile"
            Deployment.objects.update(next_try_at=timezone.now())
            deployment.refresh_from_db()
    assert (deployment.status, deployment.reason) == (Status.FAILED, Reason.CRASH_LOOP)
    assert deployment.replicas.filter(exited_at=None).count() == 0
    assert deployment.replicas.count() == reconcile.CRASHES_ALLOWED
    assert pauses[0] < pauses[1] < pauses[2]
    assert set(LedgerEntry.objects.values_list("meter", "amount")) == {("compute.starting.failed", 0)}
    operations.retry(deployment, actor="test")
    _crash(deployment, instance)
    assert deployment.status == Status.STARTING, "who starts it again gives it all its tries again"


def _crash(deployment: Deployment, instance: str) -> None:
    """Step until it has an engine, which ends by itself, and until that is seen."""
    before = deployment.replicas.filter(crashed=True).count()
    _wait(lambda: bool(engine_processes(instance)) or bool(reconcile.step(deployment)))
    engine = next(p for p in engine_processes(instance) if "-S" not in p.cmdline())
    engine.send_signal(signal.SIGABRT)
    _wait(lambda: engine_processes(instance) == [])
    _wait(lambda: deployment.replicas.filter(crashed=True).count() > before or bool(reconcile.step(deployment)))
    deployment.refresh_from_db()


def test_weights_that_differ_from_their_hash_never_start() -> None:
    deployment = deploy()
    deployment.weights.sha256 = "0" * 64
    deployment.weights.save()
    until(deployment, Status.FAILED)
    assert deployment.reason == Reason.BAD_WEIGHTS
    assert not deployment.replicas.exists()


def test_a_start_past_its_deadline_fails_and_leaves_no_engine(instance: str) -> None:
    deployment = deploy()
    reconcile.step(deployment)
    Deployment.objects.filter(pk=deployment.pk).update(deadline_at=timezone.now() - timedelta(seconds=1))
    for process in engine_processes(instance):
        process.send_signal(signal.SIGSTOP)
    deployment.refresh_from_db()
    until(deployment, Status.FAILED)
    assert deployment.reason == Reason.START_TIMEOUT
    for process in engine_processes(instance):
        process.send_signal(signal.SIGCONT)
    _wait(lambda: not engine_processes(instance) or bool(reconcile.step(deployment)))


def test_an_idle_deployment_sleeps_and_a_call_wakes_it(instance: str) -> None:
    model, hardware = smollm2()
    deployment = operations.deploy(
        TeamFactory(), model=model, hardware=hardware, actor="test", min_replicas=0, idle_window_s=30
    )
    until(deployment, Status.READY)
    long_ago = timezone.now() - timedelta(seconds=40)
    Deployment.objects.update(status_since=long_ago)
    Replica.objects.update(ready_at=long_ago)
    deployment.refresh_from_db()
    until(deployment, Status.ASLEEP)
    _wait(lambda: not engine_processes(instance) or bool(reconcile.step(deployment)))
    operations.wake(deployment.pk)
    operations.wake(deployment.pk)
    deployment.refresh_from_db()
    until(deployment, Status.READY)


def test_an_engine_that_hangs_is_ended_and_another_is_started(instance: str) -> None:
    deployment = until(deploy(), Status.READY)
    first = deployment.replicas.get()
    for process in engine_processes(instance):
        if "-S" not in process.cmdline():
            process.send_signal(signal.SIGSTOP)
    reconcile.step(deployment)
    first.refresh_from_db()
    assert deployment.status == Status.READY, "a short silence is no reason"
    assert first.unhealthy_since
    Replica.objects.update(unhealthy_since=timezone.now() - timedelta(minutes=1))
    until(deployment, Status.STARTING)
    assert deployment.reason == Reason.ENGINE_HUNG
    until(deployment, Status.READY)
    first.refresh_from_db()
    _wait(lambda: not deployment.replicas.filter(exited_at=None, crashed=True) or bool(reconcile.step(deployment)))
    first.refresh_from_db()
    assert first.exited_at
    assert first.crashed
    assert len(engine_processes(instance)) == 2


def test_a_portal_that_was_stopped_starts_its_engines_again_and_counts_no_crash(instance: str) -> None:
    deployment = until(deploy(), Status.READY)
    for _ in range(reconcile.CRASHES_ALLOWED):
        for process in engine_processes(instance):
            with contextlib.suppress(psutil.NoSuchProcess):  # it went with another of them
                process.terminate()
        _wait(lambda: engine_processes(instance) == [])
        until(deployment, Status.STARTING)
        assert deployment.reason == Reason.PORTAL_RESTARTED
        until(deployment, Status.READY)
    assert not deployment.replicas.filter(crashed=True).exists()


def test_a_stop_during_the_start_leaves_no_engine(instance: str) -> None:
    deployment = deploy()
    reconcile.step(deployment)
    operations.stop(deployment, actor="test")
    deployment.refresh_from_db()
    until(deployment, Status.STOPPED)
    assert engine_processes(instance) == []


def test_only_one_follows_a_deployment(instance: str) -> None:
    deployment = deploy()
    with reconcile.alone(deployment.pk) as first, ThreadPoolExecutor(1) as pool:
        assert first
        assert not pool.submit(_try_alone, deployment.pk).result()
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(_try_alone, deployment.pk).result()


def test_a_sweep_alone_brings_it_up_and_says_who_still_needs_a_follower() -> None:
    deployment = deploy()
    assert reconcile.sweep() == [deployment.pk]
    _wait(lambda: reconcile.sweep() == [], seconds=30)
    deployment.refresh_from_db()
    assert deployment.status == Status.READY


def test_a_broker_that_is_away_does_not_stop_a_deploy_or_make_it_wait() -> None:
    code = (
        "import django, time, uuid; django.setup(); from deployments.tasks import ring;"
        "began = time.monotonic(); ring(uuid.uuid4()); print(time.monotonic() - began)"
    )
    env = os.environ | {"CELERY_BROKER_URL": "redis://127.0.0.1:1/0", "DJANGO_SETTINGS_MODULE": "portal.settings"}
    told = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=20, check=True)
    assert float(told.stdout) < 1
    assert "the sweep will see it" in told.stderr


def _try_alone(deployment_id: uuid.UUID) -> bool:
    try:
        with reconcile.alone(deployment_id) as mine:
            return mine
    finally:
        connection.close()


def test_a_name_is_taken_while_it_lives_and_free_afterwards() -> None:
    team = TeamFactory()
    deployment = deploy(team=team, name="twice")
    with pytest.raises(NameTaken):
        deploy(team=team, name="twice")
    operations.stop(deployment, actor="test")
    until(deployment, Status.STOPPED)
    deploy(team=team, name="twice")


def test_closed_weights_are_refused_with_the_reason() -> None:
    model, hardware = smollm2()
    model.openness = "closed"
    model.save()
    with pytest.raises(NotDeployable, match="weights are closed"):
        operations.deploy(TeamFactory(), model=model, hardware=hardware, actor="test")


@pytest.mark.parametrize("since", list(Status))
def test_only_the_moves_in_the_table_are_possible(since: Status) -> None:
    deployment = deploy()
    for to in Status:
        Deployment.objects.filter(pk=deployment.pk).update(status=since)
        if to in MOVES[since]:
            deployment.transition(to, since=since, reason=Reason.ASKED)
        else:
            with pytest.raises(IllegalTransition):
                deployment.transition(to, since=since, reason=Reason.ASKED)


def _broken_copy(deployment: Deployment) -> Path:
    """A file whose hash is pinned, and which no engine can load."""
    path = Path(backends["local"]._root).parent / "broken.gguf"
    path.write_bytes(b"GGUF" + os.urandom(1000))
    deployment.weights.size_bytes = path.stat().st_size
    deployment.weights.sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    return path


def _threads(work: Callable[[int], None], count: int) -> None:
    with ThreadPoolExecutor(count) as pool:
        list(pool.map(work, range(count)))


def _wait(fact: Callable[[], bool], *, seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while not fact():
        assert time.monotonic() < end, "not true in time"
        time.sleep(0.05)
