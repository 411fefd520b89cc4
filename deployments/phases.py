"""What an engine says of its own start, read from the first lines of its log. Pure.

Each engine's signs are data: the line that says that a phase begins. Offsets are seconds since the engine's first line
where its log tells the time, None where it does not.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

LOADING, WARMING, LISTENING = "loading", "warming", "listening"
LABELS: Mapping[str, str] = {
    LOADING: "The engine loads the weights",
    WARMING: "The engine warms up",
    LISTENING: "The engine listens",
}
Signs = tuple[tuple[str, re.Pattern[str]], ...]
SIGNS: Mapping[str, Signs] = {
    "llama_cpp": (
        (LOADING, re.compile(r"loading model")),
        (WARMING, re.compile(r"warming up|initializing,? (slots|n_slots)")),
        (LISTENING, re.compile(r"server is listening|listening on|serving .+ at ")),
    ),
    "vllm": (
        (LOADING, re.compile(r"Starting to load model|Loading (safetensors|weights)|Loading model weights")),
        (WARMING, re.compile(r"(weights|model loading) took|graph capturing|torch\.compile|warm(ing)?[- ]?up", re.I)),
        (LISTENING, re.compile(r"Application startup complete|Starting vLLM API server|Uvicorn running")),
    ),
}  # fmt: skip
_MINUTES = re.compile(r"^(\d+)\.(\d\d)\.(\d{3})\.(\d{3}) ")  # llama.cpp: minutes.seconds.ms.us since its start
_CLOCK = re.compile(r"\b(\d\d)-(\d\d) (\d\d):(\d\d):(\d\d)\b")  # vLLM: month-day hours:minutes:seconds


@dataclass(frozen=True, slots=True)
class Said:
    phase: str
    offset_s: float | None

    @property
    def label(self) -> str:
        return LABELS[self.phase]


def said(engine: str, lines: Iterable[str]) -> list[Said]:
    """The phases in the order in which they began, each once; none for an engine whose signs nobody wrote down."""
    signs: Signs = SIGNS.get(engine, ())
    found: list[Said] = []
    first: datetime | None = None
    for line in lines:
        moment = _moment(line)
        first = moment if first is None else first
        for phase, sign in signs:
            if sign.search(line) and _comes_next(phase, found, signs):
                found.append(Said(phase, (moment - first).total_seconds() if moment and first else None))
                break
    return found


def _comes_next(phase: str, found: list[Said], signs: Signs) -> bool:
    """A phase begins once, and none goes back to an earlier one."""
    order = [name for name, _ in signs]
    return not found or order.index(phase) > order.index(found[-1].phase)


def _moment(line: str) -> datetime | None:
    base = datetime(2000, 1, 1)  # noqa: DTZ001 - only differences are taken
    if match := _MINUTES.match(line):
        minutes, seconds, ms, us = map(int, match.groups())
        return base + timedelta(minutes=minutes, seconds=seconds, milliseconds=ms, microseconds=us)
    if match := _CLOCK.search(line[:80]):
        month, day, hour, minute, second = map(int, match.groups())
        try:
            return base.replace(month=month, day=day, hour=hour, minute=minute, second=second)
        except ValueError:
            return None
    return None
