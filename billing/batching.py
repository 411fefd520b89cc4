"""Group commit: many callers of one event loop share a transaction, so a busy gateway pays for few of them.

While one commit is in flight the next operations gather; a lone caller waits for nobody. Under load, which is when the
last batch was of MANY or more, the next one waits GATHER_S for company: fewer commits, each with more in it.

What is promised: `reserve` returns only when the reservation is durable, `settle` only when the bill is. When the
database is away, `reserve` fails at once with DatabaseDown (make no call), and `settle` and `void`, which are safe
to repeat, are tried again for RETRY_S. A reservation whose commit was cut off, or whose caller left, is voided.
"""

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import psycopg
from django.conf import settings

from billing import posting
from billing.errors import BillingError, DatabaseDown
from billing.posting import Call, LetIn, Operation, Outcome, Receipt, Renewal, Settlement, Void

log = logging.getLogger(__name__)

BATCH = 256
MANY, GATHER_S = 8, 0.003
QUEUE_LIMIT = 10_000
RETRY_S = 20.0
PAUSE_S = 0.25
BATCH_TIMEOUT_S = 10.0
# When the server's end of a cut commit may still land: well inside the shortest lease.
VOID_AGAIN_S = (0.0, 2.0, 15.0)
DOWN = "The usage could not be written down: the database does not answer. Try again soon."


def conninfo_from_settings() -> str:
    """libpq's connection text for settings.DATABASES, in UTC and with time limits for a stuck statement."""
    database: dict[str, Any] = settings.DATABASES["default"]
    given = {"dbname": "NAME", "user": "USER", "password": "PASSWORD", "host": "HOST", "port": "PORT"}
    parts: dict[str, Any] = {name: database[key] for name, key in given.items() if database.get(key)}
    limits = "-c timezone=UTC -c lock_timeout=5000 -c statement_timeout=8000"
    options: dict[str, Any] = {"connect_timeout": 3, "application_name": "modelport-metering"}
    options |= database.get("OPTIONS", {})
    options["options"] = f"{options.get('options', '')} {limits}".strip()
    return psycopg.conninfo.make_conninfo("", **parts, **options)


@dataclass(slots=True, eq=False)
class _Waiting:
    """An operation, who waits for it, and until when it is tried again."""

    operation: Operation
    done: "asyncio.Future[Outcome]"
    give_up_at: float
    alone: bool = field(default=False)


class _Lost(Exception):
    """The batch did not go through. `in_doubt`: the cut came at the commit, so it may have."""

    def __init__(self, *, in_doubt: bool) -> None:
        self.in_doubt = in_doubt


