"""The costs page: its chart, its tables, its CSV and the rows behind a bar are one ledger; filters, teams, errors."""

import csv
import io
import json
import uuid
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from accounts.models import Role, Team
from billing import budgets, charts, costs, idleness, invoicing, metering, periods, questions, rating, rollups, scope
from tests.factories.accounts import MembershipFactory, TeamFactory
from tests.factories.billing import PRICES, billed, call, settlement
from tests.factories.months import awake, entry, full_october

pytestmark = pytest.mark.django_db
OCTOBER = datetime(2026, 10, 10, 12, tzinfo=UTC)
D = Decimal


def signed_in(client: Client, team: Team, role: Role = Role.OWNER) -> Any:
    membership = MembershipFactory(team=team, role=role)
    client.force_login(membership.user)
    return membership.user


def rows_of(answer: Any) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(b"".join(answer).decode())))


def added(found: Any) -> Decimal:
    return rating.add(D(one) for one in found)


def many_models(team: Team, count: int) -> None:
    for number in range(count):
        billed(
            team, {"tokens.input": number * 7 + 1}, model_name=f"M{number:02}",
            started_at=OCTOBER + timedelta(hours=number), api_key_name=f"key {number % 3}",
            member=f"{number % 4}@example.com", tag="x" if number % 2 else "",
        )  # fmt: skip


def ledger_of(team: Team, month: str = "2026-10") -> Decimal:
    found = scope.of(team, periods.month_named(month, team.time_zone))
    return rating.add(found.entries.values_list("amount", flat=True))


@pytest.mark.parametrize("rolled", [False, True])
def test_chart_tables_csv_and_rows_are_the_ledger_to_the_last_digit(client: Client, rolled: bool) -> None:
    team = full_october()
    many_models(team, 12)
    if rolled:
        rollups.roll_up()
    signed_in(client, team)
    total = ledger_of(team)
    plain = added(row["cost"] for row in rows_of(client.get("/billing/statements/2026-10.csv")))
    assert plain == total
    for split in ("model", "path", "deployment", "key", "member", "tag", "meter"):
        page = client.get(f"/billing/?month=2026-10&split={split}")
        context = page.context
        assert context["cost"] == total
        drawn = added(cost for trace in context["figure"]["data"] for cost in trace["customdata"])
        assert drawn == total, split
        assert rating.add(line.cost for line, _ in context["lines"]) == total
        assert rating.add(day.cost for day in context["days"]) == total
        assert rating.add(one.series.cost for one in context["entries"]) == total
        chart = rows_of(client.get(f"/billing/chart.csv?month=2026-10&split={split}"))
        assert added(row["cost"] for row in chart) == total
    everything = client.get("/billing/rows/?month=2026-10")
    assert everything.context["cost"] == total
    assert added(row["cost"] for row in rows_of(client.get("/billing/rows.csv?month=2026-10"))) == total


def test_every_bar_leads_to_rows_that_sum_to_it(client: Client) -> None:
    team = full_october()
    many_models(team, 4)
    signed_in(client, team)
    for split in ("model", "deployment"):
        page = client.get(f"/billing/?month=2026-10&split={split}")
        figure = page.context["figure"]
        bars = 0
        for trace in figure["data"]:
            for place, cost in enumerate(trace["customdata"]):
                if not D(cost):
                    continue
                bars += 1
                bucket = figure["layout"]["meta"]["buckets"][place]
                asked = {"month": "2026-10", "split": split, "at": bucket["at"]} | trace["meta"]["query"]
                rows = client.get(f"/billing/rows/?{urlencode(asked)}")
                assert rows.context["cost"] == D(cost), (trace["name"], bucket)
        assert bars > 8


