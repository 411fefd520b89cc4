"""Counting calls: added up over gateways, told in percentiles, forgotten after a day."""

from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from deployments import operations, tallies
from deployments.models import CallTally, Deployment
from deployments.tallies import BOUNDS_MS, Ended, Sum
from tests.factories.accounts import TeamFactory
from tests.factories.deployments import smollm2

AT = datetime(2026, 11, 25, 10, 0, 7, tzinfo=UTC)


@pytest.fixture
def row(db: None) -> Deployment:
    model, hardware = smollm2()
    return operations.deploy(TeamFactory(), model=model, hardware=hardware, actor="t", name="a")


def test_two_gateways_that_count_the_same_ten_seconds_add_up(row: Deployment) -> None:
    tallies.count([Ended(row.pk, AT, False, 5, 7, 100), Ended(row.pk, AT, True)])
    tallies.count([Ended(row.pk, AT + timedelta(seconds=2), False, 1, 2, 100)])
    tallies.count([Ended(row.pk, AT + timedelta(seconds=3), False, 1, 1)])
    (first, second) = CallTally.objects.order_by("at")
    assert (first.at.second, second.at.second) == (0, 10)
    assert (first.calls, first.failed, first.tokens_in, first.tokens_out) == (3, 1, 6, 9)
    assert (sum(first.first_token), sum(second.first_token), second.calls) == (2, 0, 1)


def test_a_deployment_that_is_gone_is_not_counted(row: Deployment) -> None:
    pk = row.pk
    row.events.all().delete()
    Deployment.objects.filter(pk=pk).update(version=None)
    row.versions.all().delete()
    Deployment.objects.filter(pk=pk).delete()
    tallies.count([Ended(pk, AT, False)])
    assert not CallTally.objects.exists()


@pytest.mark.parametrize(("part", "low", "high"), [(0.5, 70, 110), (0.9, 700, 1100), (1.0, 700, 1100)])
def test_a_percentile_is_right_within_three_tenths(part: float, low: float, high: float) -> None:
    total = Sum()
    for ms in [85] * 80 + [850] * 20:
        total.first_token[next(n for n, bound in enumerate(BOUNDS_MS) if ms <= bound)] += 1
    found = total.first_token_ms(part)
    assert found is not None
    assert low <= found <= high


def test_without_a_stream_there_is_no_first_token() -> None:
    assert Sum(calls=3).first_token_ms(0.5) is None
    assert Sum().failed_share is None


def test_sparks_of_many_come_with_one_query(row: Deployment) -> None:
    now = timezone.now()
    tallies.count([Ended(row.pk, now - timedelta(minutes=50), False)] * 2 + [Ended(row.pk, now, False)])
    with CaptureQueriesContext(connection) as asked:
        found = tallies.sparks([row.pk], since=now - timedelta(hours=1), bins=6)
    assert len(asked) == 1
    assert sum(found[row.pk]) == 3
    assert (found[row.pk][-1], sum(found[row.pk][:2])) == (1, 2)


def test_yesterdays_are_forgotten(row: Deployment) -> None:
    now = timezone.now()
    tallies.count([Ended(row.pk, now - timedelta(hours=25), False), Ended(row.pk, now, False)])
    tallies.forget_old()
    assert CallTally.objects.get().at > now - timedelta(minutes=1)
