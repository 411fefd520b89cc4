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
import uuid
from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
os.environ["LOG_LEVEL"] = "ERROR"
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "portal.settings")

from playwright.sync_api import Browser, sync_playwright

from tests.browsing import CHROMIUMS, QUIET, sign_in
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
PAINTED = ("/", "/models/", "/models/smollm2-135m-instruct/", "/deployments/", "/playground/", "/billing/", "/keys/")
STREAMS = {"deployment-stream", "deployment-list-stream"}
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

    fill(Team.objects.get(slug="demo"), states=("asleep", "failed", "stopped"))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=_chromium(), args=QUIET)
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


def _chromium() -> str:
    import shutil

    found = next(filter(None, map(shutil.which, CHROMIUMS)), None)
    assert found, "no Chromium on PATH: install it (Debian: apt-get install chromium)"
    return found


def in_a_database_of_its_own() -> tuple[tuple[list[float], int, float], list[tuple[str, int, float, int, float]]]:
    """(milliseconds of searches, the most queries of one, milliseconds of the first), and every page's row."""
    from django.db import connection
    from django.test import Client

    from accounts.models import Membership
    from tests.factories.accounts import MembershipFactory

    connection.close()
    connection.creation.create_test_db(verbosity=0, autoclobber=True)
    try:
        member: Membership = MembershipFactory(user__is_staff=True, user__is_superuser=True)
        fill(member.team, states=("ready", "asleep", "failed", "stopped", "starting"))
        ids = furnish(member)
        with connection.cursor() as cursor:
            cursor.execute("ANALYZE")
        client = Client(headers={"host": "127.0.0.1"})
        client.force_login(member.user)
        return searches(client), [row for address in addresses(ids) if (row := _page(client, address))]
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


def addresses(ids: dict[str, dict[str, Any]]) -> Iterator[str]:
    """One of each route, and the busiest forms of some. A route whose ids nobody gave is an error, never left out."""
    from django.urls import get_resolver, reverse

    for name, kwargs in _routes(get_resolver()):
        if name in STREAMS:
            continue
        missing = set(kwargs) - set(ids.get(name, ids["*"]))
        assert not missing, f"benchmarks/pages.py has no {missing} for the route {name}"
        yield reverse(name, kwargs={key: ids.get(name, ids["*"])[key] for key in kwargs})
    model = reverse("model-detail", args=["smollm2-135m-instruct"])
    yield from (f"{model}?tab={tab}" for tab in ("use", "versions", "licence", "usage"))
    yield reverse("model-compare") + "?m=smollm2-135m-instruct&m=claude-opus-4.7&m=deepseek-v4-pro&m=glm-5"
    yield reverse("model-list") + "?view=list&q=claude"
    yield reverse("deployment-list") + "?over=all"
    yield reverse("deploy-new") + "?model=smollm2-135m-instruct"
    yield from (f"{reverse('costs')}?split={split}" for split in ("deployment", "key"))


def _routes(resolver: Any) -> Iterator[tuple[str, list[str]]]:
    for pattern in resolver.url_patterns:
        if hasattr(pattern, "url_patterns"):
            if getattr(pattern, "namespace", None) != "admin":
                yield from _routes(pattern)
        elif pattern.name:
            yield pattern.name, list(pattern.pattern.regex.groupindex)


def fill(team: Any, *, states: tuple[str, ...]) -> None:
    """The library, the team's deployments in these states by turns, and calls of the last days."""
    from django.conf import settings
    from django.db import transaction
    from django.utils import timezone

    from catalog.models import Hardware, Weights
    from deployments.models import Deployment, DeploymentEvent, Replica, Version
    from tests.factories import libraries
    from tests.factories.billing import billed

    settings.SMOLLM2_GGUF = settings.SMOLLM2_GGUF or __file__
    with transaction.atomic():
        libraries.make(MODELS)
    weighed = list(Weights.objects.filter(team=None).select_related("model")[:40])
    hardware = Hardware.objects.get(slug="cpu-small")
    rows = Deployment.objects.bulk_create(
        Deployment(
            team=team, name=f"d{number}", model=weighed[number % len(weighed)].model,
            weights=weighed[number % len(weighed)], hardware=hardware, engine="llama_cpp", backend="local",
            status=states[number % len(states)], reason="asked", created_by="bench",
        )
        for number in range(DEPLOYMENTS)
    )  # fmt: skip
    versions = Version.objects.bulk_create(
        Version(deployment=row, number=1, weights=row.weights, hardware=hardware, engine="llama_cpp") for row in rows
    )
    for row, version in zip(rows, versions, strict=True):
        row.version = version
    Deployment.objects.bulk_update(rows, ["version"], batch_size=500)
    now = timezone.now()
    Replica.objects.bulk_create(
        Replica(deployment=row, version=row.version, started_at=now, ready_at=now)
        for row in rows
        if row.status == "ready"
    )
    DeploymentEvent.objects.bulk_create(
        DeploymentEvent(deployment=row, before=before, after=after, reason="asked")
        for row in rows
        for before, after in (("", "pending"), ("pending", "starting"), ("starting", "ready"), ("ready", "asleep"))
    )
    for number in range(60):
        name = f"{team.slug}/d{number % 30}"
        through = {"path": "serverless", "source": name, "deployment_name": name} if number % 2 else {}
        moment = now - timedelta(days=number % 25, hours=1)
        billed(team, started_at=moment, api_key_name=f"key {number % 12}", **through)


