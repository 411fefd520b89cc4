"""What can go wrong while weights come from the Hub: no byte comes twice, nothing half is kept, no state stays."""

import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import redis
from django.db import connection, connections
from django.utils import timezone

from accounts.models import Team
from catalog import fetching, importing, store, tasks
from catalog.models import Blob, Weights
from portal.embedded import ROOT
from tests.calls import api, wait_until
from tests.factories import tiny_weights as tiny
from tests.fakes.hub import TestHub
from tests.running import RunningPortal

pytestmark = [pytest.mark.portal, pytest.mark.xdist_group("faults")]

MIB = 1024 * 1024
LARGE = tiny.gguf(tiny.SHAPES | {"extra.weight": (32, 65_536)}, seed=7)


def begun(hub: TestHub, team: Team) -> Weights:
    hub.add("org/large", {"large.gguf": LARGE})
    return importing.begin(team, "org/large", actor="ada")


def ranges(hub: TestHub) -> list[str]:
    return [said for _, path, said, _ in hub.asked if path.startswith("/lfs/")]


def test_a_killed_worker_and_a_flushed_broker_cost_a_tick_and_no_byte(
    running_portal: RunningPortal, portals_hub: TestHub
) -> None:
    portals_hub.reset()
    portals_hub.add("org/large", {"large-Q4_K_M.gguf": LARGE})
    portals_hub.bytes_per_s = 2 * MIB
    client = api(running_portal)
    made = client.post("/weights/imports", json={"repo": "org/large"})
    assert made.status_code == 201, made.text
    path = f"/weights/{made.json()['id']}"
    wait_until(lambda: client.get(path).json()["bytes_done"] >= 2 * MIB, seconds=30)
    lines = (running_portal.data_dir / "env").read_text().splitlines()
    broker = redis.Redis.from_url(next(line for line in lines if line.startswith("REDIS_URL=")).partition("=")[2])
    broker.flushall()
    running_portal.kill("worker", signal.SIGKILL)
    seen = client.get(path).json()
    assert (seen["status"], seen["bytes_per_s"] > 0, seen["seconds_left"] is not None) == ("downloading", True, True)
    portals_hub.bytes_per_s = 0
    wait_until(lambda: client.get(path).json()["status"] == "ready", seconds=60)
    first, second = ranges(portals_hub)
    assert first == ""
    goes_on_at = int(second.removeprefix("bytes=").removesuffix("-"))
    assert goes_on_at >= 2 * MIB, "what had come is not asked for again"
    assert client.delete(path).status_code == 204
    assert list((running_portal.data_dir / "weights" / "blobs").iterdir()) == []


def test_a_line_that_breaks_is_taken_up_where_it_broke(hub: TestHub, importers: Team, settings: Any) -> None:
    weights = begun(hub, importers)
    settings.IMPORT_STALLED_S = 5
    hub.cut_after = 3 * MIB
    fetching.fetch(weights.pk)
    weights.refresh_from_db()
    assert (weights.status, weights.detail) == ("ready", "")
    assert len(ranges(hub)) == 3
    assert hub.sent["large.gguf"] <= len(LARGE) + MIB


def test_a_hub_without_ranges_begins_again(hub: TestHub, importers: Team) -> None:
    weights = begun(hub, importers)
    hub.no_ranges = True
    folder = store.incoming_folder(weights.pk)
    folder.mkdir(parents=True)
    (folder / f"{weights.files.get().pk}.part").write_bytes(LARGE[:MIB])
    fetching.fetch(weights.pk)
    weights.refresh_from_db()
    assert (weights.status, weights.bytes_done) == ("ready", len(LARGE))


def test_a_hub_that_falls_silent_is_given_up_and_what_came_is_kept(
    hub: TestHub,
    importers: Team,
    settings: Any,
) -> None:
    weights = begun(hub, importers)
    settings.IMPORT_STALLED_S = 1
    hub.stalls = True
    fetching.fetch(weights.pk)
    weights.refresh_from_db()
    assert (weights.status, weights.reason) == ("failed", "stalled")
    assert "did not answer in time" in weights.detail
    hub.stalls = False
    importing.retry(weights, actor="ada")
    fetching.fetch(weights.pk)
    weights.refresh_from_db()
    assert weights.status == "ready"


