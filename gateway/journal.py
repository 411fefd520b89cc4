"""The request log: one row per request, written a second later in one statement. A row lost by a kill is no money."""

import logging
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from uuid import UUID

import orjson
from django.db import connection
from django.db.utils import DataError
from django.utils import timezone

from deployments import tallies
from gateway import contents, metrics, tracing
from gateway.contents import Content
from gateway.stores import Stores

log = logging.getLogger(__name__)
calls = logging.getLogger("gateway.calls")

MOST_WAITING = 50_000
INSERT = """
INSERT INTO gateway_requestrecord (team_id, at, request_id, api_key_name, surface, asked, model, target, path, status,
                                   code, streamed, attempts, tokens_in, tokens_out, cost, first_byte_ms, total_ms,
                                   content_id)
SELECT r.* FROM json_to_recordset(%s::json) AS r(
    team_id uuid, at timestamptz, request_id text, api_key_name text, surface text, asked text, model text,
    target text, path text, status int, code text, streamed bool, attempts int, tokens_in bigint, tokens_out bigint,
    cost numeric, first_byte_ms int, total_ms int,
    content_id uuid)
JOIN accounts_team t ON t.id = r.team_id
"""


@dataclass(slots=True)
class Entry:
    """One request, filled in as it goes on. Times are milliseconds from the request's head."""

    team_id: UUID
    request_id: str
    api_key_name: str
    surface: str
    asked: str
    streamed: bool
    at: datetime = field(default_factory=timezone.now)
    began: float = field(default_factory=time.perf_counter)
    model: str = ""
    target: str = ""
    path: str = ""
    attempts: int = 0
    status: int = 0
    code: str = ""
    tokens_in: int = 0
    tokens_out: int = 0
    cost: Decimal | None = None
    first_byte_ms: int | None = None
    total_ms: int = 0
    traceparent: str = ""
    content: Content | None = None
    deployment_id: UUID | None = None

    def elapsed_ms(self) -> int:
        return int((time.perf_counter() - self.began) * 1000)


class Journal:
    """One per event loop."""

    def __init__(self) -> None:
        self._entries: list[Entry] = []

    def add(self, entry: Entry) -> None:
        entry.total_ms = entry.elapsed_ms()
        tracing.record(entry)
        path = entry.path or "none"
        metrics.child(metrics.CALLS, entry.surface, path, str(entry.status)).inc()
        metrics.child(metrics.DURATION, path).observe(entry.total_ms / 1000)
        if entry.first_byte_ms is not None:
            metrics.child(metrics.FIRST_BYTE, path).observe(entry.first_byte_ms / 1000)
        if calls.isEnabledFor(logging.INFO):
            shown = _shown(entry)
            calls.info("call %s", shown["request_id"], extra={"call": shown})
        if len(self._entries) < MOST_WAITING:
            self._entries.append(entry)
        else:
            metrics.LOG_LOST.inc()

    async def write(self, stores: Stores) -> None:
        """Write what has gathered; what can't be written waits for the next time."""
        entries, self._entries = self._entries, []
        if not entries:
            return
        rows = [_row(entry) for entry in entries]
        kept = [(entry.team_id, entry.content) for entry in entries if entry.content is not None]
        ended = [_ended(entry, entry.deployment_id) for entry in entries if entry.deployment_id]
        try:
            await stores.ask(lambda: _insert_all(rows, kept))
        except Exception as error:
            log.warning("the request log waits: %s", error)
            room = max(0, MOST_WAITING - len(self._entries))
            metrics.LOG_LOST.inc(max(0, len(entries) - room))
            self._entries = entries[:room] + self._entries
            return
        try:
            await stores.ask(lambda: tallies.count(ended))
        except Exception as error:  # they are for a picture: not worth writing a row of the log twice
            log.warning("%d calls are missing on their deployments' pages: %s", len(ended), error)


def write_past(entries: Iterable[Entry]) -> None:
    """Requests that are over, as they are: no metric counts them. In the caller's transaction."""
    _insert([_row(entry) for entry in entries])


def _ended(entry: Entry, deployment_id: UUID) -> tallies.Ended:
    return tallies.Ended(
        deployment_id,
        at=entry.at + timedelta(milliseconds=entry.total_ms),
        failed=entry.status >= tracing.SERVER_ERROR,
        tokens_in=entry.tokens_in,
        tokens_out=entry.tokens_out,
        first_token_ms=entry.first_byte_ms,
    )


def _insert_all(rows: list[dict[str, object]], kept: list[tuple[UUID, Content]]) -> None:
    """A row that the database refuses is no reason to keep the others waiting."""
    if kept:
        contents.keep_all(kept)
    try:
        _insert(rows)
    except DataError:
        for row in rows:
            try:
                _insert([row])
            except DataError as error:
                metrics.LOG_LOST.inc()
                log.warning("a row of the request log was refused: %s", error)


def _insert(rows: list[dict[str, object]]) -> None:
    with connection.cursor() as cursor:
        cursor.execute(INSERT, (orjson.dumps(rows).decode(),))


def _row(entry: Entry) -> dict[str, object]:
    row = _facts(entry)
    return {name: value.replace("\0", "") if isinstance(value, str) else value for name, value in row.items()}


def _facts(entry: Entry) -> dict[str, object]:
    return {
        "team_id": entry.team_id,
        "at": entry.at,
        "request_id": entry.request_id,
        "api_key_name": entry.api_key_name[:100],
        "surface": entry.surface,
        "asked": entry.asked[:200],
        "model": entry.model,
        "target": entry.target[:200],
        "path": entry.path,
        "status": entry.status,
        "code": entry.code[:60],
        "streamed": entry.streamed,
        "attempts": entry.attempts,
        "tokens_in": entry.tokens_in,
        "tokens_out": entry.tokens_out,
        "cost": None if entry.cost is None else format(entry.cost, "f"),
        "first_byte_ms": entry.first_byte_ms,
        "total_ms": entry.total_ms,
        "content_id": entry.content.id if entry.content else None,
    }


def _shown(entry: Entry) -> dict[str, object]:
    shown = _row(entry)
    unsaid = {"at", "team_id", "content_id"}
    return {name: shown[name] for name in shown if name not in unsaid and shown[name] not in (None, "")}
