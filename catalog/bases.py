"""Which weights that are here are the ones that others were tuned from, by the names that a card gives them."""

from collections.abc import Iterable

from django.db.models import F, Q

from accounts.models import Team
from catalog.lifecycle import Status
from catalog.models import Weights


def find(team: Team, names: Iterable[str], *, format: str) -> Weights | None:
    """Ready weights of one of these repositories, in that format; the team's own first, the newest of them."""
    repos = [name for name in names if name]
    pages = [f"https://huggingface.co/{name}" for name in repos]
    visible = Weights.objects.filter(Q(team=team) | Q(team=None), Q(repo__in=repos) | Q(model__homepage__in=pages))
    ready = visible.filter(status=Status.READY, kind=Weights.Kind.FULL, format=format)
    return ready.order_by(F("team").asc(nulls_last=True), "-version").first()