def test_the_others_lead_to_exactly_their_rows(client: Client) -> None:
    team = full_october()
    for number in range(14):
        billed(
            team, {"tokens.input": number * 7 + 1}, started_at=OCTOBER + timedelta(hours=2 * number),
            model_name=f"M{number}", api_key_name=f"key {number}", member=f"{number}@example.com",
            tag=f"({number})/none" if number else "", deployment_name=f"d/{number}",
            path="serverless" if number % 2 else "hosted",
        )  # fmt: skip
        billed(team, {"tokens.input": 3}, started_at=OCTOBER, model_name=f"M{number}", path="hosted")
    rollups.roll_up()
    signed_in(client, team)
    for split in ("model", "deployment", "key", "member", "tag"):
        figure = client.get(f"/billing/?month=2026-10&split={split}").context["figure"]
        (others,) = (trace for trace in figure["data"] if trace["name"].endswith(" others"))
        bars = {bar["at"]: D(cost) for bar, cost in zip(figure["layout"]["meta"]["buckets"], others["customdata"],
                                                        strict=True) if D(cost)}  # fmt: skip
        asked = {"month": "2026-10", "split": split} | others["meta"]["query"]
        for at in ("", *bars):
            rows = client.get(f"/billing/rows/?{urlencode(asked | {'at': at}, doseq=True)}").context
            assert rows["cost"] == (bars[at] if at else rating.add(bars.values())), (split, at)
    page = client.get(f"/billing/rows/?{urlencode(asked, doseq=True)}").context
    file = rows_of(client.get(f"/billing/rows.csv{page['csv']}"))
    assert added(row["cost"] for row in file) == page["cost"] > 0
    ((label, names, without),) = page["filters"]
    assert (label, names.count(", ")) == ("Tag other than", 7)  # "no tag" is named once, on either path
    assert client.get(f"/billing/rows/{without}").context["cost"] > page["cost"]


def test_other_teams_than_the_named_ones(client: Client) -> None:
    one, two, three = (TeamFactory(slug=slug) for slug in ("one", "two", "three"))
    user = signed_in(client, one)
    for team in (two, three):
        MembershipFactory(user=user, team=team)
    for number, team in enumerate((one, two, three), 1):
        billed(team, {"tokens.input": number}, started_at=OCTOBER)
    rows = client.get("/billing/rows/?month=2026-10&scope=all&split=team&kind=usage&not=hosted/one&not=hosted/three")
    assert rows.context["cost"] == ledger_of(two)
    assert client.get("/billing/rows/?month=2026-10&not=one").status_code == 400
    assert client.get("/billing/rows/?month=2026-10" + "&not=hosted/x" * 21).status_code == 400


def test_nine_models_are_drawn_alone_and_the_others_together(client: Client) -> None:
    team = TeamFactory()
    many_models(team, 40)
    entry(team, "credit", OCTOBER, reason="x", quantity="1", unit_price="-0.125", meter="", sku="")
    signed_in(client, team)
    page = client.get("/billing/?month=2026-10")
    traces = page.context["figure"]["data"]
    assert [trace["name"] for trace in traces] == [*(f"M{n}" for n in range(39, 30, -1)), "Credits", "31 others"]
    assert {trace["meta"]["color"] for trace in traces} == {*(f"indigo-{n}" for n in range(1, 10)), "credit", "other"}
    assert len(page.context["entries"]) == 41
    assert page.content.decode().count("data-cost=") == 41


def test_hours_of_a_day_that_has_25(client: Client) -> None:
    team = TeamFactory(time_zone="Europe/Berlin")
    for hour in range(-2, 23):
        billed(team, {"tokens.input": hour + 3}, started_at=datetime(2026, 10, 25, tzinfo=UTC) + timedelta(hours=hour))
    signed_in(client, team)
    page = client.get("/billing/?from=2026-10-25&to=2026-10-25&split=path")
    figure = page.context["figure"]
    assert len(figure["layout"]["meta"]["buckets"]) == 25
    assert [D(cost) / PRICES["tokens.input"] for cost in figure["data"][0]["customdata"]] == list(range(1, 26))
    twice = [bucket["at"] for bucket in figure["layout"]["meta"]["buckets"] if "T02:00" in bucket["at"]]
    assert twice == ["2026-10-25T02:00+02:00", "2026-10-25T02:00+01:00"]
    for at, quantity in zip(twice, (3, 4), strict=True):
        rows = client.get(f"/billing/rows/?from=2026-10-25&to=2026-10-25&by=hour&at={quote(at)}")
        assert rows.context["cost"] == quantity * PRICES["tokens.input"]


def test_a_tag_that_is_called_none_is_not_no_tag(client: Client) -> None:
    team = TeamFactory()
    for number, tag in enumerate(["", "(none)", "((none))"], start=1):
        billed(team, {"tokens.input": number}, started_at=OCTOBER, tag=tag)
    signed_in(client, team)
    page = client.get("/billing/?month=2026-10&split=tag").context["entries"]
    for bar in page:
        form = client.get("/billing/filters/", {"month": "2026-10", "tag": bar.query["tag"]}).content.decode()
        assert f'<option value="{bar.query["tag"]}" selected>' in form
        rows = rows_of(client.get("/billing/rows.csv", {"month": "2026-10", **bar.query}))
        assert [row["tag"] for row in rows] == [bar.series.value]
    assert len(page) == 3


