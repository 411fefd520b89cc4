"""The sample team: whole, the same for a seed, through the door of all usage, told apart from what is real."""

from datetime import UTC, datetime, timedelta
from io import StringIO
from itertools import pairwise

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db.models import Sum
from django.test import Client

from accounts import sample
from accounts.models import Membership, Team
from billing import invoicing
from billing.models import LedgerEntry, Price, Reservation, Spend, UsageEvent
from deployments.models import Deployment, Replica
from gateway.models import RequestRecord
from portal.sample import rhythm
from portal.sample.filling import fill
from portal.sample.rhythm import ENGINES, PROGRAMS, Calendar
from tests.factories.accounts import TeamFactory, UserFactory
from tests.factories.catalog import load_starter

UNTIL = datetime(2026, 11, 25, 13, 0, tzinfo=UTC)  # a Wednesday


def test_the_same_seed_makes_the_same_work_and_it_has_a_rhythm() -> None:
    calendar = Calendar(7, UNTIL, 28, "Europe/Berlin")
    coding = PROGRAMS[1]
    found = list(rhythm.uses(coding, calendar))
    assert found == list(rhythm.uses(coding, calendar))
    assert found != list(rhythm.uses(coding, Calendar(8, UNTIL, 28, "Europe/Berlin")))
    weekend = [use for use in found if use.at.weekday() >= 5]
    in_office = [use for use in found if 7 <= use.at.hour < 17]
    assert 0 < len(weekend) < len(found) / 8
    assert len(in_office) > len(found) * 0.8
    assert all(use.ended_at <= UNTIL and use.tokens_in > 0 for use in found)
    for engine in ENGINES:
        lives = list(rhythm.lives(engine, calendar))
        assert all(one.exited_at < two.started_at for one, two in pairwise(lives))
        for life in lives:
            for use in rhythm.calls_within(engine, life, calendar):
                assert life.ready_at <= use.at < life.exited_at


def test_ninety_days_are_about_twenty_thousand_events() -> None:
    calendar = Calendar(7, UNTIL, 90, "Europe/Berlin")
    calls = sum(len(list(rhythm.uses(program, calendar))) for program in PROGRAMS)
    minutes = sum(
        (life.exited_at - life.started_at) / timedelta(minutes=1) + 2
        for engine in ENGINES
        for life in rhythm.lives(engine, calendar)
    )
    assert 15_000 < calls + minutes < 30_000


@pytest.mark.django_db
def test_the_team_is_filled_once_and_its_sums_agree(client: Client) -> None:
    load_starter()
    real = list(Price.objects.order_by("pk").values())
    filled = fill(until=UNTIL, days=4, seed=7)
    assert filled
    team = filled.team
    events, entries = UsageEvent.objects.filter(team=team), LedgerEntry.objects.filter(team=team)
    assert events.count() > filled.calls > 100
    assert not Reservation.objects.exclude(state="settled").exists()
    spend = Spend.objects.filter(team=team).aggregate(settled=Sum("settled"), held=Sum("held"))
    assert (spend["settled"], spend["held"]) == (filled.cost, 0)
    assert {row.meter for row in entries} >= {"tokens.input.cached", "compute.seconds", "compute.starting"}
    assert entries.filter(kind="correction").exists()
    assert {row.path for row in entries if row.amount} == {"hosted", "serverless"}
    assert all(sku.startswith(("sample:", "included:")) for sku in entries.values_list("sku", flat=True))
    assert list(Price.objects.exclude(sku__startswith="sample:").order_by("pk").values()) == real
    assert RequestRecord.objects.filter(team=team).exists()
    asleep = Deployment.objects.get(status="asleep")
    lived = sum((row.exited_at - row.started_at for row in Replica.objects.filter(deployment=asleep)), timedelta())
    billed = entries.filter(deployment_name=asleep.name, meter__startswith="compute").aggregate(s=Sum("quantity"))["s"]
    assert float(billed) == lived.total_seconds()
    assert fill(until=UNTIL + timedelta(days=9), days=9, seed=8) is None
    assert events.count() == UsageEvent.objects.count()
    assert not list(invoicing.close_due(now=datetime(2027, 3, 1, tzinfo=UTC)))


@pytest.mark.django_db
def test_every_page_of_it_says_that_it_is_made_up(client: Client) -> None:
    sample.make(time_zone="UTC", key_names=["one"])
    team = Team.objects.get(is_sample=True)
    user = UserFactory()
    sample.let_in(team, user, role="viewer")
    client.force_login(user)
    for page in ("/", "/billing/", "/keys/", "/team/", "/requests/", "/budgets/", "/licences/", "/deployments/"):
        assert "Sample data." in client.get(page).content.decode(), page
    Membership.objects.filter(user=user).update(team=TeamFactory())
    assert "Sample data." not in client.get("/").content.decode()


@pytest.mark.django_db
def test_a_real_team_of_that_name_is_left_alone() -> None:
    TeamFactory(slug="sample")
    with pytest.raises(CommandError, match="A real team"):
        call_command("sample_data")
    assert not Team.objects.filter(is_sample=True).exists()


@pytest.mark.django_db
def test_it_can_be_put_away_but_not_removed() -> None:
    load_starter()
    viewer, out = UserFactory(), StringIO()
    for _ in range(2):
        call_command("sample_data", viewers=[viewer.email], days=2, stdout=out)
    assert "calls and" in out.getvalue()
    assert "nothing was added" in out.getvalue()
    assert Membership.objects.filter(user=viewer, team__is_sample=True, role="viewer").exists()
    with pytest.raises(CommandError, match="append-only"):
        call_command("sample_data", remove=True)
    before = LedgerEntry.objects.count()
    call_command("sample_data", archive=True, stdout=out)
    assert (LedgerEntry.objects.count(), sample.find()) == (before, None)
    assert not Membership.objects.filter(user=viewer).exists()