class Batcher:
    """One per event loop. `start` before use; `close` writes what is still waiting, then lets go."""

    def __init__(self, conninfo: str) -> None:
        self._conninfo = conninfo
        self._connection: psycopg.AsyncConnection[Any] | None = None
        self._queue: deque[_Waiting] = deque()
        self._arrived = asyncio.Event()
        self._runner: asyncio.Task[None] | None = None
        self._later: set[asyncio.TimerHandle] = set()
        self._voids: set[asyncio.Task[None]] = set()
        self._retrying = 0
        self._closing = False

    async def start(self) -> None:
        """Begin. A database that is not there yet is no error here: the first reserve says so."""
        self._runner = asyncio.create_task(self._run(), name="billing-batcher")

    async def close(self) -> None:
        """Take nothing new, write what waits (retrying at most RETRY_S), close the connection."""
        self._closing = True
        self._arrived.set()
        if self._runner is not None:
            await self._runner
        for task in self._voids:
            task.cancel()
        await self._drop_connection()

    async def reserve(self, call: Call) -> LetIn:
        """Let a call in, durably. Raises BudgetSpent, UnpricedMeter, BadQuantity or DatabaseDown: then don't call."""
        if self._closing or len(self._queue) >= QUEUE_LIMIT:
            raise DatabaseDown(DOWN)
        waiting = self._submit(call)
        try:
            let_in = await waiting
        except asyncio.CancelledError:
            if waiting.done() and not waiting.cancelled() and waiting.exception() is None:
                self._submit(Void(call.id))  # let in a moment before its caller left
            raise
        assert isinstance(let_in, LetIn)  # noqa: S101 - post() promises LetIn or an error for a Call
        return let_in

    async def settle(self, settlement: Settlement) -> Receipt:
        """Bill a call, once and durably; goes on when the waiting caller is cancelled."""
        receipt = await asyncio.shield(self._submit(settlement))
        assert isinstance(receipt, Receipt)  # noqa: S101 - post() promises a Receipt or an error for a Settlement
        return receipt

    async def void(self, reservation_id: UUID) -> None:
        """Release a call that failed before its first byte; goes on when the waiting caller is cancelled."""
        await asyncio.shield(self._submit(Void(reservation_id)))

    async def renew(self, ids_to_estimates: Mapping[UUID, Mapping[str, Decimal]], lease_s: int) -> None:
        """Prolong the leases of open calls and replace their estimates. Raises DatabaseDown when it can't now."""
        renewals = [Renewal(key, estimate, lease_s) for key, estimate in ids_to_estimates.items()]
        outcomes = await asyncio.gather(*(self._submit(renewal) for renewal in renewals), return_exceptions=True)
        if error := next((outcome for outcome in outcomes if isinstance(outcome, BaseException)), None):
            raise error

    def _submit(self, operation: Operation) -> "asyncio.Future[Outcome]":
        loop = asyncio.get_running_loop()
        waiting = _Waiting(operation, loop.create_future(), loop.time() + RETRY_S)
        if self._runner is None or self._runner.done():
            waiting.done.set_exception(DatabaseDown(DOWN))
            return waiting.done
        self._queue.append(waiting)
        self._arrived.set()
        return waiting.done

    async def _run(self) -> None:
        under_load = False
        while not (self._closing and not self._queue and not self._retrying):
            if not self._queue:
                self._arrived.clear()
                await self._arrived.wait()
                continue
            if under_load and len(self._queue) < BATCH and not self._closing:
                await asyncio.sleep(GATHER_S)
            batch = self._next_batch()
            under_load = len(batch) >= MANY
            try:
                await self._write(batch)
            except Exception:
                log.exception("a batch of %d billing operations failed", len(batch))
                self._fail(batch, DatabaseDown(DOWN))

    def _next_batch(self) -> list[_Waiting]:
        """Up to BATCH operations; one that spoiled a batch before goes by itself."""
        batch = [self._queue.popleft()]
        while not batch[0].alone and self._queue and len(batch) < BATCH and not self._queue[0].alone:
            batch.append(self._queue.popleft())
        return batch

    async def _write(self, batch: list[_Waiting]) -> None:
        """One transaction for the batch; every waiting caller gets its own answer."""
        try:
            outcomes = await self._commit([waiting.operation for waiting in batch])
        except _Lost as lost:
            self._after_loss(batch, in_doubt=lost.in_doubt)
        except psycopg.Error as error:
            self._after_refusal(batch, error)
        else:
            for waiting, outcome in zip(batch, outcomes, strict=True):
                self._answer(waiting, outcome)

    async def _commit(self, operations: list[Operation]) -> list[Outcome]:
        """Run and commit. Whatever fails before the commit is tried once more on a fresh connection, so that a
        connection that went stale while idle is no caller's problem. Raises _Lost, or the database's refusal."""
        for attempt in (1, 2):
            committing = False
            try:
                async with asyncio.timeout(BATCH_TIMEOUT_S):
                    connection = await self._connected()
                    outcomes = await _drive(connection, operations)
                    committing = True
                    await connection.commit()
                    return outcomes
            except (psycopg.OperationalError, psycopg.InterfaceError, TimeoutError, OSError) as error:
                await self._drop_connection()
                if committing or attempt == 2:
                    log.warning("the ledger's database does not answer: %s", error)
                    raise _Lost(in_doubt=committing) from error
            except BaseException:
                await self._drop_connection()
                raise
        raise AssertionError("unreachable")

    def _after_loss(self, batch: list[_Waiting], *, in_doubt: bool) -> None:
        loop = asyncio.get_running_loop()
        again = []
        for waiting in batch:
            repeatable = isinstance(waiting.operation, Settlement | Void)
            if repeatable and loop.time() < waiting.give_up_at:
                again.append(waiting)
                continue
            self._fail([waiting], DatabaseDown(DOWN))
            if isinstance(waiting.operation, Call) and in_doubt:
                task = asyncio.create_task(self._void_repeatedly(waiting.operation.id))
                self._voids.add(task)
                task.add_done_callback(self._voids.discard)
        self._again_later(again)

    def _after_refusal(self, batch: list[_Waiting], error: psycopg.Error) -> None:
        """The database refused the data: find out whose, by trying each alone."""
        if len(batch) == 1:
            log.error("a billing operation was refused: %s: %s", batch[0].operation.id, error)
            self._fail(batch, BillingError(f"The ledger refused this call: {error}"))
            return
        for waiting in reversed(batch):
            waiting.alone = True
            self._queue.appendleft(waiting)

    def _answer(self, waiting: _Waiting, outcome: Outcome) -> None:
        if isinstance(outcome, BillingError):
            self._fail([waiting], outcome)
        elif not waiting.done.done():
            waiting.done.set_result(outcome)
        elif isinstance(waiting.operation, Call):
            self._submit(Void(waiting.operation.id))  # its caller has left: nobody will make this call

    def _fail(self, batch: list[_Waiting], error: BillingError) -> None:
        for waiting in batch:
            if not waiting.done.done():
                waiting.done.set_exception(error)
                waiting.done.exception()  # its caller may have left: then nobody else asks for it

    def _again_later(self, batch: list[_Waiting]) -> None:
        if not batch:
            return
        self._retrying += 1

        def put_back() -> None:
            self._retrying -= 1
            self._later.discard(handle)
            self._queue.extendleft(reversed(batch))
            self._arrived.set()

        handle = asyncio.get_running_loop().call_later(PAUSE_S, put_back)
        self._later.add(handle)

    async def _void_repeatedly(self, reservation_id: UUID) -> None:
        """Nobody will make this call: release it, also if the cut commit lands late."""
        for pause in VOID_AGAIN_S:
            await asyncio.sleep(pause)
            with contextlib.suppress(BillingError):
                await self._submit(Void(reservation_id))

    async def _connected(self) -> psycopg.AsyncConnection[Any]:
        if self._connection is None or self._connection.closed:
            self._connection = await psycopg.AsyncConnection.connect(self._conninfo)
        return self._connection

    async def _drop_connection(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(Exception):
                await connection.close()


async def _drive(connection: psycopg.AsyncConnection[Any], operations: list[Operation]) -> list[Outcome]:
    """Run the plan over an async connection, inside its transaction."""
    plan = posting.post(operations, now=datetime.now(UTC))
    async with connection.cursor() as cursor:
        try:
            statement = next(plan)
            while True:
                await cursor.execute(statement.sql, statement.params)
                statement = plan.send(await cursor.fetchall())
        except StopIteration as stop:
            outcomes: list[Outcome] = stop.value
            return outcomes
