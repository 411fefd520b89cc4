"""The advice in sentences: the answer first, then what it hangs on. Pure."""

from collections.abc import Iterator
from decimal import Decimal

from deployments.advice.amounts import dollars, short
from deployments.advice.costing import Cost, Gap, Way
from deployments.advice.reckoning import Advice, Choice
from deployments.advice.traffic import Traced


def volume(advice: Advice, calls: Decimal | int | None = None) -> str:
    """`2 B tokens a month`, of the asked or another number of calls."""
    traffic = advice.question.traffic
    tokens = (traffic.calls if calls is None else Decimal(calls)) * traffic.tokens_per_call
    return f"{short(tokens)} tokens a month"


def name_of(cost: Cost) -> str:
    if cost.machine is None:
        return "hosted"
    if cost.way == Way.SERVERLESS:
        return f"serverless on {cost.machine.name}"
    return f"{_always(cost)} on {cost.machine.name}"


def headline(advice: Advice) -> str:
    """The answer in one sentence."""
    question, best, second = advice.question, advice.best, advice.second
    if not question.traffic.calls:
        return "There is nothing to replay: no call of the last 30 days is on the ledger."
    if best is None:
        return _nothing(advice)
    if second is not None:
        return (
            f"At {volume(advice)} {name_of(best.cost)} is cheaper: {_money(best)} against {_money(second)}"
            f" {'' if second.cost.way == Way.HOSTED else 'for '}{name_of(second.cost)}."
        )
    costs = f"At {volume(advice)} {name_of(best.cost)} costs {_money(best)}"
    if best.cost.way != Way.HOSTED:
        return f"{costs}. {_why_alone(advice.hosted)}"
    if not question.deployable.is_open:
        return f"{question.name} can only be hosted. {costs}."
    return f"{costs}. {_own_unknown(advice)}"


def reasons(advice: Advice) -> list[str]:
    """What the answer hangs on, the most important first."""
    if not advice.question.traffic.calls:
        return []
    return [*_paths(advice), *_break_evens(advice), *_bound(advice), *_waits(advice), *_today(advice)]


def break_even(advice: Advice, choice: Choice) -> str:
    """For the table; empty where there is nothing to compare."""
    if choice.cost.monthly is None or advice.hosted.cost.monthly is None or choice.cost.way == Way.HOSTED:
        return ""
    found = choice.crossing
    if found is None:
        is_cheaper = choice.cost.monthly < advice.hosted.cost.monthly
        return f"{'always' if is_cheaper else 'never'} cheaper, as far as was looked"
    return f"{'from' if found.to_other else 'up to'} {volume(advice, found.calls)}"


def what_it_is(cost: Cost) -> str:
    """How it would run, in a few words."""
    if cost.uptime is None or cost.limits is None:
        return ""
    hours = f"{cost.uptime.billed_s / 3600:,.0f} h" if cost.uptime.billed_s >= 36_000 else _hours(cost.uptime.billed_s)
    if cost.way == Way.ALWAYS_ON:
        return f"{_always(cost)}{_spread(cost)}, {hours} a month"
    wakes = round(cost.uptime.wakes)
    starts = f", {wakes:,} start{'' if wakes == 1 else 's'}" if wakes else ", never asleep"
    most = cost.limits.most * cost.deployments
    return f"0 to {most} replica{'' if most == 1 else 's'}{_spread(cost)}, {hours} a month{starts}"


def _nothing(advice: Advice) -> str:
    hosted, name = advice.hosted, advice.question.name
    if hosted.cost.gaps:
        known = hosted.cost.known
        part = f" What is listed of it comes to {dollars(known)} at {volume(advice)}." if known else ""
        texts = "; ".join(gap.text for gap in hosted.cost.gaps)
        return f"What {name} costs can't be said yet: {texts}.{part}"
    if gaps := [gap for choice in advice.own for gap in choice.cost.gaps]:
        return f"What {name} costs on replicas of your own can't be said yet: {gaps[0].text}."
    if unfit := next((choice for choice in advice.own if choice.unfit), None):
        return f"Nothing fits what you wish: {unfit.unfit}."
    return f"There is no way to use {name} here today."


