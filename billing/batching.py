"""Group commit: many callers' reservations and settlements in one transaction, on psycopg's async pool.

While one transaction commits, the next one's operations gather; a single caller never waits for company.
"""

import asyncio
import contextlib
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import UUID

import psycopg
from django.conf import settings
from psycopg.conninfo import make_conninfo
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from billing import journal
from billing.errors import DatabaseDown
from billing.journal import Call, Operation, Outcome, Receipt, Renewal, Settlement, Void

LARGEST_BATCH = 256
PATIENCE_S = 20.0
LOST = (psycopg.OperationalError, psycopg.InterfaceError, PoolTimeout, OSError)


@dataclass(slots=True)
class _Waiting:
    operation: Operation
    done: asyncio.Future[Outcome]
    until: float = field(default_factory=lambda: time.monotonic() + PATIENCE_S)


class Batcher:
    """One per event loop. Each method returns once its operation is durable, or raises what refused it."""

    def __init__(self, conninfo: str) -> None:
        self._pool = AsyncConnectionPool(conninfo, min_size=1, max_size=2, open=False, timeout=3)
        self._queue: list[_Waiting] = []
        self._wake = asyncio.Event()
        self._runner: asyncio.Task[None] | None = None
        self._closing = False

    async def start(self) -> None:
        await self._pool.open()
        self._runner = asyncio.create_task(self._run())

    async def close(self) -> None:
        """Carry out what is queued, then let go of the connections."""
        self._closing = True
        self._wake.set()
        if self._runner:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._runner, PATIENCE_S)
        await self._pool.close()

    async def reserve(self, call: Call) -> None:
        """Durable when this returns; raises BudgetSpent, UnpricedMeter, or DatabaseDown (then nothing may go out)."""
        await self._submit(call)

    async def settle(self, settlement: Settlement) -> Receipt:
        """Durable when this returns. A lost database is waited for up to 20 s; settling twice bills once."""
        receipt = await self._submit(settlement)
        assert isinstance(receipt, Receipt)  # noqa: S101 - for the type checker
        return receipt

    async def void(self, reservation_id: UUID) -> None:
        await self._submit(Void(reservation_id))

    async def renew(self, estimates: Mapping[UUID, Mapping[str, Decimal]], lease_s: int) -> None:
        """Say that these calls' owner lives, and what each has used so far."""
        until = datetime.now(UTC) + timedelta(seconds=lease_s)
        await asyncio.gather(
            *(self._submit(Renewal(row_id, estimate, until)) for row_id, estimate in estimates.items())
        )

    async def _submit(self, operation: Operation) -> Outcome:
        waiting = _Waiting(operation, asyncio.get_running_loop().create_future())
        self._queue.append(waiting)
        self._wake.set()
        outcome = await waiting.done
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    async def _run(self) -> None:
        while self._queue or not self._closing:
            if not self._queue:
                self._wake.clear()
                await self._wake.wait()
                continue
            batch, self._queue = self._queue[:LARGEST_BATCH], self._queue[LARGEST_BATCH:]
            try:
                await self._carry_out(batch)
            except LOST as error:
                await self._keep_for_later(batch, error)

    async def _carry_out(self, batch: list[_Waiting]) -> None:
        try:
            outcomes = await self._transact([waiting.operation for waiting in batch])
        except LOST:
            raise
        except Exception as error:  # one poisoned operation must not spoil the others
            if len(batch) == 1:
                _answer(batch[0], error)
                return
            for waiting in batch:
                await self._carry_out([waiting])
            return
        for waiting, outcome in zip(batch, outcomes, strict=True):
            _answer(waiting, outcome)

    async def _transact(self, operations: list[Operation]) -> list[Outcome]:
        plan = journal.apply(operations)
        async with self._pool.connection() as connection, connection.cursor() as cursor:
            try:
                query = next(plan)
                while True:
                    await cursor.execute(query.sql, query.parameters)
                    query = plan.send(await cursor.fetchall() if cursor.description else [])
            except StopIteration as done:
                return list(done.value)

    async def _keep_for_later(self, batch: list[_Waiting], error: Exception) -> None:
        """A reservation is refused at once (its call has not gone out); money already owed is tried again."""
        kept = []
        for waiting in batch:
            if waiting.done.done():
                continue
            if isinstance(waiting.operation, Call) or time.monotonic() > waiting.until:
                _answer(waiting, DatabaseDown(f"The database can't be reached: {type(error).__name__}"))
            else:
                kept.append(waiting)
        self._queue = kept + self._queue
        if kept:
            await asyncio.sleep(0.25)


def conninfo_from_settings() -> str:
    """libpq's connection text for Django's default database."""
    database = settings.DATABASES["default"]
    parts = {
        "dbname": database["NAME"],
        "user": database["USER"],
        "password": database["PASSWORD"],
        "host": database["HOST"],
        "port": database["PORT"],
    }
    options = {name: value for name, value in database.get("OPTIONS", {}).items() if isinstance(value, str | int)}
    return make_conninfo("", **{name: value for name, value in (parts | options).items() if value})


def _answer(waiting: _Waiting, outcome: Outcome) -> None:
    if not waiting.done.done():
        waiting.done.set_result(outcome)