def test_zeroed_bytes_are_found_though_the_size_is_right(hub: TestHub, importers: Team) -> None:
    weights = begun(hub, importers)
    hub.spoil = lambda content: content[:MIB] + bytes(MIB) + content[2 * MIB :]
    fetching.fetch(weights.pk)
    weights.refresh_from_db()
    assert (weights.status, weights.reason, Blob.objects.count()) == ("failed", "wrong_bytes", 0)
    assert not any(path.is_file() for path in store.incoming_folder(weights.pk).iterdir())


@pytest.mark.django_db(transaction=True)
def test_a_full_disk_is_said_and_nothing_half_is_kept(hub: TestHub, importers: Team, settings: Any) -> None:
    """A limit on the size of files stands for the disk's end: the kernel refuses the write in the midst of a file."""
    weights = begun(hub, importers)
    _fetch_in_a_process(weights, settings, largest=2 * MIB)
    weights.refresh_from_db()
    assert (weights.status, weights.reason, weights.bytes_done) == ("failed", "disk_full", 0)
    assert not store.incoming_folder(weights.pk).exists()
    importing.retry(weights, actor="ada")
    fetching.fetch(weights.pk)
    weights.refresh_from_db()
    assert weights.status == "ready"


@pytest.mark.django_db(transaction=True)
def test_a_task_that_comes_three_times_downloads_once(hub: TestHub, importers: Team) -> None:
    weights = begun(hub, importers)
    hub.bytes_per_s = 30 * MIB

    def work(_: int) -> None:
        try:
            tasks.fetch_weights(str(weights.pk))
        finally:
            connections.close_all()

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(work, range(3)))
    weights.refresh_from_db()
    assert weights.status == "ready"
    assert hub.sent["large.gguf"] == len(LARGE)
    assert ranges(hub) == [""]


@pytest.mark.django_db
def test_a_lost_message_is_seen_by_the_sweep_and_a_lost_cause_ends(hub: TestHub, importers: Team) -> None:
    weights = begun(hub, importers)
    assert fetching.waiting() == [], "its message is still fresh"
    Weights.objects.update(progress_at=timezone.now() - timedelta(seconds=6))
    assert fetching.waiting() == [weights.pk]
    fetching.give_up_overdue()
    weights.refresh_from_db()
    assert weights.status == "downloading"
    Weights.objects.update(progress_at=timezone.now() - timedelta(hours=2))
    fetching.give_up_overdue()
    weights.refresh_from_db()
    assert (weights.status, weights.reason) == ("failed", "stalled")


@pytest.mark.django_db
def test_what_nobody_uses_is_swept(hub: TestHub, importers: Team) -> None:
    weights = begun(hub, importers)
    fetching.fetch(weights.pk)
    weights.refresh_from_db()
    root = store.blob_path("x").parent
    (root / ("0" * 64)).write_bytes(b"left by a kill")
    store.incoming_folder(weights.pk).mkdir(parents=True)
    gone = store.forget_strangers(older_than=timezone.now() - timedelta(hours=1))
    assert gone == 0, "it may be on its way"
    later = timezone.now() + timedelta(hours=1)
    time.sleep(0.01)
    assert store.forget_strangers(older_than=later) == 1
    assert [path.name for path in root.iterdir()] == [weights.sha256]
    assert Path(weights.path).exists()


def _fetch_in_a_process(weights: Weights, settings: Any, *, largest: int) -> None:
    database = connection.settings_dict
    code = (
        "import resource, signal, sys, json, django; django.setup();"
        " from django.conf import settings; from django.db import connections;"
        " said = json.loads(sys.argv[1]); connections['default'].settings_dict['NAME'] = said['name'];"
        " settings.WEIGHTS_DIR, settings.HUB_URL = said['weights'], said['hub'];"
        " signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        " resource.setrlimit(resource.RLIMIT_FSIZE, (said['largest'],) * 2);"
        " from catalog import fetching; from uuid import UUID; fetching.fetch(UUID(said['pk']))"
    )
    said = {
        "name": database["NAME"], "weights": settings.WEIGHTS_DIR, "hub": settings.HUB_URL, "largest": largest,
        "pk": str(weights.pk),
    }  # fmt: skip
    env = os.environ | {"DJANGO_SETTINGS_MODULE": "portal.settings"}
    subprocess.run([sys.executable, "-c", code, json.dumps(said)], cwd=ROOT, env=env, check=True, timeout=60)
