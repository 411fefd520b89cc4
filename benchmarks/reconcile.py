"""What one sweep costs: 10 deployments with one awake, and 10,000 with 100 awake, on real engine processes.

    .venv/bin/python benchmarks/reconcile.py

Makes a database of its own beside the one that DATABASE_URL names and drops it; with none given, in an embedded server.
Prints a table and, as its last line,
{"sweep_cpu_s_10k", "queries_10", "queries_10k"}: medians of ROUNDS sweeps in which nothing had to be done.
"""

import contextlib
import json
import os
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
if "DATABASE_URL" not in os.environ:
    os.chdir(ROOT)
    os.execv(sys.executable, [sys.executable, "-m", "portal.embedded", "run", "--", sys.executable, __file__])  # noqa: S606
sys.path.insert(0, str(ROOT))
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "portal.settings")
os.environ.setdefault("SECRET_KEY", "for-benchmarks-only")
os.environ["TEST_DATABASE_NAME"] = f"bench_reconcile_{os.getpid()}"
os.environ["INSTANCE_ID"] = uuid.uuid4().hex
os.environ["LOG_LEVEL"] = "ERROR"

import django

django.setup()

import psutil
from django.conf import settings
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from deployments import reconcile
from deployments.backends import Seen, backends
from deployments.launch import LaunchSpec
from deployments.models import Deployment, Replica, Version
from tests.factories.accounts import TeamFactory
from tests.factories.deployments import smollm2

ROUNDS = 7
# The least that an engine has to be: a process with our tag that answers its health check.
ENGINE = """
import socket, sys
server = socket.create_server(("127.0.0.1", int(sys.argv[1])), backlog=16)
while True:
    asking, _ = server.accept()
    asking.recv(4096)
    asking.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 0\\r\\nConnection: close\\r\\n\\r\\n")
    asking.close()
"""


def main() -> None:
    settings.SMOLLM2_GGUF = settings.SMOLLM2_GGUF or __file__  # any file: no engine of this benchmark reads it
    connection.creation.create_test_db(verbosity=0, autoclobber=True)
    folder = tempfile.TemporaryDirectory()
    settings.DEPLOYMENT_BACKENDS = {
        "local": {"BACKEND": "deployments.backends.local.LocalBackend", "OPTIONS": {"root": folder.name}}
    }
    backends.settings = backends.configure_settings(None)
    try:
        rows = [measure("10 deployments, 1 awake", quiet=9, awake=1)]
        rows.append(measure("10,000 deployments, 100 awake", quiet=9_891, awake=99))
        rows.append(("the same, a minute of each to bill", *sweep_costs(before=bill_a_minute)))
    finally:
        end_engines()
        folder.cleanup()
        connection.creation.destroy_test_db(os.environ["TEST_DATABASE_NAME"], verbosity=0)
    print(f"{'':40} {'queries':>8} {'CPU s':>8} {'wall s':>8}")
    for name, queries, cpu, wall in rows:
        print(f"{name:40} {queries:8d} {cpu:8.3f} {wall:8.3f}")
    print(json.dumps({"sweep_cpu_s_10k": round(rows[1][2], 3), "queries_10": rows[0][1], "queries_10k": rows[1][1]}))


def measure(name: str, *, quiet: int, awake: int) -> tuple[str, int, float, float]:
    make(quiet=quiet, awake=awake)
    return name, *sweep_costs()


def make(*, quiet: int, awake: int) -> None:
    """So many more: asleep, failed and stopped by turns; and awake with an engine each."""
    model, hardware = smollm2()
    team = TeamFactory()
    common = {
        "team": team, "model": model, "weights": model.weights.get(), "hardware": hardware, "engine": "llama_cpp",
        "backend": "local", "min_replicas": 1,
    }  # fmt: skip
    states = ("asleep", "failed", "stopped")
    sleepers = [Deployment(**common, name=f"q{n}", status=states[n % 3]) for n in range(quiet)]
    Deployment.objects.bulk_create(sleepers, batch_size=1000)
    wakers = Deployment.objects.bulk_create(Deployment(**common, name=f"a{n}", status="ready") for n in range(awake))
    versions = Version.objects.bulk_create(
        Version(deployment=row, number=1, weights=row.weights, hardware=hardware, engine="llama_cpp") for row in wakers
    )
    for row, version in zip(wakers, versions, strict=True):
        row.version = version
    Deployment.objects.bulk_update(wakers, ["version"])
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")
    started = []
    for row in wakers:
        replica = Replica.objects.create(deployment=row, version=row.version, ready_at=timezone.now())
        argv = (sys.executable, "-S", "-E", "-c", ENGINE, "{port}", "--tag={tag}")
        backends["local"].ensure(LaunchSpec(name=replica.name, argv=argv, key="k"))
        started.append(replica.name)
    while any(seen.seen != Seen.READY for seen in backends["local"].observe_all(started).values()):
        time.sleep(0.1)
    while time.localtime().tm_sec > 40:  # no minute's end among the sweeps that are measured
        time.sleep(1)
    reconcile.sweep()


def sweep_costs(before: Callable[[], None] = lambda: None) -> tuple[int, float, float]:
    """Medians: queries, seconds of CPU of this process, seconds."""
    queries, cpu, wall = [], [], []
    for _ in range(ROUNDS):
        before()
        with CaptureQueriesContext(connection) as count:
            began, used = time.perf_counter(), time.process_time()
            unfollowed = reconcile.sweep()
            cpu.append(time.process_time() - used)
            wall.append(time.perf_counter() - began)
        assert not unfollowed, "something was in motion"
        queries.append(len(count))
    assert not Deployment.objects.filter(status__in=["starting", "pending"]).exists(), "something has moved"
    return int(statistics.median(queries)), statistics.median(cpu), statistics.median(wall)


def bill_a_minute() -> None:
    """All as if nothing had been billed for the last minute and a half."""
    Replica.objects.update(billed_until=timezone.now() - timedelta(seconds=90))


def end_engines() -> None:
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if any(settings.INSTANCE_ID in part for part in process.cmdline()):
                process.kill()


if __name__ == "__main__":
    main()
