"""What tests of real engine processes say again and again."""

import contextlib
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from deployments.launch import LaunchSpec

SMALL_ENGINE = Path(__file__).with_name("small_engine.py")


def small_spec(name: str, *extra: str, script: str = str(SMALL_ENGINE)) -> LaunchSpec:
    argv = (sys.executable, script, "--tag={tag}", "--port", "{port}", "--key-file", "{key_file}", *extra)
    return LaunchSpec(name=name, argv=argv, key="k" * 43)


def wait_until(fact: Callable[[], bool], *, seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while not fact():
        assert time.monotonic() < end, f"not true within {seconds} s"
        time.sleep(0.02)


def pid_of(root: Path, name: str, part: str) -> int:
    return int(json.loads((root / name / "run.json").read_text())[part]["pid"])


def tagged(instance: str) -> list[psutil.Process]:
    return [
        process
        for process in psutil.process_iter(["cmdline"])
        if any(part.startswith(f"--tag={instance}:") for part in process.info["cmdline"] or [])
    ]


def end_everything(instance: str) -> None:
    """For a test's end: no engine of it is left, whatever it did."""
    for process in tagged(instance):
        with contextlib.suppress(psutil.Error):
            process.kill()
    wait_until(lambda: not tagged(instance))