def furnish(member: Any) -> dict[str, dict[str, Any]]:
    """One of everything that has a page (and many of what lists have), and route -> its ids; `*` for most."""
    from django.utils import timezone

    from accounts import keys
    from billing.models import Budget
    from catalog.models import Weights
    from catalog.uploads.models import Draft
    from deployments.models import Deployment
    from deployments.validation.models import Edition, PromptSet, ValidationPlan, ValidationRun
    from gateway.models import Alias, AliasTarget, Limits, RequestRecord

    team, now = member.team, timezone.now()
    issued = [keys.issue(team, name=f"key {number}", created_by=member.user)[0] for number in range(30)]
    aliases = Alias.objects.bulk_create(Alias(team=team, name=f"alias-{number}") for number in range(40))
    AliasTarget.objects.bulk_create(
        AliasTarget(alias=one, model="smollm2-135m-instruct", position=place) for one in aliases for place in range(3)
    )
    Limits.objects.bulk_create(Limits(team=team, api_key=key, requests_per_minute=60) for key in issued)
    Budget.objects.create(team=team, usd=Decimal(100))
    budgets = [
        Budget.objects.create(team=team, scope="key", subject=str(key.pk), label=key.name, usd=Decimal(5))
        for key in issued
    ]
    records = RequestRecord.objects.bulk_create(
        RequestRecord(
            team=team, at=now - timedelta(minutes=number), request_id=uuid.uuid4().hex, api_key_name="key 1",
            surface="chat", asked="smollm2-135m-instruct", status=200, total_ms=100, cost=Decimal("0.0001"),
        )
        for number in range(500)
    )  # fmt: skip
    sample = Weights.objects.filter(team=None).select_related("model__licence")[0]
    own = Weights.objects.bulk_create(
        Weights(
            model=sample.model, team=team, version=100 + number, source="made for this", source_kind="upload",
            revision=f"own {number}", format="gguf", path="/none", sha256="1" * 64, size_bytes=10**9,
        )
        for number in range(60)
    )  # fmt: skip
    drafts = Draft.objects.bulk_create(
        Draft(team=team, name=f"draft {number}", created_by="bench") for number in range(20)
    )
    sets = PromptSet.objects.bulk_create(PromptSet(team=team, name=f"set {number}") for number in range(30))
    cases = [{"name": "one", "prompt": "Hello", "checks": [{"kind": "contains", "value": "x"}]}]
    editions = Edition.objects.bulk_create(Edition(prompt_set=one, number=1, cases=cases) for one in sets)
    deployment = Deployment.objects.filter(team=team, status="ready")[0]
    ValidationPlan.objects.create(deployment=deployment, prompt_set=sets[0])
    runs = ValidationRun.objects.bulk_create(
        ValidationRun(
            team=team, deployment=deployment, version=deployment.version, edition=editions[0], trigger="demand",
            status="passed", deadline_at=now, started_at=now, finished_at=now,
        )
        for _ in range(30)
    )  # fmt: skip
    anything = {
        "pk": deployment.pk, "run": runs[0].pk, "slug": "smollm2-135m-instruct", "month": f"{now:%Y-%m}",
        "key": "none", "uidb36": "1", "name": "MP-000001",
    }  # fmt: skip
    weights, draft, alias, budget = own[0].pk, drafts[0].pk, aliases[0].pk, budgets[0].pk
    pks: dict[str, Any] = {
        "weights-detail": weights, "weights-notes": weights, "weights-retry": weights, "weights-remove": weights,
        "api-weights-detail": weights, "api-weights-retry": weights, "draft-detail": draft, "draft-finish": draft,
        "draft-give-up": draft, "api-draft": draft, "api-draft-finish": draft, "alias-edit": alias,
        "alias-delete": alias, "api-alias": alias, "budget-edit": budget, "budget-delete": budget, "api-budget": budget,
        "request-detail": records[0].pk, "prompt-set": sets[0].pk, "prompt-set-remove": sets[0].pk,
        "api-prompt-set": sets[0].pk, "key-revoke": issued[0].pk, "reconciliation-report": 1,
    }  # fmt: skip
    return {"*": anything} | {name: anything | {"pk": pk} for name, pk in pks.items()}


if __name__ == "__main__":
    main()
