"""Small pictures as SVG, drawn here: no script, and the colours are the page's own. Pure."""

from collections.abc import Sequence

from django.utils.html import format_html
from django.utils.safestring import SafeString, mark_safe

WIDTH, HEIGHT = 240.0, 40.0


def spark(values: Sequence[float], *, label: str, width: float = WIDTH, height: float = HEIGHT) -> SafeString:
    """A line over a wash, oldest at the left, from zero to the largest. `label` says in words what it shows."""
    most = max(values, default=0.0)
    base = height - 1
    if most <= 0:
        return _svg(f'<path class="still" d="M0 {base}H{width:g}"/>', label, width, height)
    step = width / max(1, len(values) - 1)
    points = [f"{n * step:.1f} {base - (height - 3) * value / most:.1f}" for n, value in enumerate(values)]
    line = "L".join(points)
    return _svg(
        f'<path class="wash" d="M0 {height:g}L{line}L{width:g} {height:g}Z"/><path class="line" d="M{line}"/>',
        label, width, height,
    )  # fmt: skip


def steps(values: Sequence[float], *, label: str, width: float = WIDTH, height: float = HEIGHT) -> SafeString:
    """The same for what only jumps: a number of replicas."""
    most = max(values, default=0.0)
    base, step = height - 1, width / max(1, len(values))
    if most <= 0:
        return _svg(f'<path class="still" d="M0 {base}H{width:g}"/>', label, width, height)
    levels = [base - (height - 3) * value / most for value in values]
    line = f"0 {levels[0]:.1f}" + "".join(f"V{level:.1f}H{(n + 1) * step:.1f}" for n, level in enumerate(levels))
    return _svg(
        f'<path class="wash" d="M0 {height:g}L{line}V{height:g}Z"/><path class="line" d="M{line}"/>',
        label, width, height,
    )  # fmt: skip


def bars(values: Sequence[float], *, label: str, width: float = WIDTH, height: float = HEIGHT) -> SafeString:
    """A bar for each, oldest at the left."""
    most = max(values, default=0.0) or 1.0
    step = min(12.0, width / max(1, len(values)))
    wide, drawn = max(1.0, step - 2), ""
    for n, value in enumerate(values):
        tall = max(1.5, height * value / most)
        drawn += f'<rect x="{n * step:.1f}" y="{height - tall:.1f}" width="{wide:.1f}" height="{tall:.1f}" rx="1"/>'
    return _svg(f'<g class="bars">{drawn}</g>', label, step * max(1, len(values)), height)


def _svg(inner: str, label: str, width: float, height: float) -> SafeString:
    return format_html(
        '<svg class="spark" viewBox="0 0 {} {}" preserveAspectRatio="none" role="img" aria-label="{}">{}</svg>',
        f"{width:g}", f"{height:g}", label, mark_safe(inner),  # noqa: S308 - numbers and our own words
    )  # fmt: skip
