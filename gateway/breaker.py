"""A circuit breaker per target: who failed again and again is left alone for a while, then tried with one call."""

import time
from dataclasses import dataclass

FAILURES = 5
OPEN_S = 10.0


@dataclass(slots=True)
class _State:
    failures: int = 0
    open_until: float = 0.0
    probing: bool = False


class Breaker:
    """One per event loop, and of no account elsewhere: each process finds out for itself."""

    def __init__(self) -> None:
        self._states: dict[str, _State] = {}

    def allows(self, target: str) -> bool:
        """False while it is open. When its time is over one caller gets True, and must report how it went."""
        state = self._states.get(target)
        if state is None or state.failures < FAILURES:
            return True
        if time.monotonic() < state.open_until or state.probing:
            return False
        state.probing = True
        return True

    def succeeded(self, *targets: str) -> None:
        for target in targets:
            self._states.pop(target, None)

    def failed(self, target: str) -> None:
        state = self._states.setdefault(target, _State())
        state.failures += 1
        state.probing = False
        if state.failures >= FAILURES:
            state.open_until = time.monotonic() + OPEN_S

    def undecided(self, *targets: str) -> None:
        """The call ended in a way that says nothing about them (the client left, the request was bad)."""
        for target in targets:
            if state := self._states.get(target):
                state.probing = False

    def retry_after_s(self, target: str) -> int:
        state = self._states.get(target)
        return max(1, round(state.open_until - time.monotonic())) if state else 1
