"""How many replicas there should be. Pure: a load and the limits in, a wish out."""

from dataclasses import dataclass
from datetime import datetime, timedelta

# Fewer are wished only after fewer have been enough for so long.
STABLE_FOR = timedelta(seconds=60)
# No deployment has more.
MOST_REPLICAS = 32
# How long calls may go on at a replica that has to go.
DRAIN_FOR = timedelta(seconds=120)


@dataclass(frozen=True, slots=True)
class Limits:
    """Between `least` and `most` replicas, each for `per_replica` calls at once; to zero after `idle_window_s`."""

    least: int
    most: int
    per_replica: int
    idle_window_s: int


@dataclass(frozen=True, slots=True)
class Load:
    """Calls being answered by replicas, and calls held at the gateways because none is ready."""

    in_flight: int = 0
    waiting: int = 0

    @property
    def calls(self) -> int:
        return self.in_flight + self.waiting


@dataclass(frozen=True, slots=True)
class Surplus:
    """Since when fewer replicas than there are have been enough, and the most that were needed since."""

    since: datetime
    peak: int


@dataclass(frozen=True, slots=True)
class Wish:
    replicas: int
    surplus: Surplus | None = None


def wish(
    load: Load, limits: Limits, *, awake: int, surplus: Surplus | None, last_busy_at: datetime, now: datetime
) -> Wish:
    """How many replicas, given that `awake` are there now.

    Up at once; down after STABLE_FOR, to the most that was needed meanwhile; never below `least`, nor to zero while a
    call is in flight or waits. `last_busy_at` is when the idle clock last started: the first Ready, or a call.
    """
    if load.calls == 0 and limits.least == 0 and now - last_busy_at >= timedelta(seconds=limits.idle_window_s):
        return Wish(0)
    needed = -(-load.calls // max(limits.per_replica, 1))
    needed = min(max(needed, limits.least, 1), limits.most)
    if needed >= awake:
        return Wish(needed)
    if awake > limits.most:
        return Wish(limits.most)
    if surplus is None:
        return Wish(awake, Surplus(now, needed))
    peak = max(surplus.peak, needed)
    if now - surplus.since < STABLE_FOR:
        return Wish(awake, Surplus(surplus.since, peak))
    return Wish(peak)


def pause_after(crashes: int) -> timedelta:
    """How long after so many crashes in a row nothing is started, and nothing costs: 1, 2, 4 ... 300 s."""
    return timedelta(seconds=min(2 ** max(crashes - 1, 0), 300)) if crashes else timedelta(0)
