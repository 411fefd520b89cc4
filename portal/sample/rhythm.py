"""The made-up working life of the sample team: who called what when, and when which deployment was awake. Pure, and the
same for the same seed: a day's numbers come from the seed, the day and the program's name alone."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from random import Random

from billing import periods

DAY = timedelta(days=1)
# How likely a call is in each hour of the clock.
OFFICE = (0, 0, 0, 0, 0, 0, 1, 2, 6, 10, 11, 10, 7, 9, 11, 10, 8, 5, 2, 1, 1, 0, 0, 0)
ALL_DAY = (1, 1, 1, 1, 1, 2, 3, 5, 7, 8, 8, 8, 8, 8, 8, 8, 8, 8, 7, 6, 6, 5, 3, 2)
NIGHT = (0, 0, 1, *([0] * 21))
GROWTH = 0.6
"""How much more there is on the last day than on the first, as a share."""


@dataclass(frozen=True, slots=True)
class Shape:
    """What a call is like, on average; `cached` is the share of its prompt that a provider has read before."""

    prompt: int
    output: int
    cached: float = 0.0
    seconds: float = 4.0


@dataclass(frozen=True, slots=True)
class Program:
    """Somebody's program with a key of its own. `wants`: models, the first that this portal has is called."""

    key: str
    wants: tuple[str, ...]
    weekday: int
    weekend: int
    hours: tuple[int, ...]
    shape: Shape


@dataclass(frozen=True, slots=True)
class Engine:
    """A deployment: awake in these spans of a weekday (hour, minutes), or of each day, and called by `key`."""

    name: str
    model_name: str
    hardware: str
    key: str
    spans: tuple[tuple[float, int], ...]
    calls: int
    start_s: float
    shape: Shape
    every_day: bool = False


@dataclass(frozen=True, slots=True)
class Use:
    """One call. Token counts are disjoint."""

    key: str
    at: datetime
    ended_at: datetime
    tokens_in: int
    tokens_cached: int
    tokens_out: int


@dataclass(frozen=True, slots=True)
class Life:
    """One engine, from its process's start over its first Ready to its exit."""

    started_at: datetime
    ready_at: datetime
    exited_at: datetime


@dataclass(frozen=True, slots=True)
class Calendar:
    """The last `count` days before `until`, that day included, by the clock of `zone`."""

    seed: int
    until: datetime
    count: int
    zone: str

    @property
    def days(self) -> list[date]:
        today = self.until.astimezone(periods.zone_of(self.zone)).date()
        return [today - DAY * (self.count - 1 - n) for n in range(self.count)]

    @property
    def begins(self) -> datetime:
        return periods.start_of_day(self.days[0], self.zone)

    def chance(self, *names: object) -> Random:
        return Random("/".join(map(str, (self.seed, *names))))  # noqa: S311 - a picture of work, no secret

    def at(self, day: date, hour: float) -> datetime:
        """That time of the clock there; an hour that the clocks skip is the next one."""
        began = datetime.combine(day, time(int(hour)), periods.zone_of(self.zone)).astimezone(UTC)
        return began + timedelta(seconds=round(hour % 1 * 3600, 3))


PROGRAMS = (
    Program("support-bot", ("claude-haiku-4.5", "gpt-5-mini"), 62, 22, ALL_DAY, Shape(5200, 380, 0.7, 3.5)),
    Program("coding", ("claude-opus-4.7", "claude-sonnet-4.5", "gpt-5.1"), 34, 3, OFFICE, Shape(9800, 1100, 0.5, 18.0)),
    Program("nightly-summaries", ("gemini-2.5-flash", "gpt-5-nano"), 16, 16, NIGHT, Shape(24000, 900, seconds=8.0)),
    Program("shop-search", ("deepseek-v3.2", "gpt-4.1-mini"), 28, 30, ALL_DAY, Shape(1400, 160, seconds=2.0)),
)
ENGINES = (
    Engine(
        "mail-triage", "SmolLM2-135M-Instruct", "cpu-small", "office-mail", ((8.5, 40), (11.0, 25), (14.0, 35)),
        calls=24, start_s=4.0, shape=Shape(900, 120, seconds=2.5),
    ),
    Engine(
        "extract", "Contract extractor 8B", "l4", "nightly-summaries", ((1.5, 22),),
        calls=12, start_s=70.0, shape=Shape(4200, 300, seconds=6.0), every_day=True,
    ),
)  # fmt: skip


# Whose key each is, and how its calls are labelled.
KEYS = {
    "support-bot": ("ada", "support"),
    "coding": ("ben", "engineering"),
    "nightly-summaries": ("chi", "reports"),
    "shop-search": ("chi", "shop"),
    "office-mail": ("ada", "office"),
}


def uses(program: Program, calendar: Calendar) -> Iterator[Use]:
    """The calls of a program that had ended by then, day after day."""
    for number, day in enumerate(calendar.days):
        chance = calendar.chance(program.key, day)
        usual = program.weekend if day.weekday() >= 5 else program.weekday
        wished = usual * (1 + GROWTH * number / max(1, calendar.count - 1)) * chance.uniform(0.75, 1.25)
        for _ in range(round(wished)):
            hour = chance.choices(range(24), program.hours)[0]
            at = calendar.at(day, hour + chance.random())
            use = _use(program.key, at, program.shape, chance)
            if use.ended_at <= calendar.until:
                yield use


def lives(engine: Engine, calendar: Calendar) -> Iterator[Life]:
    """When its engines ran; those that had ended by then."""
    for day in calendar.days:
        chance = calendar.chance(engine.name, day)
        if day.weekday() >= 5 and not engine.every_day:
            continue
        for hour, minutes in engine.spans:
            started = calendar.at(day, hour + chance.uniform(0, 0.4))
            ready = started + timedelta(seconds=round(engine.start_s * chance.uniform(0.8, 1.5), 3))
            life = Life(started, ready, ready + timedelta(seconds=round(minutes * 60 * chance.uniform(0.6, 1.4), 3)))
            if life.exited_at <= calendar.until:
                yield life


def calls_within(engine: Engine, life: Life, calendar: Calendar) -> Iterator[Use]:
    """The calls that kept it awake."""
    chance = calendar.chance(engine.name, life.started_at.isoformat())
    span = (life.exited_at - life.ready_at).total_seconds() * 0.8
    for _ in range(max(1, round(engine.calls / len(engine.spans) * chance.uniform(0.6, 1.3)))):
        at = life.ready_at + timedelta(seconds=round(span * chance.random(), 3))
        yield _use(engine.key, at, engine.shape, chance)


def _use(key: str, at: datetime, shape: Shape, chance: Random) -> Use:
    tokens = max(20, round(shape.prompt * chance.lognormvariate(0, 0.5)))
    from_cache = min(tokens - 1, round(tokens * shape.cached * chance.uniform(0.5, 1.2)))
    took = timedelta(milliseconds=round(1000 * shape.seconds * chance.uniform(0.4, 2.0)))
    written = max(5, round(shape.output * chance.lognormvariate(0, 0.6)))
    return Use(key, at, at + took, tokens - from_cache, from_cache, written)
