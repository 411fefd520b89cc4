"""Lengths of time, rates and sizes for people: the digits that matter, with their unit."""

from datetime import datetime

from django import template
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

register = template.Library()

UNITS = (("d", 86_400), ("h", 3600), ("min", 60), ("s", 1))
MIB, GIB = 1024**2, 1024**3


@register.simple_tag
def since(moment: datetime | None) -> SafeString | str:
    """How long ago, as `age`, and it goes on counting in the browser. Empty for None."""
    if moment is None:
        return ""
    text = moment.isoformat()
    return format_html('<time data-since="{}" datetime="{}" title="{}">{}</time>', text, text, text, age(moment))


@register.filter
def age(moment: datetime | None) -> str:
    """How long ago: 4 s, 3 min 12 s, 2 h 5 min, 3 d 4 h. Empty for None."""
    return lasting((timezone.now() - moment).total_seconds()) if moment else ""


@register.filter
def until(begin: datetime | None, end: datetime | None) -> str:
    """From one moment to another; under a minute with a tenth of a second. Empty where one is None."""
    if begin is None or end is None:
        return ""
    return seconds((end - begin).total_seconds())


@register.filter
def seconds(length_s: float | None) -> str:
    """0.38 s, 4.2 s, 3 min 12 s. Empty for None."""
    if length_s is None:
        return ""
    if length_s < 1:
        return f"{length_s:.2f} s"
    return f"{length_s:.1f} s" if length_s < 60 else lasting(length_s)


@register.filter
def milliseconds(length_ms: float | None) -> str:
    """84 ms, 1.3 s. Empty for None."""
    if length_ms is None:
        return ""
    return f"{length_ms:.0f} ms" if length_ms < 1000 else seconds(length_ms / 1000)


@register.filter
def rate(per_s: float) -> str:
    """0, 0.02, 1.4, 85, 1,200: two digits that matter."""
    if per_s == 0:
        return "0"
    if per_s < 0.1:
        return f"{per_s:.2f}"
    return f"{per_s:.1f}" if per_s < 10 else f"{per_s:,.0f}"


@register.filter
def share(part: float | None) -> str:
    """0 %, 0.4 %, 12 %. Empty for None."""
    if part is None:
        return ""
    percent = part * 100
    return f"{percent:.1f} %" if 0 < percent < 10 else f"{percent:.0f} %"


@register.filter
def memory(count: int) -> str:
    """Bytes in memory: 312 MiB, 4.1 GiB."""
    return f"{count / GIB:.1f} GiB" if count >= GIB else f"{count / MIB:.0f} MiB"


@register.filter
def lasting(length_s: float) -> str:
    left = max(0, int(length_s))
    parts: list[str] = []
    for name, size in UNITS:
        count, left = divmod(left, size)
        if count or (name == "s" and not parts):
            parts.append(f"{count} {name}")
    return " ".join(parts[:2])