def test_filters_stand_in_the_url_and_can_be_taken_away(client: Client) -> None:
    team = TeamFactory()
    many_models(team, 12)
    signed_in(client, team)
    page = client.get(f"/billing/?month=2026-10&key=key+1&tag={quote(questions.NONE)}")
    wanted = [number for number in range(12) if number % 3 == 1 and number % 2 == 0]
    assert page.context["cost"] == sum(number * 7 + 1 for number in wanted) * PRICES["tokens.input"]
    assert [chip[:2] for chip in page.context["chips"]] == [("API key", "key 1"), ("Tag", "no tag")]
    without = client.get(f"/billing/{page.context['chips'][0][2]}")
    assert [chip[0] for chip in without.context["chips"]] == ["Tag"]
    form = client.get("/billing/filters/?month=2026-10&key=key+1").content.decode()
    assert '<option value="key 1" selected>' in form
    assert form.count('<option value="M') == 12
    nothing = client.get("/billing/?month=2026-10&key=no+such+key").content.decode()
    assert "Nothing fits these filters" in nothing


@pytest.mark.parametrize("asked", ["month=2026-13", "from=2026-02-30", "from=2026-10-02&to=2026-10-01",
                                   "from=2020-01-01&to=2026-10-01", "from=x", "month=%00"])  # fmt: skip
def test_what_can_not_be_asked_is_said(client: Client, asked: str) -> None:
    signed_in(client, TeamFactory())
    for part in ("", "rows/", "filters/", "idle/", "chart.csv", "rows.csv"):
        answer = client.get(f"/billing/{part}?{asked}")
        assert answer.status_code == 400
        assert "That can&#x27;t be shown" in answer.content.decode() or "can't be shown" in answer.content.decode()


@pytest.mark.parametrize("asked", ["at=2026-11-99", "kind=x", "after=x", "after=2026-10-01T00:00:00Z~x"])
def test_rows_that_are_none_are_not_found(client: Client, asked: str) -> None:
    signed_in(client, TeamFactory())
    assert client.get(f"/billing/rows/?month=2026-10&{asked}").status_code == 404


@pytest.mark.parametrize("page", ["costs-rows", "costs-rows-csv"])
def test_who_keeps_no_teams_money_sees_no_rows_of_all_teams(client: Client, page: str) -> None:
    team = TeamFactory()
    billed(team, started_at=OCTOBER)
    signed_in(client, team, Role.DEVELOPER)
    answer = client.get(reverse(page) + "?scope=all&from=2026-10-01&to=2026-10-31&at=late")
    assert answer.status_code == 200
    assert team.slug not in (b"".join(answer) if answer.streaming else b"").decode()


@pytest.mark.parametrize("since", ["0001-01-01", "9999-12-31T23:59:59-14:00", "2026-02-30", "%00", "now"])
def test_the_usage_api_refuses_days_that_are_none(client: Client, since: str) -> None:
    team = TeamFactory(time_zone="Asia/Tokyo")
    signed_in(client, team)
    assert client.get(f"/api/v1/usage?since={since}").status_code == 400
    assert client.get(f"/api/v1/usage?until={since}").status_code == 400


def test_rows_are_paged_and_each_comes_once(client: Client) -> None:
    team = TeamFactory()
    for _ in range(55):
        billed(team, started_at=OCTOBER)
    signed_in(client, team)
    first = client.get("/billing/rows/?month=2026-10&at=2026-10-10")
    second = client.get(f"/billing/rows/{first.context['next']}")
    seen = [row.pk for page in (first, second) for row in page.context["rows"]]
    assert (len(seen), len(set(seen)), second.context["next"]) == (110, 110, "")


