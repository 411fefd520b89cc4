"""Lengths of time for people: the two largest units, down to the second."""

from datetime import datetime

from django import template
from django.utils import timezone

register = template.Library()

UNITS = (("d", 86_400), ("h", 3600), ("min", 60), ("s", 1))


@register.filter
def age(moment: datetime | None) -> str:
    """How long ago: 4 s, 3 min 12 s, 2 h 5 min, 3 d 4 h. Empty for None."""
    return lasting((timezone.now() - moment).total_seconds()) if moment else ""


@register.filter
def until(begin: datetime | None, end: datetime | None) -> str:
    """From one moment to another; under a minute with a tenth of a second. Empty where one is None."""
    if begin is None or end is None:
        return ""
    seconds = (end - begin).total_seconds()
    return f"{seconds:.1f} s" if seconds < 60 else lasting(seconds)


def lasting(seconds: float) -> str:
    left = max(0, int(seconds))
    parts: list[str] = []
    for name, size in UNITS:
        count, left = divmod(left, size)
        if count or (name == "s" and not parts):
            parts.append(f"{count} {name}")
    return " ".join(parts[:2])
