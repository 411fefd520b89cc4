"""Member and tag go with a call into every row and file that its money is in."""

import csv
import io
import json
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from django.test import Client

from accounts import keys
from accounts.models import Team
from billing import chain, corrections, detail, focus, periods, rating, scope
from billing.models import LedgerEntry
from tests.factories.accounts import TeamFactory
from tests.factories.billing import billed

OCTOBER = datetime(2026, 10, 10, 12, tzinfo=UTC)


@pytest.fixture
def team(db: None) -> Team:
    team = TeamFactory()
    for member, tag in (("ann@example.com", "nightly"), ("=bob@example.com", 'a"b'), ("", "")):
        billed(team, {"tokens.input": 7}, started_at=OCTOBER, member=member, tag=tag)
    return team


def lines_of(team: Team, form: object) -> list[list[str]]:
    text = b"".join(form.as_csv(scope.of(team, periods.month_named("2026-10", "UTC"))))  # type: ignore[attr-defined]
    return list(csv.reader(io.StringIO(text.decode(), newline="")))


def test_an_altered_member_or_tag_of_an_exported_row_is_named(team: Team) -> None:
    lines = lines_of(team, detail)
    assert [line[lines[0].index("member")] for line in lines[1:]] == ["ann@example.com", "'=bob@example.com", ""]
    assert chain.check(lines)[2] is None
    for name in ("member", "tag"):
        changed = [list(line) for line in lines]
        changed[2][lines[0].index(name)] = "somebody"
        altered = chain.check(changed)[2]
        assert altered is not None
        assert (altered.row, altered.entry) == (2, lines[2][1])


def test_focus_tells_them_apart_with_the_tag_as_json(team: Team) -> None:
    head, *rows = lines_of(team, focus)
    tags = [row[head.index("Tags")] for row in rows]
    assert [json.loads(tag) for tag in tags if tag] == [{"tag": "nightly"}, {"tag": 'a"b'}]
    assert [row[head.index("x_Member")] for row in rows] == ["ann@example.com", "'=bob@example.com", ""]


def test_a_correction_stays_with_its_member_and_tag(team: Team) -> None:
    entry = LedgerEntry.objects.get(tag="nightly")
    rows = corrections.correct(entry, quantity=Decimal(5), unit_price=entry.unit_price, reason="too many", actor="x")
    assert {(row.member, row.tag, row.quality, row.calls) for row in rows} == {
        ("ann@example.com", "nightly", "measured", 0)
    }


def test_the_usage_api_sums_by_them(team: Team, client: Client) -> None:
    _, key = keys.issue(team, name="api")
    for group, names in (("member", {"", "ann@example.com", "=bob@example.com"}), ("tag", {"", "nightly", 'a"b'})):
        asked = f"/api/v1/usage?since=2026-10-01&until=2026-11-01&group_by={group}"
        found = client.get(asked, headers={"authorization": f"Bearer {key}"}).json()
        assert {row["group"] for row in found["results"]} == names


def test_a_cached_token_knows_what_it_would_have_cost_in_the_same_call() -> None:
    prices = {"tokens.input": Decimal(4), "tokens.input>100": Decimal(8), "tokens.input.cached": Decimal(1)}
    prices |= {rating.DISCOUNT: Decimal(50)}
    for cached, saved_each in ((50, Decimal("1.5")), (101, Decimal("3.5"))):
        lines = rating.rate({"tokens.input": Decimal(0), "tokens.input.cached": Decimal(cached)}, prices)
        (line,) = lines
        assert line.uncached_price is not None
        assert line.uncached_price - line.unit_price == saved_each
