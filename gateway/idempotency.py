"""Idempotency-Key: the same key and body get the stored answer again, and nothing more is billed.

The answer is stored before the call is settled and before its last byte goes out. So a crash leaves either no answer
(the key is free again after its lease; what was used is billed by the sweep) or one that is replayed. A call that
failed is not stored: the same key tries anew.
"""

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

from django.db import IntegrityError, transaction
from django.utils import timezone

from accounts import sealing
from gateway.errors import WireError, bad_request
from gateway.models import StoredAnswer

LONGEST_KEY = 255
LEASE_S = 30
KEPT_H = 24
TRIES = 5
LARGEST = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Claim:
    """This call answers for its key now."""

    id: int
    owner: UUID


@dataclass(frozen=True, slots=True)
class Replay:
    headers: dict[str, str]
    body: bytes


def claim(team_id: UUID, key: str, path: str, body: bytes) -> Claim | Replay:
    """Take the key, or give what it was answered with. Raises 400 for a key that is none, 409 for one that was used
    with another body, and 409 with retry-after for one whose first call is still in flight."""
    if not key.isprintable() or len(key) > LONGEST_KEY:
        raise bad_request(
            f"Idempotency-Key is a text of at most {LONGEST_KEY} printable characters.", code="invalid_idempotency_key"
        )
    key_digest = hashlib.sha256(key.encode()).hexdigest()
    body_digest = hashlib.sha256(path.encode() + b"\0" + body).hexdigest()
    owner, now = uuid4(), timezone.now()
    fresh = {"body_digest": body_digest, "owner": owner, "lease_until": now + timedelta(seconds=LEASE_S)}
    with transaction.atomic():
        row, made = _row(team_id, key_digest, fresh)
        if made:
            return Claim(row.pk, owner)
        if row.created_at < now - timedelta(hours=KEPT_H):
            StoredAnswer.objects.filter(pk=row.pk).update(
                **fresh, status=None, headers={}, sealed_body="", created_at=now
            )
            return Claim(row.pk, owner)
        if row.body_digest != body_digest:
            raise _conflict("This Idempotency-Key was used with another request.", "idempotency_key_reused", {})
        if row.status is not None:
            return Replay(dict(row.headers), sealing.unseal(row.sealed_body).encode("latin-1"))
        if row.lease_until > now:
            raise _in_use()
        StoredAnswer.objects.filter(pk=row.pk).update(**fresh)
        return Claim(row.pk, owner)


def _row(team_id: UUID, key_digest: str, fresh: dict[str, Any]) -> tuple[StoredAnswer, bool]:
    """The key's row, locked, and whether it was made just now. One that is there when it is to be made may be given
    back before it can be read, by a first call that failed: then it is tried again."""
    rows = StoredAnswer.objects.select_for_update()
    for _ in range(TRIES):
        with contextlib.suppress(IntegrityError):
            return rows.get_or_create(team_id=team_id, key_digest=key_digest, defaults=fresh)
    raise _in_use()


def keep(claimed: Claim, headers: dict[str, str], body: bytes) -> None:
    """Store the answer. One that is too large is not kept: the key is given back."""
    if len(body) > LARGEST:
        release(claimed)
        return
    StoredAnswer.objects.filter(pk=claimed.id, owner=claimed.owner).update(
        status=200, headers=headers, sealed_body=sealing.seal(body.decode("latin-1"))
    )


def release(claimed: Claim) -> None:
    """The call failed: its key is free."""
    StoredAnswer.objects.filter(pk=claimed.id, owner=claimed.owner, status=None).delete()


def renew(claims: list[Claim]) -> None:
    until = timezone.now() + timedelta(seconds=LEASE_S)
    StoredAnswer.objects.filter(owner__in=[one.owner for one in claims], status=None).update(lease_until=until)


def forget_old() -> int:
    return StoredAnswer.objects.filter(created_at__lt=timezone.now() - timedelta(hours=KEPT_H)).delete()[0]


def pumped(stream: AsyncIterator[bytes], tasks: "set[asyncio.Task[object]]") -> AsyncIterator[bytes]:
    """The stream, read to its end from now on though its reader leaves, or never comes: a retry with the same key
    shall find it whole."""
    queue: asyncio.Queue[bytes | None] = asyncio.Queue()

    async def pump() -> None:
        try:
            async for event in stream:
                queue.put_nowait(event)
        finally:
            queue.put_nowait(None)

    task: asyncio.Task[object] = asyncio.create_task(pump())
    tasks.add(task)
    task.add_done_callback(tasks.discard)
    task.add_done_callback(lambda done: done.cancelled() or done.exception())
    return _read(queue)


async def _read(queue: "asyncio.Queue[bytes | None]") -> AsyncIterator[bytes]:
    while (event := await queue.get()) is not None:
        yield event


def _in_use() -> WireError:
    headers = {"retry-after": "1", "x-should-retry": "true"}
    return _conflict("A call with this Idempotency-Key is in flight.", "idempotency_key_in_use", headers)


def _conflict(message: str, code: str, headers: dict[str, str]) -> WireError:
    headers = {"x-should-retry": "false"} | headers
    return WireError(409, message, type="idempotency_error", code=code, headers=headers)
