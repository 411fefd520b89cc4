"""The provider's meter and ours, held against each other call by call, after kills, restarts and cut streams.

PROOF_CALLS=10000 is the whole of it: three kill -9 of the gateway, one of the worker, one restart of PostgreSQL, and
5 % of the calls cut in the middle of their stream, by the provider or by the caller. docs/billing.md has its results.
"""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import aiohttp
import pytest

from portal.embedded import ROOT
from tests.calls import wait_until
from tests.fakes import metered_upstream
from tests.fakes.metered_upstream import PER_MESSAGE, Bill, MeteredProvider, cut_after, inputs, prompt_of
from tests.running import RunningPortal

pytestmark = [pytest.mark.portal, pytest.mark.xdist_group("faults")]

CALLS = int(os.environ.get("PROOF_CALLS", "200"))
AT_ONCE = 32
KINDS = ("whole", "running", "final", "claude")
WHOLE = CALLS >= 1000
UNFINISHED = aiohttp.ClientError, OSError, asyncio.TimeoutError


@dataclass
class Proof:
    """A running portal, a provider with a meter, a key that only this test uses, and what became of each call: how it
    ended and how many tokens its caller has heard."""

    portal: RunningPortal
    provider: MeteredProvider
    key: str
    tag: str
    ends: dict[int, str] = field(default_factory=dict)
    heard: Counter[int] = field(default_factory=Counter)
    killed_at: datetime = datetime(2026, 1, 1, tzinfo=UTC)

    def rows(self, sql: str, *more: Any) -> list[tuple[Any, ...]]:
        with self.portal.db() as connection:
            return connection.execute(sql, [f"proof-{self.tag} (%", *more]).fetchall()

    def open(self) -> int:
        sql = "SELECT count(*) FROM billing_reservation WHERE api_key_name LIKE %s AND state = 'open'"
        return int(self.rows(sql)[0][0])

    def kill(self, name: str) -> None:
        """kill -9, but for PostgreSQL, which is stopped fast, as a restart does. The supervisor starts it again."""
        self.portal.kill(name, signal.SIGINT if name == "postgres" else signal.SIGKILL)
        if name == "web":
            self.killed_at = datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Row:
    """One usage event with its ledger lines: how many of each class, and what it is based on."""

    quality: str
    swept: bool
    quantities: Counter[str]

    @property
    def number(self) -> int:
        """The prompts tell the calls apart: every class of the input together is the call's number."""
        return self.input.total() - PER_MESSAGE

    @property
    def input(self) -> Counter[str]:
        return inputs(self.quantities)

    @property
    def said(self) -> int:
        """Tokens of the answer."""
        return (self.quantities - self.input).total()


@pytest.fixture
def proof(running_portal: RunningPortal) -> Iterator[Proof]:
    tag = uuid4().hex[:8]
    with metered_upstream.running() as provider:
        offers = [(f"{kind}-{tag}", "anthropic" if kind == "claude" else "openai", kind) for kind in KINDS]
        code = (
            "from tests.gateway.conftest import offer, CLAUDE_PRICES; from accounts import sealing;"
            "from accounts import keys; from accounts.models import Team;"
            "from catalog.models import Provider; sealed = sealing.seal('sk-provider-secret');"
            f"make = lambda wire: Provider.objects.create(slug=f'{{wire}}-{tag}', name=f'{{wire}} {tag}', wire=wire,"
            f" base_url='{provider.base_url}', sealed_key=sealed);"
            "made = {wire: make(wire) for wire in ('openai', 'anthropic')};"
            f"[offer(name, made[wire], CLAUDE_PRICES, upstream_model=kind) for name, wire, kind in {offers!r}];"
            f"print(keys.issue(Team.objects.get(slug='demo'), name='proof-{tag}')[1])"
        )
        key = running_portal.manage("shell", "-c", code).splitlines()[-1]
        yield Proof(running_portal, provider, key, tag)


def test_the_ledger_and_the_providers_meter_agree_on_every_call(proof: Proof, tmp_path: Path) -> None:
    began = time.monotonic()
    asyncio.run(_all(proof))
    took = time.monotonic() - began
    _let_the_sweep_come(proof)
    found = _rows(proof)
    bills = proof.provider.bills
    assert len(bills) == CALLS
    assert len(found) == len({row.number for row in found}), "a call is billed twice"
    rows = {row.number: row for row in found}
    assert rows.keys() <= bills.keys(), "a call is billed that the provider never met"
    for number, bill in bills.items():
        _check(rows.get(number), bill, end=proof.ends[number], heard=proof.heard[number])
    assert _lines(proof) == _sum(row.quantities for row in found), "the ledger's lines are the events'"
    assert proof.portal.manage("check_ledger")
    _check_reconciliation(proof, rows, tmp_path / "usage.csv")
    _report(proof, rows, took)


