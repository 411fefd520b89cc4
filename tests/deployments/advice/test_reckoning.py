"""What each way costs, and where they break even: pure, without a database."""

import subprocess
import sys
from dataclasses import replace
from decimal import Decimal

import pytest

from catalog.advisor import PathState
from deployments.advice import amounts, costing, crossing, fleet, reckoning, words
from deployments.advice.costing import Elastic, Machine, Way
from deployments.advice.crossing import Reach
from deployments.advice.fleet import Call, Flow
from deployments.advice.reckoning import Question, Wish
from deployments.advice.traffic import RHYTHMS, Rhythmic, Seen, Speed, Traced
from deployments.scaling import Limits

OPEN = PathState(True, "open")
PRICES = {"tokens.input": Decimal("0.00000139"), "tokens.output": Decimal("0.00000278")}
# 25 dollars an hour, to twelve decimals a second as the price book keeps it.
MACHINE = Machine("h200-8", "8 x H200", {"compute.seconds": Decimal("0.006944444444")}, Speed(40_000, 6000, 64), 300.0)


def rhythmic(volume: str = "2 B", shape: str = "steady", **given: object) -> Rhythmic:
    """Calls of 2,000 tokens in and 500 out."""
    traffic = Rhythmic(amounts.read(volume) / 2500, 2000, 500, RHYTHMS[shape])
    return replace(traffic, **given)  # type: ignore[arg-type]


def question(**given: object) -> Question:
    asked = Question("DeepSeek-V4-Pro", rhythmic(), OPEN, OPEN, PRICES, [MACHINE])
    return replace(asked, **given)  # type: ignore[arg-type]


def test_the_arithmetic_knows_no_django() -> None:
    modules = ("amounts", "crossing", "fleet", "traffic", "costing", "reckoning", "words")
    imports = "; ".join(f"import deployments.advice.{name}" for name in modules)
    script = f"import sys; {imports}; print('django' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("2 B", 2 * 10**9),
        ("2e9", 2 * 10**9),
        ("2,000,000", 2 * 10**6),
        ("1.5k", 1500),
        (" 350 M ", 350 * 10**6),
        ("1_000", 1000),
        ("1,200.5", Decimal("1200.5")),
    ],
)
def test_volumes_are_read_as_people_write_them(text: str, number: int) -> None:
    assert amounts.read(text) == number


@pytest.mark.parametrize(
    "text",
    [
        "",
        "-1",
        "two",
        "2 X",
        "1e999",
        "NaN",
        "Infinity",
        "9" * 40,
        "٣",
        "1,5",
        "1.000,5",
        "2,00,000",
        ",5",
        "1,",
        "1__0",
    ],
)
def test_what_is_no_number_is_refused_in_words(text: str) -> None:
    with pytest.raises(ValueError, match="is not a number: write it like"):
        amounts.read(text)


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        ("2780", "$2,780"),
        ("86.4", "$86.40"),
        ("0.8", "$0.80"),
        ("0.036", "$0.036"),
        ("0.0000123", "$0.0000123"),
        ("0", "$0.00"),
    ],
)
def test_money_shows_the_digits_that_matter(amount: str, text: str) -> None:
    assert amounts.dollars(Decimal(amount)) == text


def test_one_call_for_a_sleeper_costs_its_start_its_work_and_the_idle_window() -> None:
    story = fleet.run([Call(0.0, 10.0)], limits=Limits(0, 1, 4, 600), start_s=20.0)
    found = fleet.uptime(story)
    assert (found.starting_s, found.awake_s, found.wakes, found.held) == (20.0, 610.0, 1, 1.0)


def test_calls_within_the_idle_window_share_one_start() -> None:
    story = fleet.run([Call(n * 500.0, 10.0) for n in range(10)], limits=Limits(0, 1, 4, 600), start_s=20.0)
    found = fleet.uptime(story)
    assert (found.wakes, found.starting_s, found.awake_s) == (1, 20.0, 4500 - 20 + 10 + 600)


