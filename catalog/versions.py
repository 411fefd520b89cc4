"""A model's weights by number: each set that is taken in is the next version of its model."""

from django.db.models import Max

from catalog.models import Model


def next_number(model: Model) -> int:
    """One more than the highest so far, removed ones too: a number is never used twice."""
    highest: int | None = model.weights.aggregate(highest=Max("version"))["highest"]
    return (highest or 0) + 1


def number_for(model: Model, revision: str) -> int:
    """The number that the starter catalog's revision has already, else the next."""
    known = model.weights.filter(revision=revision).values_list("version", flat=True).first()
    return known or next_number(model)
