"""The team's weights as their pages show them: what they are, how far they have come, what uses them."""

from dataclasses import dataclass

from django.db import transaction
from django.db.models import QuerySet

from accounts import audit
from accounts.models import Team
from catalog import offers, removing
from catalog.licensing.policy import UNREAD
from catalog.lifecycle import Reason, Status
from catalog.models import Licence, Weights

# What a person can do about a failure.
NEXT = {
    Reason.HUB_REFUSED: "Put right what the Hub asks for, then try again.",
    Reason.HUB_AWAY: "Try again when the Hub answers. What has come is kept.",
    Reason.BUCKET_AWAY: "Try again when the bucket answers; the operator knows which one it is.",
    Reason.STALLED: "Try again: it goes on where it broke off.",
    Reason.WRONG_BYTES: "Try again: only what was wrong is sent anew.",
    Reason.DISK_FULL: "The operator has to make room on the portal's disk; then try again. Nothing half was kept.",
    Reason.REFUSED: "Try again if that can be put right here; else remove it, and take another file or repository.",
    Reason.PORTAL_FAILED: "Tell the operator; then try again.",
}


@dataclass(frozen=True, slots=True)
class Card:
    """Weights with what belongs beside them on a page."""

    row: Weights
    used_by: tuple[str, ...]
    can_deploy: bool

    @property
    def percent(self) -> int:
        return min(100, 100 * self.row.bytes_done // self.row.size_bytes) if self.row.size_bytes else 0

    @property
    def licence(self) -> Licence:
        return self.row.licence or self.row.model.licence

    @property
    def commercial_use(self) -> str:
        """In a word; what is not known is not called conditions."""
        if self.licence.slug in UNREAD:
            return "not known"
        return {True: "allowed", False: "not allowed", None: "with conditions"}[self.licence.commercial_use]

    @property
    def next_step(self) -> str:
        return NEXT.get(Reason(self.row.reason), "") if self.row.status == Status.FAILED else ""

    @property
    def can_retry(self) -> bool:
        row = self.row
        return row.status == Status.FAILED and (row.is_import or row.was_ready)

    @property
    def why_not(self) -> str:
        """Why Deploy is not offered; empty where it is."""
        row = self.row
        if self.can_deploy:
            return ""
        if row.status == Status.FAILED:
            return "not possible: the import failed"
        if row.status != Status.READY:
            return "not yet: the weights are on their way"
        if row.kind == Weights.Kind.ADAPTER:
            return f"an adapter runs on its base: deploy {row.base_name or 'that'} with it"
        if row.format not in offers.ENGINES:
            return f"not possible: no engine of this portal loads {row.format}"
        return "a newer version has taken its place"


def of(team: Team) -> QuerySet[Weights]:
    """The team's, newest first; those that were removed are left out."""
    rows = Weights.objects.of(team).kept().select_related("model__licence", "licence", "base__model", "team")
    users = [f"model__deployments__{name}" for name in ("team", "version", "next_version")]
    applied = "applications__version__deployment__team"
    return rows.prefetch_related("files", "offers", "adapters__model", applied, *users)


def card(row: Weights) -> Card:
    return Card(row, used_by=tuple(removing.users_of(row)), can_deploy=bool(row.offers.all()))


def annotate(weights: Weights, notes: str, *, actor: str) -> None:
    """Other notes on the card."""
    with transaction.atomic():
        Weights.objects.filter(pk=weights.pk).update(notes=notes)
        audit.record(
            weights.team, actor=actor, verb="wrote the notes of", subject=str(weights),
            before={"notes": weights.notes}, after={"notes": notes},
        )  # fmt: skip
