"""Prompts and answers, kept only for a team that turned it on: sealed, bounded, forgotten after the days it chose.

They go into the team's own request log and nowhere else: no log line, span or metric ever holds them.
"""

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import orjson
from django.db import transaction
from django.db.models import DurationField, ExpressionWrapper, F, OuterRef, Subquery
from django.db.models.functions import Now
from django.utils import timezone

from accounts import audit, sealing
from accounts.models import Team
from gateway.models import PromptLogging, RequestContent, RequestRecord

# Of each side of a call; what is longer is cut, and says so.
LARGEST = 256 * 1024


@dataclass(slots=True)
class Content:
    """One call's prompt and answer on their way to the log. Never more than LARGEST bytes of each are held."""

    prompt: bytes = field(repr=False)
    is_cut: bool = False
    id: UUID = field(default_factory=uuid4)
    parts: list[bytes] = field(default_factory=list, repr=False)
    size: int = 0

    @classmethod
    def of(cls, body: dict[str, Any]) -> "Content":
        prompt = orjson.dumps(body)
        return cls(prompt[:LARGEST], is_cut=len(prompt) > LARGEST)

    def add(self, part: bytes) -> None:
        if self.size < LARGEST:
            self.parts.append(part[: LARGEST - self.size])
        self.size += len(part)
        self.is_cut = self.is_cut or self.size > LARGEST

    def row(self, team_id: UUID) -> RequestContent:
        return RequestContent(
            id=self.id,
            team_id=team_id,
            sealed_prompt=_sealed(self.prompt),
            sealed_answer=_sealed(b"".join(self.parts)),
            is_cut=self.is_cut,
        )


def is_on(team: Team) -> bool:
    return PromptLogging.objects.filter(team=team).exists()


def turn_on(team: Team, *, days: int, actor: str) -> None:
    """From now on (gateways follow within 5 s) this team's prompts and answers are kept for so many days."""
    before = PromptLogging.objects.filter(team=team).values("days").first() or {"days": 0}
    PromptLogging.objects.update_or_create(team=team, defaults={"days": days, "set_by": actor})
    audit.record(
        team, actor=actor, verb="turned prompt logging on for", subject=f"{days} days",
        before=before, after={"days": days},
    )  # fmt: skip


def turn_off(team: Team, *, actor: str) -> None:
    """Nothing more is kept, and what was kept is deleted at once."""
    before = PromptLogging.objects.filter(team=team).values("days").first()
    if PromptLogging.objects.filter(team=team).delete()[0]:
        audit.record(
            team, actor=actor, verb="turned prompt logging off for", subject=str(team), before=before, after={"days": 0}
        )
    forget_all(team)


def keep_all(ended: list[tuple[UUID, Content]]) -> None:
    """(team, content) of calls that ended: those of teams that want it still. Written twice, a content is one."""
    with transaction.atomic():
        # Locked in order, so that who turns it off meanwhile waits, and then deletes these too.
        wanting = PromptLogging.objects.select_for_update().order_by("team_id")
        teams = set(wanting.filter(team__in={one for one, _ in ended}).values_list("team_id", flat=True))
        rows = [content.row(team_id) for team_id, content in ended if team_id in teams]
        RequestContent.objects.bulk_create(rows, ignore_conflicts=True)


def forget_all(team: Team) -> None:
    RequestRecord.objects.filter(team=team, content_id__isnull=False).update(content_id=None)
    RequestContent.objects.filter(team=team).delete()


def forget_old() -> int:
    """What is older than its team's days; and what came in after its team had turned the log off."""
    days = PromptLogging.objects.filter(team=OuterRef("team")).values("days")
    kept_for = ExpressionWrapper(Subquery(days) * timedelta(days=1), output_field=DurationField())
    rows = RequestContent.objects.annotate(kept_for=kept_for)
    old = rows.filter(at__lt=Now() - F("kept_for")).delete()[0]
    stray = rows.filter(kept_for=None, at__lt=timezone.now() - timedelta(minutes=5)).delete()[0]
    return old + stray


def _sealed(raw: bytes) -> str:
    return sealing.seal(raw.decode("utf-8", "replace"))
