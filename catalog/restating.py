"""What weights were tuned from and under which licence they are, said anew. The licence gate goes by it from then on:
deploying and calling ask again where the terms are others."""

from enum import Enum
from typing import Any

from django.db import transaction

from accounts import audit
from accounts.models import Role
from accounts.roles import MAKERS, MANAGERS
from catalog import offers
from catalog.errors import Refused
from catalog.models import Licence, Model, Weights
from catalog.uploads import storing


class Same(Enum):
    SAME = "same"


SAME = Same.SAME


def why_not(row: Weights, role: str) -> str:
    """Why somebody in this role may not; empty if they may. What a publisher says is the team's policy's ground, so who
    makes that policy says otherwise; of their own uploads makers say it themselves."""
    if role not in MAKERS:
        return "Your role may look at weights, not change them."
    if row.source_kind == Weights.SourceKind.HUB and role not in MANAGERS:
        return "Its publisher stated these terms. Only an owner or admin may state others."
    return ""


# A key may what a developer may.
ROLE_OF_KEYS = Role.DEVELOPER


def restate(
    weights: Weights, *, base: Model | Same | None = SAME, licence: Licence | Same | None = SAME, actor: str
) -> None:
    """`base`: the model that they were tuned from, None: none that is known. `licence` None: as the base's. What is
    SAME stays. Raises Refused while they are on their way, or for a base that can't be."""
    with transaction.atomic():
        row = Weights.objects.select_for_update(of=("self",)).select_related("model", "licence").get(pk=weights.pk)
        if row.is_in_motion:
            raise Refused("Not yet: they are on their way here.", code="not_yet", field="base")
        before = _said(row)
        if base is not SAME:
            _set_base(row, base)
        its = _licence_of_base(row, base)
        if licence is not SAME:
            row.licence = licence or its
            row.facts = row.facts | {"licence_inherited": licence is None and its is not None}
        row.licence_warning = (
            storing.licence_conflict(row.base_name, its, row.licence)[:300] if its and row.base_name else ""
        )
        if _said(row) == before:
            return
        row.save(update_fields=["base", "base_name", "licence", "licence_warning", "facts"])
        _tell_model(row)
        audit.record(
            row.team, actor=actor, verb="stated the terms of", subject=str(row), before=before, after=_said(row)
        )
    weights.refresh_from_db()


def _set_base(row: Weights, base: Model | None) -> None:
    if row.kind == Weights.Kind.ADAPTER:
        raise Refused("An adapter's base was held against its files: it stays.", code="bad_base", field="base")
    offer = offers.deployable_offer(base) if base else None
    found = offer.weights if offer and offer.weights and offer.weights.is_ready else None
    above = found
    while above is not None:
        if above.pk == row.pk or above.model_id == row.model_id:
            raise Refused("Nothing is tuned from itself.", code="bad_base", field="base")
        above = above.base
    if base is not None and base.pk == row.model_id:
        raise Refused("Nothing is tuned from itself.", code="bad_base", field="base")
    row.base, row.base_name = found, base.name if base else ""


def _licence_of_base(row: Weights, base: Model | Same | None) -> Licence | None:
    if row.base is not None:
        return row.base.licence or row.base.model.licence
    return base.licence if isinstance(base, Model) else None


def _tell_model(row: Weights) -> None:
    """The team's own model is under what its newest version is under."""
    newest = row.model.weights.kept().order_by("-version").first()
    if newest is not None and newest.pk == row.pk and row.model.team_id is not None:
        Model.objects.filter(pk=row.model_id).update(licence=row.licence or storing.not_stated())


def _said(row: Weights) -> dict[str, Any]:
    return {"base": row.base_name, "licence": row.licence.slug if row.licence else "not stated"}
