"""From what the portal knows and what somebody filled in to a question that can be reckoned."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from accounts.models import Team
from billing.meters import COMPUTE_SECONDS
from billing.rating import ABOVE, DISCOUNT
from deployments.advice import gathering, reckoning
from deployments.advice.costing import Machine
from deployments.advice.forms import TRACE, AdviceForm
from deployments.advice.gathering import Ground, Known
from deployments.advice.reckoning import Advice, Question
from deployments.advice.traffic import Rhythmic, Speed, Traced, Traffic


@dataclass(frozen=True, slots=True)
class Answer:
    known: Known
    form: AdviceForm
    advice: Advice


def answer(team: Team, known: Known, form: AdviceForm, *, now: datetime) -> Answer:
    """The form is valid."""
    question = Question(
        name=known.model.name,
        traffic=_traffic(team, known, form, now),
        hosted=known.hosted,
        deployable=known.deployable,
        hosted_prices=with_entered(known.prices, form.prices),
        machines=[_machine(ground, form) for ground in known.grounds],
        elastic=form.elastic,
        wish=form.wish,
        hosted_note=known.hosted_note,
        own_note=known.own_note,
    )
    return Answer(known, form, reckoning.advise(question))


def with_entered(listed: Mapping[str, Decimal], entered: Mapping[str, Decimal]) -> dict[str, Decimal]:
    """What was entered takes the place of a listed price and of all its tiers; a discount stays."""
    kept = {name: price for name, price in listed.items() if name.split(ABOVE)[0] not in entered or name == DISCOUNT}
    return kept | dict(entered)


def _traffic(team: Team, known: Known, form: AdviceForm, now: datetime) -> Traffic:
    own_cached = form.share("own_cached")
    if form.is_trace:
        model = known.model if form.cleaned_data["shape"] == TRACE else None
        return Traced(gathering.trace_of(team, model, now=now), own_cached=own_cached)
    said = form.cleaned_data
    return Rhythmic(
        calls=form.calls,
        input_tokens=said["input"],
        output_tokens=said["output"],
        rhythm=form.rhythm,
        cached=form.share("cached"),
        own_cached=own_cached,
        peak=said["peak"] or 1.0,
    )


def _machine(ground: Ground, form: AdviceForm) -> Machine:
    hardware, pace = ground.hardware, ground.pace
    entered = form.entered(hardware.slug)
    speed = Speed(pace.reads, pace.writes, pace.row.callers) if pace else None
    prices = {COMPUTE_SECONDS.name: entered.per_second} if entered.per_second is not None else {}
    return Machine(
        slug=hardware.slug,
        name=hardware.name,
        prices=with_entered(ground.prices, prices),
        speed=entered.speed or speed,
        start_s=entered.start_s if entered.start_s is not None else ground.start_s,
        why_not=ground.why_not,
        offered=ground.offered,
        room=hardware.capacity,
        first_token_ms=pace.row.first_token_ms if pace and not entered.speed else None,
    )
