"""2 GB through the browser's path: Chromium chooses a file on /weights/upload, the web process is killed at half.

    .venv/bin/python benchmarks/upload.py [MB] [--uncut]

Starts a portal of its own. Prints memory of the web process as the bytes come, and as its last line one JSON object:
`mb_per_s`, `growth_mb` (the peak over what the process had before, by process) and `resumed_at` (a part of the file).
"""

import argparse
import hashlib
import json
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

import psutil
from playwright.sync_api import sync_playwright

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from tests.browsing import QUIET, chromium, sign_in
from tests.running import RunningPortal

MB = 1_000_000


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    asked.add_argument("megabytes", nargs="?", type=int, default=2000)
    asked.add_argument("--uncut", action="store_true", help="don't kill the web process at half")
    options = asked.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="modelport-bench-"))
    portal = RunningPortal(folder / "data")
    portal.data_dir.mkdir()
    try:
        path = _file(folder / "weights.gguf", options.megabytes * MB)
        portal.start()
        _measure(portal, path, cut=not options.uncut)
    finally:
        portal.end()
        shutil.rmtree(folder, ignore_errors=True)


def _measure(portal: RunningPortal, path: Path, *, cut: bool) -> None:
    size = path.stat().st_size
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=QUIET)
        page = browser.new_page()
        sign_in(page, portal)
        page.goto(f"{portal.url}/weights/upload")
        page.get_by_label("Name").fill("bench")
        began, before = time.monotonic(), _memory(portal)
        growth, resumed_at, next_line, seen = 0, None, 0.0, 0
        page.locator("#choose").set_input_files(path)
        print(f"{'arrived':>12} {'seconds':>8} {'web MB':>8}")
        while (arrived := _arrived(portal)) < size:
            memory = _memory(portal)
            if memory and (before or arrived > seen):  # a new process is measured from its first bytes on
                before = before or memory
                growth = max(growth, memory - before)
            if arrived >= next_line * size:
                print(f"{arrived / MB:9.0f} MB {time.monotonic() - began:8.1f} {memory / MB:8.1f}", flush=True)
                next_line += 0.1
            if cut and arrived >= size // 2:
                cut = False
                portal.kill("web", signal.SIGKILL)
                resumed_at = _arrived(portal) / size
                before, seen = 0, _arrived(portal)
                print(f"{'kill -9':>12}", flush=True)
            page.wait_for_timeout(100)
        seconds = time.monotonic() - began
        page.locator("li[data-state=complete]").wait_for()
        browser.close()
    (stored,) = (portal.data_dir / "uploads").glob("*.part")
    assert _digest(stored) == _digest(path), "the bytes differ"
    print(f"{size / MB:9.0f} MB {seconds:8.1f} {_memory(portal) / MB:8.1f}  sha256 is the file's")
    result = {"mb_per_s": round(size / MB / seconds, 1), "growth_mb": round(growth / MB, 1)}
    print(json.dumps(result | {"resumed_at": round(resumed_at, 3) if resumed_at else None}))


def _arrived(portal: RunningPortal) -> int:
    with portal.db() as connection:
        row = connection.execute('SELECT coalesce(sum("offset"), 0) FROM catalog_upload').fetchone()
    assert row
    return int(row[0])


def _memory(portal: RunningPortal) -> int:
    try:
        return sum(psutil.Process(pid).memory_info().rss for pid in portal.pids("web"))
    except psutil.Error:
        return 0


def _file(path: Path, size: int) -> Path:
    """Bytes that don't compress and are the same each time."""
    block = hashlib.shake_256(b"weights").digest(MB)
    with path.open("wb") as file:
        for number in range(size // MB):
            file.write(number.to_bytes(8, "big") + block[8:])
    return path


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


if __name__ == "__main__":
    main()
