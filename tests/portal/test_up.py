"""One command brings the whole portal up, and one signal takes all of it away."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import psutil
import pytest

from portal.embedded import ROOT
from tests.calls import engines, wait_until
from tests.running import RunningPortal

pytestmark = [pytest.mark.portal, pytest.mark.xdist_group("faults")]


def test_the_next_start_has_all_data_and_takes_over_what_a_killed_supervisor_left(own_portal: RunningPortal) -> None:
    own_portal.start()
    key = own_portal.key
    assert own_portal.email
    assert own_portal.password
    assert f"Authorization: Bearer {key}" in own_portal.output
    _assert_lists_the_hosted_model(own_portal, key)
    own_portal.stop(signal.SIGINT)
    own_portal.key = ""
    own_portal.start()
    assert own_portal.key == "", "the key is shown once"
    assert "issue_key" in own_portal.output
    _assert_lists_the_hosted_model(own_portal, key)
    own_portal.kill_supervisor()
    own_portal.start()
    assert len(engines(own_portal)) == 1
    _assert_lists_the_hosted_model(own_portal, key)
    own_portal.stop(signal.SIGHUP)


@pytest.mark.parametrize("name", ["postgres", "redis", "beat"])
def test_a_killed_part_comes_back(running_portal: RunningPortal, name: str) -> None:
    before = running_portal.pids(name)
    running_portal.kill(name)
    wait_until(lambda: running_portal.pids(name) not in ([], before), seconds=15)
    wait_until(lambda: _is_ready(running_portal), seconds=40)


def test_two_copies_run_side_by_side_one_with_a_data_dir_too_long_for_a_socket(
    running_portal: RunningPortal, tmp_path: Path
) -> None:
    folder = tmp_path / ("long" * 20) / "with space"
    folder.mkdir(parents=True)
    second = RunningPortal(folder)
    try:
        second.start()
        for portal, other in ((running_portal, second), (second, running_portal)):
            _assert_lists_the_hosted_model(portal, portal.key)
            answer = httpx.get(f"{portal.url}/v1/models", headers={"authorization": f"Bearer {other.key}"})
            assert answer.status_code == 401
        second.stop(signal.SIGTERM)
    finally:
        second.end()
    assert _is_ready(running_portal)


def test_a_second_copy_on_the_same_data_is_refused(running_portal: RunningPortal) -> None:
    said = _refused(running_portal.env() | {"PORT": "1"})
    assert f"Another copy of the portal already runs on {running_portal.data_dir}" in said
    assert _is_ready(running_portal)


def test_a_taken_port_is_said_before_anything_starts(tmp_path: Path, own_portal: RunningPortal) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        said = _refused(own_portal.env() | {"PORT": str(port)})
    assert f"Port {port} on 127.0.0.1 can't be used" in said
    assert f"PORT={port + 1} scripts/up" in said
    assert not (own_portal.data_dir / "postgres").exists()


def test_a_port_that_is_no_number_is_said(own_portal: RunningPortal) -> None:
    assert "PORT='eighty' is not a port" in _refused(own_portal.env() | {"PORT": "eighty"})


def test_a_stop_in_the_midst_of_starting_leaves_nothing(own_portal: RunningPortal) -> None:
    command = [sys.executable, "-m", "portal.up"]
    for pause_s in (1.0, 1.6, 3.0, 6.0):
        process = subprocess.Popen(command, cwd=ROOT, env=own_portal.env(), stdout=subprocess.DEVNULL)
        time.sleep(pause_s)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 0
        assert own_portal.left() == []


def test_secrets_are_on_no_command_line_and_in_no_log(running_portal: RunningPortal) -> None:
    kept = (running_portal.data_dir / "secrets.json").read_text()
    words = [word for word in kept.split('"') if len(word) > 30] + [running_portal.key, running_portal.password]
    lines = [" ".join(process.info["cmdline"] or []) for process in psutil.process_iter(["cmdline"])]
    logs = [path.read_text(errors="replace") for path in (running_portal.data_dir / "logs").iterdir()]
    assert len(words) == 5
    assert not any(word in text for word in words for text in (*lines, *logs))
    for name in ("secrets.json", "env", "redis/server.conf"):
        assert (running_portal.data_dir / name).stat().st_mode & 0o077 == 0


def test_manage_py_issues_and_revokes_keys(running_portal: RunningPortal) -> None:
    key = running_portal.manage("issue_key", "--team", "demo", "--name", "laptop").strip()
    _assert_lists_the_hosted_model(running_portal, key)
    assert "Revoked laptop" in running_portal.manage("revoke_key", key[:11])
    env = running_portal.env()
    command = [sys.executable, "manage.py", "issue_key", "--team", "nobody", "--name", "x"]
    done = subprocess.run(command, cwd=ROOT, env=env, check=False, capture_output=True, text=True)
    assert done.returncode != 0
    assert "There is no team 'nobody'. Teams: demo" in done.stderr


def _assert_lists_the_hosted_model(portal: RunningPortal, key: str) -> None:
    answer = httpx.get(f"{portal.url}/v1/models", headers={"authorization": f"Bearer {key}"}, timeout=10)
    assert answer.status_code == 200, answer.text
    assert "smollm2-135m-instruct" in {model["id"] for model in answer.json()["data"]}


def _is_ready(portal: RunningPortal) -> bool:
    try:
        return httpx.get(f"{portal.url}/readyz", timeout=5).status_code == 200
    except httpx.HTTPError:
        return False


def _refused(env: dict[str, str]) -> str:
    command = [sys.executable, "-m", "portal.up"]
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, **env}, check=False, capture_output=True, text=True)
    assert done.returncode == 1, done.stdout
    return done.stdout
