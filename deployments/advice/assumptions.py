"""Every number behind the advice, with where it comes from and which field changes it."""

from collections.abc import Iterator
from dataclasses import dataclass

from billing.meters import COMPUTE_SECONDS, COMPUTE_STARTING, METERS
from billing.models import Price
from billing.rating import DISCOUNT
from deployments.advice.amounts import dollars, short
from deployments.advice.asking import Answer
from deployments.advice.forms import PRICES
from deployments.advice.gathering import Ground
from deployments.advice.traffic import Rhythm, Traced

ENTERED = "entered by you"
PORTAL = "this portal's own default"


@dataclass(frozen=True, slots=True)
class Assumption:
    """`field` is the form's; empty: it follows from others. `value` empty: not known."""

    label: str
    value: str
    source: str
    field: str = ""

    @property
    def plain(self) -> str:
        """As it would be written into its field: `$1.39 / M input tokens` -> `1.39`."""
        return self.value.split(" / ")[0].removesuffix(" tokens/s").removesuffix(" s").lstrip("$")


def of_traffic(answer: Answer) -> list[Assumption]:
    return list(_traffic(answer))


def of_hosted(answer: Answer) -> list[Assumption]:
    return list(_hosted(answer))


def of_ground(answer: Answer, ground: Ground) -> list[Assumption]:
    return list(_ground(answer, ground))


def _traffic(answer: Answer) -> Iterator[Assumption]:
    traffic, said = answer.advice.question.traffic, answer.form.cleaned_data
    hours = traffic.month_s / 3600
    if isinstance(traffic, Traced):
        together = ", put together by the hour" if any(one.count > 1 for one in traffic.seen) else ""
        yield Assumption("Calls", f"{traffic.calls:,} in 30 days{together}", "the team's ledger", "shape")
        yield Assumption("Tokens a call", short(traffic.tokens_per_call), "their mean", "")
    else:
        rhythm = answer.form.rhythm
        yield Assumption("Calls a month", short(traffic.calls), "volume over the tokens of a call", "volume")
        yield Assumption(
            "Busy",
            _busy(rhythm),
            "the shape that you chose",
            "days",
        )
        yield Assumption("Peak", f"{said['peak'] or 1:g} x the even flow", _default(answer, "peak"), "peak")
    yield Assumption("A month", f"{hours:,.0f} h", "30 days" if hours == 720 else "a twelfth of a year", "")
    yield Assumption("Falls asleep after", f"{answer.form.elastic.idle_window_s} s", _default(answer, "idle"), "idle")
    yield Assumption(
        "Cached on own replicas",
        f"{said['own_cached'] or 0:g} % of the prompt",
        _default(answer, "own_cached"),
        "own_cached",
    )


def _busy(rhythm: Rhythm) -> str:
    if rhythm.days == 7 and rhythm.times * rhythm.minutes == 1440:
        return "around the clock, calls evenly spread"
    days = "every day" if rhythm.days == 7 else f"{rhythm.days} days a week"
    return f"{days} {rhythm.times} x {rhythm.minutes:g} min, calls evenly spread within"


def _default(answer: Answer, name: str) -> str:
    return ENTERED if answer.form.was_said(name) else PORTAL


def _hosted(answer: Answer) -> Iterator[Assumption]:
    entered, prices = answer.form.prices, answer.advice.question.hosted_prices
    rows = {row.meter: row for row in answer.known.rows if not row.above_tokens}
    fields = {meter.name: name for name, meter in PRICES.items()}
    for name in dict.fromkeys([*fields, *rows]):
        meter = METERS[name]
        value = f"{dollars(prices[name] * meter.per)} / {meter.quoted}" if name in prices else ""
        source = ENTERED if name in entered else _source(rows.get(name))
        if name == "tokens.input.cached" and not value:
            value, source = "as input", "it has no price of its own"
        yield Assumption(meter.label, value, source, fields.get(name, ""))
    for row in answer.known.rows:
        if row.above_tokens and row.meter not in entered:
            meter = METERS[row.meter]
            value = f"{dollars(row.amount * meter.per)} / {meter.quoted}"
            yield Assumption(f"{meter.label}, prompts above {row.above_tokens:,} tokens", value, _source(row))
    if percent := prices.get(DISCOUNT):
        yield Assumption("Your team's discount", f"{percent.normalize():f} %", "agreed with your team")


def _ground(answer: Answer, ground: Ground) -> Iterator[Assumption]:
    slug = ground.hardware.slug
    machine = next(one for one in answer.advice.question.machines if one.slug == slug)
    entered = answer.form.entered(slug)
    rows = {row.meter: row for row in ground.rows}
    for meter, label in ((COMPUTE_SECONDS, "An hour"), (COMPUTE_STARTING, "An hour starting")):
        price = machine.prices.get(meter.name)
        if price is None and meter is COMPUTE_STARTING:
            continue
        is_entered = meter is COMPUTE_SECONDS and entered.per_second is not None
        source = ENTERED if is_entered else _source(rows.get(meter.name))
        field = f"hour-{slug}" if meter is COMPUTE_SECONDS else ""
        yield Assumption(label, dollars(price * 3600) if price is not None else "", source, field)
    if percent := machine.prices.get(DISCOUNT):
        yield Assumption("Your team's discount", f"{percent.normalize():f} %", "agreed with your team")
    speed, source = machine.speed, entered.source if entered.speed else _measured(ground)
    for label, rate, name in (("Reads", speed and speed.reads, "reads"), ("Writes", speed and speed.writes, "writes")):
        yield Assumption(
            label, f"{short(rate)} tokens/s" if rate else "", source if rate else "not measured", f"{name}-{slug}"
        )
    if speed:
        yield Assumption("With calls at once", str(speed.at_once), source, f"at_once-{slug}")
    started = (
        f"median of {ground.starts} start{'' if ground.starts == 1 else 's'} here" if ground.starts else "not measured"
    )
    yield Assumption(
        "A start takes",
        f"{machine.start_s:,.3g} s" if machine.start_s is not None else "",
        ENTERED if entered.start_s is not None else started,
        f"start-{slug}",
    )


def _measured(ground: Ground) -> str:
    if ground.pace is None:
        return "not measured"
    row = ground.pace.row
    callers = f"{row.callers} caller{'' if row.callers == 1 else 's'}"
    return (
        f"measured here {row.measured_at:%Y-%m-%d}, {callers}, {row.prompt_tokens} tokens in, {row.output_tokens} out"
    )


def _source(row: Price | None) -> str:
    return f"{row.source}, {row.source_date.isoformat()}" if row else "not listed"
