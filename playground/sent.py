"""The answers that pages asked for, as rows: asked once, written while they come, forgotten after a day."""

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone

from accounts import sealing
from playground import problems
from playground.models import SentAnswer
from playground.said import Said

KEPT_H = 24
# A process that has not said for so long that it answers is gone.
GONE_AFTER_S = 15
State = SentAnswer.State
GONE = "The portal was restarted while it answered. What had been used until then is billed."


@dataclass(frozen=True, slots=True)
class Send:
    """Who asked, in which team, under which id."""

    team_id: UUID
    user_id: int
    id: UUID


class OtherBody(Exception):
    """This id was used for another request."""


def claim(send: Send, raw: bytes) -> bool:
    """True: this call answers it. False: it is answered, or being answered, already. Raises OtherBody."""
    digest = hashlib.sha256(raw).hexdigest()
    with transaction.atomic():
        row, made = SentAnswer.objects.get_or_create(
            team_id=send.team_id, user_id=send.user_id, send_id=send.id,
            defaults={"body_digest": digest, "heard_at": timezone.now()},
        )  # fmt: skip
    if row.body_digest != digest:
        raise OtherBody
    return made


def write(send: Send, *, state: str, said: str) -> bool:
    """Keep what has come so far, as JSON. True if its reader has asked to stop."""
    rows = _rows(send)
    rows.update(state=state, sealed_said=sealing.seal(said), heard_at=timezone.now())
    return rows.filter(stop_asked_at__isnull=False).exists()


def read(send: Send) -> Said | None:
    """What has come so far; None if it was never asked for. One whose process is gone is over, and says so."""
    row = _rows(send).first()
    if row is None:
        return None
    said = Said.of(sealing.unseal(row.sealed_said)) if row.sealed_said else Said()
    if row.state == State.RUNNING and row.heard_at < _gone_before():
        said.state, said.problem = State.FAILED.value, problems.explained("process_gone", GONE)
        write(send, state=said.state, said=said.json())
    return said


def ask_to_stop(send: Send) -> None:
    """Whatever process answers it hears of it within half a second."""
    _rows(send).filter(state=State.RUNNING).update(stop_asked_at=timezone.now())


def forget_old() -> int:
    return SentAnswer.objects.filter(created_at__lt=timezone.now() - timedelta(hours=KEPT_H)).delete()[0]


def _rows(send: Send) -> QuerySet[SentAnswer]:
    return SentAnswer.objects.filter(team_id=send.team_id, user_id=send.user_id, send_id=send.id)


def _gone_before() -> datetime:
    return timezone.now() - timedelta(seconds=GONE_AFTER_S)
