"""The number of calls a month at which one way becomes cheaper than another, to the call. Pure."""

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal

Monthly = Callable[[int], Decimal]


@dataclass(frozen=True, slots=True)
class Reach:
    """How far around the number that is asked about is looked, in powers of ten, and how closely."""

    below: int = 3
    above: int = 5
    steps_in_ten: int = 12


@dataclass(frozen=True, slots=True)
class Crossing:
    """From `calls` on the other way is the cheaper one (`to_other`), or no more; `cost` is the month's there."""

    calls: int
    to_other: bool
    cost: Decimal


def grid(calls: int, *, reach: Reach, most: int) -> list[int]:
    """Numbers of calls around the one that is asked about, and that one."""
    around = range(-reach.below * reach.steps_in_ten, reach.above * reach.steps_in_ten + 1)
    found = {max(1, round(calls * 10 ** (n / reach.steps_in_ten))) for n in around} | {max(1, calls)}
    return sorted(n for n in found if n <= most)


def find(one: Monthly, other: Monthly, points: list[int]) -> list[Crossing]:
    """All crossings between these points, each found by halving: at `calls` the other way costs less, one call before
    it does not, or the reverse."""
    found: list[Crossing] = []
    signs = [other(point) < one(point) for point in points]
    for n in range(1, len(points)):
        if signs[n] != signs[n - 1]:
            calls = _halve(one, other, points[n - 1], points[n], to_other=signs[n])
            found.append(Crossing(calls, signs[n], other(calls)))
    return found


def nearest(found: list[Crossing], calls: int) -> Crossing | None:
    """The one that matters for so many calls: the next above, where the cheaper way changes, else the last below."""
    above = [crossing for crossing in found if crossing.calls > calls]
    return above[0] if above else (found[-1] if found else None)


def _halve(one: Monthly, other: Monthly, low: int, high: int, *, to_other: bool) -> int:
    while high - low > 1:
        middle = (low + high) // 2
        if (other(middle) < one(middle)) == to_other:
            high = middle
        else:
            low = middle
    return high
