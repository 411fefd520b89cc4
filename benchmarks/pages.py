"""What pages cost with 5,000 models and 1,000 deployments: server time, queries, and the first paint in a browser.

    .venv/bin/python benchmarks/pages.py

Starts a portal of its own in a temporary DATA_DIR and ends it. Fills its database for the browser, and another beside
it for the queries, where no worker changes what is counted. Prints tables and, as its last line,
{"search_p95_ms", "search_queries", "max_queries", "fcp_ms"}: the 95th percentile of a search as htmx asks it, from the
first middleware to the last byte; the most queries of a search; the most of any page that answers GET, but Django's own
admin; the slowest page's median first contentful paint with nothing cached.
"""

import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
os.environ["LOG_LEVEL"] = "ERROR"
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "portal.settings")

from playwright.sync_api import Browser, sync_playwright

from tests.browsing import QUIET, chromium, sign_in
from tests.running import RunningPortal

MODELS, DEPLOYMENTS = 5_000, 1_000
SEARCHES, PAINTS = 200, 5
# What people type, letter by letter, with slips, and what they click; the views that show most.
ASKED = (
    "q=s", "q=sm", "q=smol", "q=smollm2", "q=smolm2", "q=claude opus", "q=cluade", "q=apache", "q=mini 3", "q=depseek",
    "path=both", "openness=open-weight&context=128k", "publisher=Anthropic", "commercial=yes&sort=price_in",
    "price=under-0.5&price=0.5-2", "hardware=h100", "q=coder&openness=open-weight&sort=context", "modality=image",
    "view=list&sort=newest", "q=zzzzzz", "page=100", "",
)  # fmt: skip
PAINTED = (
    "/", "/models/", "/models/smollm2-135m-instruct/", "/advisor/?model=smollm2-135m-instruct", "/deployments/",
    "/playground/", "/billing/", "/licences/", "/team/", "/keys/",
)  # fmt: skip
POSTED = 405


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="bench-pages-") as folder:
        portal = RunningPortal(Path(folder))
        try:
            portal.start()
            _use(portal)
            painted = paints(portal)
            searched, counted = in_a_database_of_its_own()
        finally:
            portal.end()
    print(f"{'page':44} {'first paint, ms: median':>24} {'worst':>7}")
    for address, times in painted.items():
        print(f"{address:44} {statistics.median(times):24.0f} {max(times):7.0f}")
    print(f"\n{'page':60} {'queries':>8} {'ms':>7} {'status':>7} {'kB':>7}")
    for row in sorted(counted, key=lambda row: (-row[1], row[0])):
        print(f"{row[0][:60]:60} {row[1]:8d} {row[2]:7.1f} {row[3]:7d} {row[4]:7.1f}")
    times, most, cold = searched
    p95 = statistics.quantiles(times, n=20)[-1]
    print(f"\n{len(times)} searches, ms: median {statistics.median(times):.1f}, p95 {p95:.1f}, worst {max(times):.1f}")
    print(f"the first, which reads the library, ms: {cold:.0f}")
    found = {
        "search_p95_ms": round(p95, 1),
        "search_queries": most,
        "max_queries": max(row[1] for row in counted),
        "fcp_ms": round(max(statistics.median(times) for times in painted.values())),
    }
    print(json.dumps(found))


def _use(portal: RunningPortal) -> None:
    """This process on the portal's database, as its own programs are."""
    for line in (portal.data_dir / "env").read_text().splitlines():
        name, _, value = line.partition("=")
        os.environ[name] = value
    os.environ["TEST_DATABASE_NAME"] = f"bench_pages_{os.getpid()}"
    import django

    django.setup()


def paints(portal: RunningPortal) -> dict[str, list[float]]:
    """Milliseconds to the first contentful paint, each in a browser that has seen nothing but the sign-in."""
    from accounts.models import Team
    from tests.factories import crowds

    crowds.fill(
        Team.objects.get(slug="demo"), models=MODELS, deployments=DEPLOYMENTS, states=("asleep", "failed", "stopped")
    )
    with sync_playwright() as playwright:
        path = chromium()
        assert path, "no Chromium on PATH: install it (Debian: apt-get install chromium)"
        browser = playwright.chromium.launch(executable_path=path, args=QUIET)
        signed = browser.new_context()
        sign_in(signed.new_page(), portal)
        state: Any = signed.storage_state()
        for address in PAINTED:  # as a portal that has been used: templates are compiled, the library is read
            _paint(browser, portal.url + address, state)
        return {address: [_paint(browser, portal.url + address, state) for _ in range(PAINTS)] for address in PAINTED}


def _paint(browser: Browser, url: str, state: Any) -> float:
    context = browser.new_context(storage_state=state, viewport={"width": 1440, "height": 900})
    page = context.new_page()
    page.goto(url, wait_until="load")
    found = page.evaluate(
        """() => new Promise(done => new PerformanceObserver(list => {
            const paint = list.getEntriesByName("first-contentful-paint")[0];
            if (paint) done(paint.startTime);
        }).observe({type: "paint", buffered: true}))"""
    )
    context.close()
    return float(found)


def in_a_database_of_its_own() -> tuple[tuple[list[float], int, float], list[tuple[str, int, float, int, float]]]:
    """(milliseconds of searches, the most queries of one, milliseconds of the first), and every page's row."""
    from django.db import connection
    from django.test import Client

    from accounts.models import Membership
    from tests.factories import crowds
    from tests.factories.accounts import MembershipFactory

    connection.close()
    connection.creation.create_test_db(verbosity=0, autoclobber=True)
    try:
        member: Membership = MembershipFactory(user__is_staff=True, user__is_superuser=True)
        crowds.fill(member.team, models=MODELS, deployments=DEPLOYMENTS)
        ids = crowds.furnish(member)
        with connection.cursor() as cursor:
            cursor.execute("ANALYZE")
        client = Client(headers={"host": "127.0.0.1"})
        client.force_login(member.user)
        return searches(client), [row for address in crowds.addresses(ids) if (row := _page(client, address))]
    finally:
        connection.creation.destroy_test_db(os.environ["TEST_DATABASE_NAME"], verbosity=0)


def searches(client: Any) -> tuple[list[float], int, float]:
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    def ask(query: str) -> float:
        began = time.perf_counter()
        answer = client.get(f"/models/?{query}", headers={"hx-request": "true"})
        assert answer.status_code == 200, query
        return (time.perf_counter() - began) * 1000

    cold = ask("q=warm")
    most = 0
    for query in ASKED:
        with CaptureQueriesContext(connection) as seen:
            ask(query)
        most = max(most, len(seen))
    return [ask(ASKED[number % len(ASKED)]) for number in range(SEARCHES)], most, cold


def _page(client: Any, address: str) -> tuple[str, int, float, int, float] | None:
    """(address, queries, milliseconds, status, kB); None for what takes no GET. Asked twice: the second counts."""
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    if client.get(address).status_code == POSTED:
        return None
    with CaptureQueriesContext(connection) as seen:
        began = time.perf_counter()
        answer = client.get(address)
        body = b"".join(answer.streaming_content) if answer.streaming else answer.content
        took = (time.perf_counter() - began) * 1000
    assert answer.status_code < 500, f"{address}: {answer.status_code}"
    return address, len(seen), took, answer.status_code, len(body) / 1000


if __name__ == "__main__":
    main()