def test_a_flow_for_three_replicas_takes_three_and_one_stays_for_the_idle_window() -> None:
    story = fleet.run([], [Flow(0.0, 3600.0, 10, 1.0)], limits=Limits(0, 3, 4, 600), start_s=20.0)
    ends = sorted(span.ended_s for span in story.spans)
    assert ends == [3660.0, 3660.0, 4200.0], "two go once fewer have been enough for a minute"


def test_a_replica_that_never_got_ready_costs_nothing() -> None:
    story = fleet.Story([fleet.Span(0, None, 50)], [], [])
    assert fleet.uptime(story).billed_s == 0


def test_hosted_is_quantity_times_price_and_a_missing_price_is_named_never_zero() -> None:
    assert costing.hosted(rhythmic(), Decimal(800_000), PRICES).monthly == 2224 + 1112
    without = costing.hosted(rhythmic(), Decimal(800_000), {"tokens.input": PRICES["tokens.input"]})
    assert without.monthly is None
    assert without.known == 2224
    assert [gap.text for gap in without.gaps] == ["the price of output tokens is not listed"]


def test_a_long_prompt_is_charged_in_its_tier_less_the_teams_discount() -> None:
    prices = PRICES | {"tokens.input>1999": Decimal("0.000002"), "discount.percent": Decimal(50)}
    found = costing.hosted(rhythmic(), Decimal(1000), prices)
    assert found.monthly == (2000 * Decimal("0.000002") + 500 * PRICES["tokens.output"]) * 500
    shorter = costing.hosted(rhythmic(input_tokens=1999), Decimal(1000), prices)
    assert shorter.lines[0].list_price == PRICES["tokens.input"]


def test_cached_tokens_cost_their_own_price() -> None:
    prices = PRICES | {"tokens.input.cached": Decimal("0.0000001")}
    found = costing.hosted(rhythmic(cached=Decimal("0.25")), Decimal(1000), prices)
    assert {line.meter: line.quantity for line in found.lines} == {
        "tokens.input": 1_500_000, "tokens.input.cached": 500_000, "tokens.output": 500_000,
    }  # fmt: skip


def test_steady_calls_closer_than_the_idle_window_keep_one_replica_awake_all_month() -> None:
    found = costing.serverless(rhythmic(), Decimal(800_000), MACHINE, Elastic())
    assert found.monthly == 730 * 3600 * MACHINE.prices["compute.seconds"]
    assert found.uptime
    assert found.uptime.wakes == 0


def test_few_calls_each_pay_a_start_and_an_idle_window() -> None:
    found = costing.serverless(rhythmic(), Decimal(100), MACHINE, Elastic())
    assert found.uptime
    lasts_s = MACHINE.speed.lasts_s(2000, 500) if MACHINE.speed else 0
    assert found.uptime.wakes == pytest.approx(100)
    assert found.uptime.starting_s == pytest.approx(100 * 300)
    assert found.uptime.awake_s == pytest.approx(100 * (600 + lasts_s), rel=0.01)


def test_bursts_cost_less_asleep_between_them_and_wake_six_times_a_day() -> None:
    traffic = rhythmic("20 M", "bursty")
    asleep = costing.serverless(traffic, traffic.calls, MACHINE, Elastic())
    always = costing.always_on(traffic, traffic.calls, MACHINE, Elastic())
    assert asleep.uptime
    assert asleep.uptime.wakes == pytest.approx(6 * 730 / 24)
    assert asleep.monthly is not None
    assert always.monthly is not None
    assert asleep.monthly < always.monthly / 3


def test_what_is_not_known_draws_no_line_and_says_so() -> None:
    unmeasured = replace(MACHINE, speed=None)
    advice = reckoning.advise(question(machines=[unmeasured]))
    assert [line.key for line in advice.lines] == ["hosted"]
    assert "how fast it is on 8 x H200 is not measured" in words.headline(advice)
    assert any("pay off if all of them cost less than $4.57 an hour" in text for text in words.reasons(advice))


def test_a_start_that_was_never_timed_leaves_always_on_to_be_compared() -> None:
    advice = reckoning.advise(question(machines=[replace(MACHINE, start_s=None)]))
    assert [choice.cost.monthly is None for choice in advice.own] == [True, False]


