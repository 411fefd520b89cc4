"""What a month will have cost: arithmetic alone."""

from datetime import date, timedelta
from decimal import Decimal

from billing import forecasting
from billing.forecasting import DayCost
from billing.glance import Change

TODAY, LAST = date(2026, 11, 25), date(2026, 11, 30)  # a Wednesday and a Monday
DAY = timedelta(days=1)


def days(count: int, *, weekday: str, weekend: str, today: str = "0") -> dict[date, DayCost]:
    found = {}
    for number in range(1, count + 1):
        day = TODAY - number * DAY
        found[day] = DayCost(hosted=Decimal(weekend if day.weekday() >= 5 else weekday))
    return found | {TODAY: DayCost(hosted=Decimal(today))}


def test_each_coming_day_costs_what_its_weekday_did() -> None:
    found = forecasting.of_month(days(40, weekday="10", weekend="1"), today=TODAY, last=LAST, spent=Decimal(200))
    assert found is not None
    assert found.rest_of_today == 10
    assert found.coming == 10 + 10 + 1 + 1 + 10  # Thursday to Monday
    assert (found.usd, found.seen_days) == (200 + 10 + 32, 28)


def test_of_today_only_what_is_not_spent_yet_is_to_come() -> None:
    for today, rest in (("4", 6), ("10", 0), ("25", 0)):
        costs = days(28, weekday="10", weekend="10", today=today)
        found = forecasting.of_month(costs, today=TODAY, last=LAST, spent=Decimal(today))
        assert found is not None
        assert found.rest_of_today == rest


def test_days_before_the_first_use_and_before_four_weeks_do_not_count() -> None:
    young = days(3, weekday="9", weekend="9")
    found = forecasting.of_month(young, today=TODAY, last=LAST, spent=Decimal(27))
    assert found is not None
    assert (found.seen_days, found.coming) == (3, 45)
    old = days(28, weekday="2", weekend="2") | {TODAY - 29 * DAY: DayCost(hosted=Decimal(1000))}
    found = forecasting.of_month(old, today=TODAY, last=LAST, spent=Decimal(0))
    assert found is not None
    assert found.coming == 10


def test_a_day_without_use_since_the_first_one_counts_as_nothing() -> None:
    costs = {TODAY - 2 * DAY: DayCost(hosted=Decimal(8))}
    found = forecasting.of_month(costs, today=TODAY, last=TODAY + 6 * DAY, spent=Decimal(8))
    assert found is not None
    assert found.coming == 8 + 0 + 4 * 4  # its Monday, its Tuesday, four weekdays that were not seen


def test_serverless_costs_at_least_what_never_sleeps() -> None:
    costs = {TODAY - number * DAY: DayCost(hosted=Decimal(1), serverless=Decimal(2)) for number in range(1, 29)}
    rule = {"today": TODAY, "last": LAST, "spent": Decimal(0)}
    low = forecasting.of_month(costs, **rule, committed_per_day=Decimal("1.5"))  # type: ignore[arg-type]
    high = forecasting.of_month(costs, **rule, committed_per_day=Decimal(5), left_of_today=Decimal("0.5"))  # type: ignore[arg-type]
    assert low is not None
    assert high is not None
    assert low.coming == 5 * 3
    assert high.coming == 5 * 6
    assert high.committed == 5 * 5 + Decimal("2.5")
    alone = forecasting.of_month({}, **rule, committed_per_day=Decimal(4), left_of_today=Decimal("0.25"))  # type: ignore[arg-type]
    assert alone is not None
    assert alone.usd == 4 * Decimal("0.25") + 5 * 4


def test_there_is_no_forecast_before_the_first_whole_day() -> None:
    costs = {TODAY: DayCost(hosted=Decimal(3))}
    assert forecasting.of_month(costs, today=TODAY, last=LAST, spent=Decimal(3)) is None
    assert forecasting.runs_out_on(costs, today=TODAY, last=LAST, left=Decimal(1)) is None


def test_a_budget_runs_out_on_the_day_that_passes_it() -> None:
    costs = days(28, weekday="10", weekend="10", today="4")
    for left, day in (("5.99", 25), ("6", 26), ("16", 27), ("55.99", 30), ("56", None)):
        found = forecasting.runs_out_on(costs, today=TODAY, last=LAST, left=Decimal(left))
        assert (found.day if found else None) == day


def test_a_change_is_said_in_words() -> None:
    for before, now, words in (
        ("100", "112", "12 % more than"), ("100", "92", "8 % less than"), ("100", "100.2", "about as much as"),
        ("10", "34", "3.4 times"), ("0", "1", "more than"), ("100", "0", "100 % less than"),
    ):  # fmt: skip
        assert Change(Decimal(before), Decimal(now)).words == words