def _why_alone(hosted: Choice) -> str:
    if hosted.cost.why_not:
        return (
            f"Hosted is {hosted.cost.why_not}."
            if _is_phrase(hosted.cost.why_not)
            else f"Hosted: {hosted.cost.why_not}."
        )
    return f"Hosted can't be compared yet: {'; '.join(gap.text for gap in hosted.cost.gaps)}."


def _is_phrase(text: str) -> bool:
    return text.startswith("not possible")


def _own_unknown(advice: Advice) -> str:
    if unfit := next((choice for choice in advice.own if choice.unfit), None):
        return f"No replicas of your own fit what you wish: {unfit.unfit}."
    gaps = [gap for choice in advice.own for gap in choice.cost.gaps]
    if not gaps:
        return "No hardware of this portal fits its weights."
    return f"What replicas of your own would cost is not known: {_first_of(gaps)}."


def _first_of(gaps: list[Gap]) -> str:
    speed = next((gap for gap in gaps if gap.field.startswith("speed")), gaps[0])
    return speed.text


def _paths(advice: Advice) -> Iterator[str]:
    question = advice.question
    for state in (question.hosted, question.deployable):
        if not state.is_open:
            which = "Hosted" if state is question.hosted else "On replicas of your own"
            yield f"{which}: {state.reason}."


def _break_evens(advice: Advice) -> Iterator[str]:
    """The cheapest own way that has one; where there is none, that it was looked for."""
    compared = [choice for choice in advice.own if choice.cost.monthly is not None]
    if not compared or advice.hosted.cost.monthly is None:
        return
    told = set()
    for choice in compared:
        found, machine = choice.crossing, choice.cost.machine
        if found is None or machine is None or (machine.slug, found.calls) in told:
            continue
        told.add((machine.slug, found.calls))
        verb = "becomes" if found.to_other else "stops being"
        yield (
            f"{_capital(name_of(choice.cost))} {verb} cheaper than hosted at {volume(advice, found.calls)}"
            f" ({found.calls:,} calls, {dollars(found.cost)})."
        )
    if not any(choice.crossing for choice in compared):
        yield "There is no break-even between the two, from a thousandth of this volume to far above it."


def _bound(advice: Advice) -> Iterator[str]:
    """Where own replicas can't be reckoned: below which price an hour they would pay off all the same."""
    monthly, question = advice.hosted.cost.monthly, advice.question
    if monthly and question.deployable.is_open and not any(one.cost.monthly is not None for one in advice.own):
        an_hour = monthly / (Decimal(question.traffic.month_s) / 3600)
        yield f"Always on, replicas of your own pay off if all of them cost less than {dollars(an_hour)} an hour."


def _waits(advice: Advice) -> Iterator[str]:
    for choice in advice.own:
        cost = choice.cost
        if cost.way != Way.SERVERLESS or cost.uptime is None or cost.machine is None or not round(cost.uptime.held):
            continue
        many = round(cost.uptime.held)
        yield (
            f"On {cost.machine.name} about {many:,} call{'' if many == 1 else 's'} a month would come while it sleeps"
            f" or starts, and wait up to {cost.machine.start_s or 0:,.3g} s."
        )


def _today(advice: Advice) -> Iterator[str]:
    question = advice.question
    for note in (question.hosted_note, question.own_note):
        if note:
            yield f"{_capital(note).rstrip('.')}."
    best = advice.best
    if best and best.cost.machine and not best.cost.machine.offered:
        yield f"No backend of this portal offers {best.cost.machine.name} yet."
    if isinstance(question.traffic, Traced):
        yield "The calls of the last 30 days were played again, each at its moment."


def _always(cost: Cost) -> str:
    count = cost.limits.least * cost.deployments if cost.limits else 1
    return f"{count} always-on replica{'' if count == 1 else 's'}"


def _spread(cost: Cost) -> str:
    return f" in {cost.deployments} deployments" if cost.deployments > 1 else ""


def _money(choice: Choice) -> str:
    return dollars(choice.cost.monthly or Decimal(0))


def _hours(seconds: float) -> str:
    return f"{seconds / 3600:.1f} h" if seconds >= 3600 else f"{seconds / 60:.0f} min"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