def test_late_rows_are_in_the_tables_and_named_but_not_drawn(client: Client) -> None:
    team = TeamFactory()
    billed(team, started_at=OCTOBER)
    assert invoicing.close(team, periods.month_named("2026-10", "UTC"), now=datetime(2026, 11, 10, tzinfo=UTC))
    late = billed(team, {"tokens.input": 999}, started_at=OCTOBER)
    own = billed(team, started_at=datetime(2026, 11, 5, tzinfo=UTC))
    signed_in(client, team)
    page = client.get("/billing/?month=2026-11")
    assert (page.context["late_cost"], page.context["cost"]) == (late.cost, late.cost + own.cost)
    drawn = added(cost for trace in page.context["figure"]["data"] for cost in trace["customdata"])
    assert drawn == own.cost
    assert rating.add(day.cost for day in page.context["days"]) == page.context["cost"]
    assert client.get("/billing/rows/?month=2026-11&at=late").context["cost"] == late.cost
    assert "Closed" in client.get("/billing/?month=2026-10").content.decode()


def test_several_teams_stand_side_by_side_where_the_role_allows(client: Client) -> None:
    one, two, closed = (
        TeamFactory(slug="one"),
        TeamFactory(slug="two", time_zone="Asia/Tokyo"),
        TeamFactory(slug="three"),
    )
    foreign = TeamFactory(slug="four")
    user = signed_in(client, one)
    MembershipFactory(user=user, team=two, role=Role.BILLING)
    MembershipFactory(user=user, team=closed, role=Role.DEVELOPER)
    for number, team in enumerate((one, two, closed, foreign), 1):
        billed(team, {"tokens.input": number}, started_at=OCTOBER)
        billed(team, {"tokens.input": 10 * number}, started_at=OCTOBER - timedelta(days=30))
    billed(two, {"tokens.input": 5}, started_at=datetime(2026, 9, 30, 15, 30, tzinfo=UTC))  # October in Tokyo
    page = client.get("/billing/?month=2026-10&scope=all")
    assert page.context["question"].split == "team"
    spent = {one.team.slug: one.spent.total / PRICES["tokens.input"] for one in page.context["glances"]}
    assert spent == {"one": 1, "two": 7}
    before = {one.team.slug: one.whole.before / PRICES["tokens.input"] for one in page.context["glances"]}
    assert before == {"one": 10, "two": 20}
    assert page.context["cost"] == ledger_of(one) + ledger_of(two)
    only = client.get("/billing/?month=2026-10&scope=all&team=two")
    assert only.context["cost"] == ledger_of(two)
    assert client.get("/billing/?month=2026-10&scope=all&team=four").context["cost"] == 0
    assert client.get("/billing/rows/?month=2026-10&scope=all").context["cost"] == ledger_of(one) + ledger_of(two)
    assert client.get("/billing/?month=2026-10&team=two").context["cost"] == ledger_of(one)
    assert client.get("/billing/rows/?month=2026-10").context["cost"] == ledger_of(one)


def test_this_month_has_a_forecast_and_says_when_the_budget_runs_out(client: Client) -> None:
    team = TeamFactory()
    now, prices = timezone.now(), {"tokens.input": D(1), "tokens.output": D(0)}
    for back in range(1, 29):
        billed(team, {"tokens.input": 1}, prices=prices, started_at=now - timedelta(days=back))
    budgets.set_monthly(team, D(10_000))
    signed_in(client, team)
    found = client.get("/billing/").context["glance"]
    month = periods.month_at(now, "UTC")
    today = now.date()
    left = (month.days[-1] - today).days
    assert found.forecast.usd == (today - month.first).days + 1 + left
    assert (found.limit, found.runs_out) == (10_000, None)
    assert "the forecast leaves" in client.get("/billing/").content.decode()
    assert client.get("/billing/?key=laptop").context["glance"].limit is None


def test_the_page_asks_few_questions_whatever_there_is(client: Client) -> None:
    team = full_october()
    many_models(team, 40)
    rollups.roll_up()
    user = signed_in(client, team)
    MembershipFactory(user=user, team=TeamFactory())
    for address in ("/billing/?month=2026-10&split=tag", "/billing/?month=2026-10&key=key+1", "/billing/",
                    "/billing/?from=2026-10-09&to=2026-10-12&by=hour", "/billing/?scope=all&month=2026-10",
                    "/billing/filters/?month=2026-10"):  # fmt: skip
        with CaptureQueriesContext(connection) as asked:
            assert client.get(address).status_code == 200
        assert len(asked) <= 12, "\n".join(query["sql"][:300] for query in asked)