def test_the_break_even_is_exact_to_the_call() -> None:
    """A replica always on costs the same whatever comes: the first number of calls that hosted costs more for."""
    advice = reckoning.advise(question())
    found = advice.own[0].crossing
    assert found
    fixed, of_call = Decimal(730 * 3600) * MACHINE.prices["compute.seconds"], Decimal("0.00417")
    assert found.calls == int(fixed / of_call) + 1
    assert found.to_other
    assert words.headline(advice) == (
        "At 2 B tokens a month hosted is cheaper: $3,336 against $18,250 for serverless on 8 x H200."
    )
    assert any(f"{found.calls:,} calls" in text for text in words.reasons(advice))


def test_crossings_are_found_both_ways() -> None:
    def flat(_: int) -> Decimal:
        return Decimal(1000)

    def stairs(calls: int) -> Decimal:
        return Decimal(calls) if calls < 5000 else Decimal(10)

    found = crossing.find(flat, stairs, crossing.grid(100, reach=Reach(), most=10**9))
    assert [(one.calls, one.to_other) for one in found] == [(1000, False), (5000, True)]


def test_closed_weights_have_one_path_and_own_weights_the_other() -> None:
    closed = reckoning.advise(question(deployable=PathState(False, "not possible: closed weights")))
    assert not closed.own
    assert "can only be hosted" in words.headline(closed)
    assert "On replicas of your own: not possible: closed weights." in words.reasons(closed)
    own = reckoning.advise(question(hosted=PathState(False, "not possible: your own weights"), hosted_prices={}))
    assert own.hosted.cost.monthly is None
    assert own.best
    assert own.best.cost.way != Way.HOSTED
    assert "Hosted is not possible: your own weights." in words.headline(own)


def test_who_accepts_no_start_is_not_sent_to_a_sleeper() -> None:
    asked = question(traffic=rhythmic("20 M", "bursty"), wish=Wish(accepts_cold=False), hosted_prices={})
    asleep, always = reckoning.advise(asked).own
    assert "would wait for a start" in asleep.unfit
    assert not always.unfit
    assert not reckoning.advise(replace(asked, wish=Wish())).own[0].unfit


def test_a_hardware_that_is_too_slow_for_one_caller_does_not_fit_the_wish() -> None:
    slow = reckoning.advise(question(wish=Wish(tokens_per_s=200.0)))
    assert "writes 93.8 tokens/s for one caller, and 200 are wished" in slow.own[0].unfit


def test_fewer_replicas_than_the_busiest_moment_needs_do_not_fit() -> None:
    advice = reckoning.advise(question(traffic=rhythmic("200 B"), elastic=Elastic(most=1)))
    assert "would be needed at the busiest moment, and 1 may run" in advice.own[0].unfit


def test_more_replicas_than_a_deployment_may_have_are_those_of_several() -> None:
    found = costing.always_on(rhythmic("200 B"), amounts.read("200 B") / 2500, MACHINE, Elastic())
    one = costing.always_on(rhythmic(), Decimal(800_000), MACHINE, Elastic())
    assert found.limits
    assert (found.deployments, found.limits.most) == (1, 5)
    huge = costing.serverless(rhythmic(), amounts.read("10 T") / 2500, MACHINE, Elastic())
    assert huge.limits
    assert huge.deployments > 1
    assert huge.limits.most <= 32
    assert one.deployments == 1


def test_a_trace_at_another_volume_leaves_calls_out_or_repeats_them_evenly() -> None:
    seen = [Seen(n * 3000.0, {"tokens.input": Decimal(100), "tokens.output": Decimal(10)}) for n in range(100)]
    trace, speed = Traced(seen), Speed(1000, 100, 4)
    plays = {count: trace.play(Decimal(count), speed, Limits(0, 1, 4, 600), start_s=10.0) for count in (50, 100, 200)}
    assert [plays[count].wakes for count in (50, 100, 200)] == [50, 100, 100]
    assert trace.bundles(Decimal(50), [])[0].quantities["tokens.input"] == 5000


def test_an_empty_trace_says_that_there_is_nothing_to_replay() -> None:
    advice = reckoning.advise(question(traffic=Traced([])))
    assert "nothing to replay" in words.headline(advice)
    assert words.reasons(advice) == []
