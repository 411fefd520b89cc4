"""What every backend promises, tried with real processes."""

import multiprocessing
import os
import signal
import stat
import subprocess
import sys
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil
import pytest

from deployments.backends import Backend, Seen
from deployments.backends.local import LocalBackend
from deployments.launch import LaunchSpec
from tests.deployments.processes import end_everything, pid_of, small_spec, tagged, wait_until


@pytest.fixture
def instance() -> Iterator[str]:
    name = f"test-{uuid.uuid4().hex[:12]}"
    yield name
    end_everything(name)


@pytest.fixture
def backend(instance: str, tmp_path: Path) -> LocalBackend:
    return LocalBackend(instance=instance, root=str(tmp_path))


def ready(backend: Backend, name: str) -> bool:
    return backend.observe(name).seen == Seen.READY


def gone(backend: Backend, name: str) -> bool:
    backend.remove(name)
    return not backend.observe(name).alive and name not in backend.running()


def test_an_engine_is_started_becomes_ready_and_is_removed(backend: LocalBackend) -> None:
    before = datetime.now(UTC)
    assert backend.observe("r-1").seen == Seen.ABSENT
    backend.ensure(small_spec("r-1", "--load-s", "0.3"))
    assert backend.observe("r-1").seen == Seen.STARTING
    wait_until(lambda: ready(backend, "r-1"))
    seen = backend.observe("r-1")
    assert seen.address.startswith("http://127.0.0.1:")
    assert seen.started_at
    assert seen.alive_at
    assert before - timedelta(seconds=1) < seen.started_at < seen.alive_at
    assert list(backend.running()) == ["r-1"]
    wait_until(lambda: gone(backend, "r-1"))
    ended = backend.observe("r-1")
    assert ended.exited_at
    assert (ended.seen, ended.asked, ended.started_at) == (Seen.EXITED, True, seen.started_at)
    assert seen.alive_at < ended.exited_at <= datetime.now(UTC) + timedelta(seconds=1)
    assert "ready" in backend.log("r-1", lines=5)


def test_asking_again_and_again_makes_one_engine(backend: LocalBackend, instance: str) -> None:
    for _ in range(3):
        backend.ensure(small_spec("r-1"))
    wait_until(lambda: ready(backend, "r-1"))
    assert len(tagged(instance)) == 2  # the engine and its shim


def test_five_workers_asking_at_once_make_one_engine(instance: str, tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_ensure, args=(instance, str(tmp_path))) for _ in range(5)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(30)
        assert worker.exitcode == 0
    assert len(tagged(instance)) == 2


def _ensure(instance: str, root: str) -> None:
    LocalBackend(instance=instance, root=root).ensure(small_spec("r-1"))


def test_the_death_of_the_process_that_asked_touches_nothing(
    instance: str, backend: LocalBackend, tmp_path: Path
) -> None:
    code = (
        "import os, signal; from tests.deployments.backends.test_contract import _ensure;"
        f"_ensure({instance!r}, {str(tmp_path)!r}); os.killpg(0, signal.SIGKILL)"
    )
    worker = subprocess.run([sys.executable, "-c", code], start_new_session=True, check=False)
    assert worker.returncode == -signal.SIGKILL
    wait_until(lambda: ready(backend, "r-1"))


def test_an_engine_that_exits_says_when_and_how(backend: LocalBackend) -> None:
    backend.ensure(small_spec("r-1", "--exit-after-s", "0.2"))
    wait_until(lambda: backend.observe("r-1").seen == Seen.EXITED)
    seen = backend.observe("r-1")
    assert (seen.exit_code, seen.asked) == (3, False)
    assert backend.log("r-1", lines=1) == ["something broke"]


def test_an_engine_that_is_killed_is_seen_as_exited_at_that_moment(backend: LocalBackend, tmp_path: Path) -> None:
    backend.ensure(small_spec("r-1"))
    wait_until(lambda: ready(backend, "r-1"))
    killed_at = datetime.now(UTC)
    os.kill(pid_of(tmp_path, "r-1", "engine"), signal.SIGKILL)
    wait_until(lambda: backend.observe("r-1").seen == Seen.EXITED)
    seen = backend.observe("r-1")
    assert seen.exited_at
    assert (seen.exit_code, seen.asked) == (-9, False)
    assert abs(seen.exited_at - killed_at) < timedelta(seconds=0.5)