def test_idle_is_what_was_awake_without_a_call() -> None:
    team = TeamFactory()
    awake(team, OCTOBER, seconds=600, deployment_name="a/one")
    awake(team, OCTOBER + timedelta(seconds=300), seconds=300, deployment_name="a/one")
    awake(team, OCTOBER, seconds=60, deployment_name="a/two")
    for begins, lasts in ((10, 20), (20, 30), (400, 100), (590, 100), (-50, 55)):
        _call(team, "a/one", OCTOBER + timedelta(seconds=begins), lasts)
    _call(team, "", OCTOBER, 600)
    question = questions.read({"month": "2026-10"}, zone="UTC", now=OCTOBER)
    found = {one.deployment: (one.awake_s, one.idle_s) for one in idleness.of(costs.stand(question, [team]))}
    # Busy: 0 to 5 and 10 to 50 with one replica, 400 to 500 and 590 to 600 with two.
    assert found == {"a/one": (900, 900 - 45 - 2 * 110), "a/two": (60, 60)}
    assert idleness.of(costs.stand(question, [TeamFactory()])) == []


def test_idle_is_a_part_of_the_page_and_a_page(client: Client) -> None:
    team = TeamFactory()
    awake(team, OCTOBER, seconds=100, deployment_name="a/one")
    signed_in(client, team)
    page = client.get("/billing/idle/?month=2026-10")
    assert page.context["usd"] == D("0.001")
    part = client.get("/billing/idle/?month=2026-10", headers={"hx-request": "true"}).content.decode()
    assert "$0.001" in part
    assert "<html" not in part


def test_the_figures_say_what_starts_cost_and_the_cache_saved(client: Client) -> None:
    team = TeamFactory()
    prices = PRICES | {"tokens.input.cached": D("0.000000005")}
    billed(team, {"tokens.input": 50, "tokens.input.cached": 100}, prices=prices, started_at=OCTOBER)
    billed(team, {"tokens.input": 50}, prices=prices, started_at=OCTOBER)
    for meter, seconds in (("compute.starting", 30), ("compute.starting.failed", 12)):
        metering.record_compute(
            replica_id=uuid.uuid4(), team=team, sku="hardware:x", source="d", model_name="M", deployment_name="d",
            started_at=OCTOBER, ended_at=OCTOBER + timedelta(seconds=seconds), prices={meter: D("0.5")}, meter=meter,
        )  # fmt: skip
    signed_in(client, team)
    for split in ("model", "meter", "path"):
        figures = client.get(f"/billing/?month=2026-10&split={split}").context["figures"]
        assert (figures["starts"].seconds, figures["starts"].cost, figures["failed"].cost) == (30, 15, 6)
        assert (figures["calls"], figures["saved"]) == (2, 100 * D("0.000000015"))
        assert figures["per_thousand"] == ledger_of(team) * 500


def test_the_figure_names_colours_of_the_page_and_sums_by_day() -> None:
    team = full_october()
    question = questions.read({"month": "2026-10", "split": "path"}, zone=team.time_zone, now=OCTOBER)
    reading = costs.read(costs.stand(question, [team]))
    figure = charts.figure(reading, charts.legend(reading, names={}))
    json.dumps(figure)
    by_day: dict[str, Decimal] = defaultdict(Decimal)
    for trace in figure["data"]:
        for bucket, cost in zip(figure["layout"]["meta"]["buckets"], trace["customdata"], strict=True):
            by_day[bucket["at"]] += D(cost)
    rows = costs.rows(costs.stand(question, [team]), None).values_list("at", "amount")
    wished: dict[str, Decimal] = defaultdict(Decimal)
    for at, amount in rows:
        wished[at.astimezone(periods.zone_of("Europe/Berlin")).date().isoformat()] += amount
    assert {day: cost for day, cost in by_day.items() if cost} == wished
    assert {trace["name"]: trace["meta"]["color"] for trace in figure["data"]} == {
        "hosted": "indigo-1", "serverless": "green-1", "Corrections": "correction", "Credits": "credit",
    }  # fmt: skip


def _call(team: Team, deployment: str, begins: datetime, lasts_s: int) -> None:
    asked = call(team, deployment_name=deployment, path="serverless" if deployment else "hosted", started_at=begins)
    metering.reserve(asked)
    metering.settle(settlement(asked, ended_at=begins + timedelta(seconds=lasts_s)))
