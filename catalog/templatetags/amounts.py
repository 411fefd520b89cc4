"""How long, and how many parameters, for people."""

from django import template

register = template.Library()

UNITS = (("d", 86_400), ("h", 3600), ("min", 60), ("s", 1))


@register.filter
def duration(seconds: int | None) -> str:
    """4 s, 3 min 12 s, 2 h 5 min: the two largest units. Empty for None."""
    if seconds is None:
        return ""
    left = max(0, int(seconds))
    parts: list[str] = []
    for name, size in UNITS:
        count, left = divmod(left, size)
        if count or (name == "s" and not parts):
            parts.append(f"{count} {name}")
    return " ".join(parts[:2])


@register.filter
def parameters(count: int | None) -> str:
    """1711376384 -> 1.7 B, 134515008 -> 135 M."""
    if not count:
        return "not said"
    for name, size in (("B", 1_000_000_000), ("M", 1_000_000), ("k", 1000)):
        if count >= size:
            number = count / size
            return f"{number:.1f} {name}" if number < 10 and name == "B" else f"{number:.0f} {name}"
    return str(count)
