"""Made-up usage for benchmarks/billing.py, by COPY: events and their ledger rows, as they lie in the tables."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from django.db import connection

INPUT, OUTPUT, CACHED, SECOND = 5, 25, 1, 10  # USD per million tokens, per 100,000 seconds
MODELS, KEYS, MEMBERS, TAGS, DEPLOYMENTS = 40, 9, 6, 5, 4
EVENT = (
    "id, team_id, started_at, ended_at, recorded_at, path, sku, source, model_name, deployment_name, api_key_name, "
    "member, tag, quality, quantities, cost"
)
ENTRY = (
    "team_id, event_id, kind, at, path, sku, source, model_name, deployment_name, api_key_name, member, tag, meter, "
    "quantity, unit_price, amount, currency, reason, quality, calls, uncached_price"
)
BLOCK = 5_000


@dataclass(frozen=True, slots=True)
class Span:
    """`many` events, numbered from `first`, over the teams in turn and evenly over [begins, ends). Calls alone, or
    every tenth a minute of compute."""

    teams: tuple[UUID, ...]
    begins: datetime
    ends: datetime
    many: int
    first: int = 0
    calls_alone: bool = False


def fill(span: Span) -> None:
    """Events first, their ledger rows after them, in the order of time. Checks of foreign keys are left out."""
    with connection.cursor() as cursor:
        cursor.execute("SET session_replication_role = replica")
        for table, columns, place in (("billing_usageevent", EVENT, 0), ("billing_ledgerentry", ENTRY, 1)):
            with cursor.copy(f"COPY {table} ({columns}) FROM STDIN") as copy:
                for block in _blocks(span, place):
                    copy.write(block)
        cursor.execute("SET session_replication_role = DEFAULT")


def _blocks(span: Span, place: int) -> Iterator[str]:
    block: list[str] = []
    for texts in _texts(span):
        block.append(texts[place])
        if len(block) == BLOCK:
            yield "".join(block)
            block = []
    yield "".join(block)


def _texts(span: Span) -> Iterator[tuple[str, str]]:
    dice = random.Random(span.first)  # noqa: S311 - not for secrets
    step = (span.ends - span.begins) / span.many
    teams = [str(team) for team in span.teams]
    for number in range(span.many):
        at = (span.begins + step * number).isoformat()
        key = f"{span.first + number:032x}"
        team = teams[number % len(teams)]
        if number % 10 == 9 and not span.calls_alone:
            yield _slice(key, team, at, dice.randrange(DEPLOYMENTS))
        else:
            yield _call(key, team, at, draw=dice.randrange(MODELS * KEYS), number=number)


def _call(key: str, team: str, at: str, *, draw: int, number: int) -> tuple[str, str]:
    model, person, tokens_in, tokens_out = draw % MODELS, draw // MODELS, 500 + number % 4000, 1 + number % 700
    names = (
        f"hosted\thosted:model-{model}\tmodel-{model}\tModel {model}\t\tkey-{person} (mp_{person})"
        f"\tm{person % MEMBERS}@example.com\ttag-{person % TAGS}"
    )
    cost = _usd(tokens_in * INPUT + tokens_out * OUTPUT, 6)
    used = f'{{"tokens.input": "{tokens_in}", "tokens.output": "{tokens_out}"}}'
    event = f"{key}\t{team}\t{at}\t{at}\t{at}\t{names}\tmeasured\t{used}\t{cost}\n"
    entry = f"{team}\t{key}\tusage\t{at}\t{names}\t"
    costs = _usd(tokens_in * INPUT, 6), _usd(tokens_out * OUTPUT, 6)
    lines = (
        f"{entry}tokens.input\t{tokens_in}\t{_usd(INPUT, 6)}\t{costs[0]}\tUSD\t\tmeasured\t1\t\\N\n"
        f"{entry}tokens.output\t{tokens_out}\t{_usd(OUTPUT, 6)}\t{costs[1]}\tUSD\t\tmeasured\t0\t\\N\n"
    )
    return event, lines


def _slice(key: str, team: str, at: str, deployment: int) -> tuple[str, str]:
    names = f"serverless\thardware:gpu\tteam/d{deployment}\tOwn {deployment}\tteam/d{deployment}\t\t\t"
    cost = _usd(60 * SECOND, 5)
    event = f'{key}\t{team}\t{at}\t{at}\t{at}\t{names}\tmeasured\t{{"compute.seconds": "60"}}\t{cost}\n'
    entry = f"{team}\t{key}\tusage\t{at}\t{names}\tcompute.seconds\t60\t{_usd(SECOND, 5)}\t{cost}"
    return event, f"{entry}\tUSD\t\tmeasured\t0\t\\N\n"


def _usd(amount: int, decimals: int) -> str:
    return f"{amount // 10**decimals}.{amount % 10**decimals:0{decimals}d}"


def months_back(now: datetime, months: int) -> datetime:
    """The first moment of the month so many before that of `now`."""
    first = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    for _ in range(months):
        first = (first - timedelta(days=1)).replace(day=1)
    return first