def _check(row: Row | None, bill: Bill, *, end: str, heard: int) -> None:
    """One call by what became of it."""
    said = (bill, row, end, heard)
    if row is None:
        assert (end, heard) == ("broken", 0), f"what was delivered is billed: {said}"
    elif end == "whole":
        assert row.quality == "measured", said
    if row is None or row.quality == "measured":
        assert row is None or row.quantities == bill.metered, said
        return
    if row.swept:  # its gateway left no file of it: the last estimate it had said
        assert end == "broken", said
        return
    if end == "cut":
        assert row.said == bill.sent, said
    else:  # killed: what the provider had sent and nobody has read any more is not billed; at least one token is
        assert heard <= row.said <= max(bill.sent, 1), said
    assert row.input.total() == bill.input.total(), said
    if bill.model != "final":  # its classes had been told before
        assert row.input == bill.input, said


async def _all(proof: Proof) -> None:
    """Every call once, AT_ONCE at a time, and the faults in their midst."""
    numbers = iter(range(1, CALLS + 1))
    faults = {CALLS // 3: ("web",), CALLS * 2 // 3: ("postgres",)}
    if WHOLE:
        faults = {CALLS // 5: ("web",), CALLS * 2 // 5: ("web", "worker"), CALLS * 3 // 5: ("web",)}
        faults |= {CALLS * 4 // 5: ("postgres",)}
    loop = asyncio.get_running_loop()
    headers = {"authorization": f"Bearer {proof.key}", "x-api-key": proof.key, "anthropic-version": "2023-06-01"}
    connector = aiohttp.TCPConnector(limit=AT_ONCE)
    async with aiohttp.ClientSession(proof.portal.url, headers=headers, connector=connector) as session:

        async def work() -> None:
            for number in numbers:
                for name in faults.get(number, ()):
                    await loop.run_in_executor(None, proof.kill, name)
                await _until_met(proof, session, number)

        await asyncio.gather(*(work() for _ in range(AT_ONCE)))


async def _until_met(proof: Proof, session: aiohttp.ClientSession, number: int) -> None:
    """A call that nobody took (no gateway, no database) is made again; one that the provider has met is not."""
    end = time.monotonic() + 120
    while number not in proof.provider.bills:
        assert time.monotonic() < end, f"call {number} is not taken"
        try:
            proof.ends[number] = await asyncio.wait_for(_call(proof, session, number), 60)
        except UNFINISHED:
            proof.ends[number] = "broken"
        if number not in proof.provider.bills:
            await asyncio.sleep(0.2)


async def _call(proof: Proof, session: aiohttp.ClientSession, number: int) -> str:
    """How it ended for the caller: whole, cut (by the provider, or by itself), or broken (by a fault of ours)."""
    kind, fate = kind_of(number), fate_of(number)
    user = f"{number} {fate}"
    body: dict[str, Any] = {
        "model": f"{kind}-{proof.tag}",
        "messages": [{"role": "user", "content": prompt_of(number)}],
    }
    body |= {"metadata": {"user_id": user}, "max_tokens": 64} if kind == "claude" else {"user": user}
    body |= {"stream": True} if kind != "whole" else {}
    path = "/v1/messages" if kind == "claude" else "/v1/chat/completions"
    seen = b""
    async with session.post(path, json=body) as answer:
        if kind == "whole":
            said = await answer.json() if answer.status == 200 else {}
            proof.heard[number] = said.get("usage", {}).get("completion_tokens", 0)
            return "whole" if proof.heard[number] else "broken"
        async for piece in answer.content.iter_any():
            seen += piece
            proof.heard[number] = seen.count(b"tok ")
            if fate == "left" and proof.heard[number] >= cut_after(number):
                answer.close()
                return "cut"
    if answer.status != 200:
        return "broken"
    last = b"message_stop" if kind == "claude" else b"data: [DONE]"
    if last in seen[-80:]:
        return "whole"
    return "cut" if fate == "cut" and proof.heard[number] >= cut_after(number) else "broken"


def kind_of(number: int) -> str:
    return KINDS[number // 3 % 4]


def fate_of(number: int) -> str:
    """5 % are cut, all of them streams: half by the provider (`cut`), half by their caller (`left`)."""
    if number % 20 != 7:
        return "whole"
    return ("cut", "left")[number // 60 % 2]


def _let_the_sweep_come(proof: Proof) -> None:
    """The leases of what a dead gateway left run out, and the sweep settles it. The short form does not wait: it moves
    the leases of calls that began before the last kill, which nobody renews any more."""
    if not WHOLE:
        move = "UPDATE billing_reservation SET lease_until = now() - interval '1 s'"
        with proof.portal.db() as connection:
            connection.execute(
                f"{move} WHERE api_key_name LIKE %s AND state = 'open' AND started_at < %s",
                [f"proof-{proof.tag} (%", proof.killed_at],
            )
    wait_until(lambda: proof.open() == 0, seconds=120)


def _rows(proof: Proof) -> list[Row]:
    sql = """
        SELECT v.quality, r.closed_at >= r.lease_until AND v.ended_at = r.lease_until, v.quantities
        FROM billing_usageevent v JOIN billing_reservation r ON r.id = v.id WHERE v.api_key_name LIKE %s"""
    return [
        Row(quality, swept, +Counter({meter: int(many) for meter, many in quantities.items()}))
        for quality, swept, quantities in proof.rows(sql)
    ]


def _lines(proof: Proof) -> Counter[str]:
    sql = "SELECT meter, sum(quantity) FROM billing_ledgerentry WHERE api_key_name LIKE %s GROUP BY meter"
    return +Counter({meter: int(many) for meter, many in proof.rows(sql)})


def _check_reconciliation(proof: Proof, rows: dict[int, Row], path: Path) -> None:
    """The provider's meter as the file that it would export, held against the ledger by the portal itself: the drift
    that it says is what is left by cuts and kills, and nothing else."""
    ours, theirs = {kind: Counter[str]() for kind in KINDS}, {kind: Counter[str]() for kind in KINDS}
    for number, bill in proof.provider.bills.items():
        theirs[bill.model].update(_folded(bill.metered))
        ours[bill.model].update(_folded(rows[number].quantities) if number in rows else {})
    day = datetime.now(UTC).date()
    lines = [
        f"{day},{kind}-{proof.tag},{meter},{many}" for kind in KINDS for meter, many in sorted(theirs[kind].items())
    ]
    path.write_text("\n".join(["date,model,meter,quantity", *lines, ""]))
    command = [sys.executable, "manage.py", "reconcile", str(path)]
    done = subprocess.run(command, cwd=ROOT, env=proof.portal.env(), check=False, capture_output=True, text=True)
    drift = {
        (kind, meter): (int(mine.replace(",", "")), int(yours.replace(",", "")))
        for kind, meter, mine, yours in re.findall(
            rf"^{day} (\w+)-{proof.tag} (\S+): ledger ([\d,]+), provider ([\d,]+)$", done.stdout, re.MULTILINE
        )
    }
    assert drift == {
        (kind, meter): (ours[kind][meter], many)
        for kind in KINDS
        for meter, many in theirs[kind].items()
        if ours[kind][meter] != many
    }, done.stdout + done.stderr
    assert re.search(r"^coverage: \d", done.stdout, re.MULTILINE)


def _folded(classes: Counter[str]) -> Counter[str]:
    """A provider's file counts what was reasoned as output."""
    found: Counter[str] = Counter()
    for meter, many in classes.items():
        found[meter.removesuffix(".reasoning")] += many
    return found


def _sum(counters: Any) -> Counter[str]:
    total: Counter[str] = Counter()
    for counter in counters:
        total.update(counter)
    return total


def _report(proof: Proof, rows: dict[int, Row], took: float) -> None:
    """What docs/billing.md quotes."""
    bills = proof.provider.bills
    groups: dict[str, list[int]] = {}
    for number, row in rows.items():
        name = {"whole": "delivered", "broken": "left by a dead gateway"}.get(proof.ends[number], "cut")
        name += ", swept" if row.swept else ""
        groups.setdefault(f"{name}, {row.quality}", []).append(number)
    released = bills.keys() - rows.keys()
    if released:
        groups["left before the first byte, not billed"] = sorted(released)
        rows = rows | dict.fromkeys(released, Row("", False, Counter()))
    print(f"\n{CALLS} calls in {took:.0f} s")
    for name, numbers in sorted(groups.items()):
        ours, theirs = _sum(rows[n].quantities for n in numbers), _sum(bills[n].metered for n in numbers)
        print(f"{name}: {len(numbers)} calls, {sum(rows[n].quantities == bills[n].metered for n in numbers)} equal")
        for meter in sorted(ours | theirs):
            print(
                f"  {meter:28} ledger {ours[meter]:>12,} provider {theirs[meter]:>12,} {ours[meter] - theirs[meter]:+,}"
            )
    print(json.dumps({name: len(numbers) for name, numbers in groups.items()}))