def test_when_the_shim_is_killed_its_engine_dies_and_the_last_tick_is_the_exit(
    backend: LocalBackend, instance: str, tmp_path: Path
) -> None:
    backend.ensure(small_spec("r-1"))
    wait_until(lambda: ready(backend, "r-1"))
    killed_at = datetime.now(UTC)
    os.kill(pid_of(tmp_path, "r-1", "shim"), signal.SIGKILL)
    wait_until(lambda: not tagged(instance))
    seen = backend.observe("r-1")
    assert seen.exited_at
    assert seen.started_at
    assert (seen.seen, seen.exit_code) == (Seen.EXITED, None)
    assert seen.started_at <= seen.exited_at <= killed_at + timedelta(seconds=0.1)
    assert killed_at - seen.exited_at < timedelta(seconds=2)


def child_of(backend: Backend, name: str) -> int:
    line = next(line for line in backend.log(name, lines=20) if line.startswith("child "))
    return int(line.split()[1])


@pytest.mark.parametrize("how", ["removed", "killed", "shim killed"])
def test_what_an_engine_started_ends_with_it(backend: LocalBackend, tmp_path: Path, how: str) -> None:
    backend.ensure(small_spec("r-1", "--child"))
    wait_until(lambda: ready(backend, "r-1"))
    child = child_of(backend, "r-1")
    assert psutil.pid_exists(child)
    if how == "removed":
        backend.remove("r-1")
    else:
        os.kill(pid_of(tmp_path, "r-1", "shim" if how == "shim killed" else "engine"), signal.SIGKILL)
    wait_until(lambda: backend.observe("r-1").seen == Seen.EXITED)
    wait_until(lambda: not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE)


def test_the_most_memory_that_all_its_processes_took_is_told(backend: LocalBackend) -> None:
    backend.ensure(small_spec("r-1"))
    wait_until(lambda: ready(backend, "r-1"))
    wait_until(lambda: (backend.observe("r-1").peak_bytes or 0) > 4 * 1024**2)
    wait_until(lambda: gone(backend, "r-1"))
    assert 4 * 1024**2 < (backend.observe("r-1").peak_bytes or 0) < 200 * 1024**2


def test_an_engine_deaf_to_sigterm_is_killed(backend: LocalBackend) -> None:
    backend.ensure(small_spec("r-1", "--deaf"))
    wait_until(lambda: ready(backend, "r-1"))
    wait_until(lambda: gone(backend, "r-1"), seconds=15)
    assert backend.observe("r-1").exit_code == -signal.SIGKILL


def test_a_removed_name_is_never_started_again(backend: LocalBackend, instance: str) -> None:
    backend.remove("r-1")
    backend.ensure(small_spec("r-1"))
    assert backend.observe("r-1").seen == Seen.ABSENT
    assert tagged(instance) == []


def test_what_can_not_be_run_at_all_is_an_exit_with_a_reason(backend: LocalBackend) -> None:
    backend.ensure(LaunchSpec(name="r-1", argv=("/no/such/engine", "{tag}"), key="k"))
    wait_until(lambda: backend.observe("r-1").seen == Seen.EXITED)
    assert "could not be started" in backend.log("r-1", lines=1)[0]


def test_engines_of_another_portal_are_not_seen(backend: LocalBackend, tmp_path: Path) -> None:
    other = LocalBackend(instance=f"test-{uuid.uuid4().hex[:12]}", root=str(tmp_path / "other"))
    backend.ensure(small_spec("r-1"))
    assert list(other.running()) == []
    other.remove("r-1")
    wait_until(lambda: ready(backend, "r-1"))


def test_a_pid_used_again_by_somebody_else_is_not_the_engine(backend: LocalBackend, tmp_path: Path) -> None:
    backend.ensure(small_spec("r-1"))
    wait_until(lambda: ready(backend, "r-1"))
    run = (tmp_path / "r-1" / "run.json").read_text()
    wait_until(lambda: gone(backend, "r-1"))
    (tmp_path / "r-1" / "exit.json").unlink()
    for part in ("engine", "shim"):
        run = run.replace(f'"pid": {pid_of(tmp_path, "r-1", part)}', f'"pid": {os.getpid()}')
    (tmp_path / "r-1" / "run.json").write_text(run)
    assert backend.observe("r-1").seen == Seen.EXITED
    backend.remove("r-1")
    assert psutil.pid_exists(os.getpid())


def test_the_key_is_in_no_command_line_and_no_log_and_readable_by_the_owner_alone(
    backend: LocalBackend, instance: str, tmp_path: Path
) -> None:
    backend.ensure(small_spec("r-1"))
    wait_until(lambda: ready(backend, "r-1"))
    assert stat.S_IMODE((tmp_path / "r-1" / "key").stat().st_mode) == 0o600
    assert all("k" * 43 not in part for process in tagged(instance) for part in process.cmdline())
    log = backend.log("r-1", lines=10)
    assert "has a key of 43 characters" in log
    assert "portal secrets in its environment: False" in log
    wait_until(lambda: gone(backend, "r-1"))
    wait_until(lambda: not (tmp_path / "r-1" / "key").exists())
