"""What ended engines have left is dropped in time, and nothing else is."""

import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone

from deployments import operations, pruning, tasks
from deployments.models import Deployment, Replica
from tests.deployments.portals import Portal
from tests.factories.accounts import TeamFactory
from tests.factories.deployments import smollm2

pytestmark = pytest.mark.django_db


@pytest.fixture
def row(small_portal: Portal) -> Deployment:
    model, hardware = smollm2()
    return operations.deploy(TeamFactory(), model=model, hardware=hardware, actor="t", name="a")


def left(portal: Portal, name: str, *, hours: float) -> Path:
    folder = portal.root / name
    folder.mkdir(parents=True)
    (folder / "engine.log").write_text("text\n")
    at = timezone.now().timestamp() - hours * 3600
    os.utime(folder / "engine.log", (at, at))
    os.utime(folder, (at, at))
    return folder


def ended(portal: Portal, row: Deployment, *, hours: float) -> Path:
    replica = Replica.objects.create(deployment=row, exited_at=timezone.now() - timedelta(hours=hours))
    return left(portal, replica.name, hours=hours)


def test_logs_are_kept_for_so_many_days(small_portal: Portal, row: Deployment, settings: Any) -> None:
    settings.ENGINE_LOG_DAYS = 2
    old, young = ended(small_portal, row, hours=49), ended(small_portal, row, hours=47)
    tasks.forget_old()
    assert not old.exists()
    assert (young / "engine.log").read_text() == "text\n"


def test_of_each_deployment_the_last_ones_are_kept(small_portal: Portal, row: Deployment, settings: Any) -> None:
    settings.ENGINE_LOGS_KEPT = 2
    folders = [ended(small_portal, row, hours=hours) for hours in (5, 4, 3, 2)]
    other = operations.deploy(TeamFactory(), model=row.model, hardware=row.hardware, actor="t", name="b")
    others = ended(small_portal, other, hours=9)
    assert pruning.prune() == 2
    assert [folder.exists() for folder in folders] == [False, False, True, True]
    assert others.exists()


def test_what_has_just_ended_is_kept_whatever_the_settings_say(
    small_portal: Portal, row: Deployment, settings: Any
) -> None:
    settings.ENGINE_LOGS_KEPT = settings.ENGINE_LOG_DAYS = 0
    folder = ended(small_portal, row, hours=0.5)
    assert pruning.prune() == 0
    assert folder.exists()


def test_what_has_a_live_row_is_kept_however_old_it_is(small_portal: Portal, row: Deployment, settings: Any) -> None:
    settings.ENGINE_LOG_DAYS = 1
    live = left(small_portal, Replica.objects.create(deployment=row).name, hours=9999)
    nobodys = left(small_portal, "r-" + "0" * 32, hours=9999)
    named_oddly = left(small_portal, "r-odd", hours=9999)
    youngs = left(small_portal, "r-" + "1" * 32, hours=3)
    assert pruning.prune() == 2
    assert [one.exists() for one in (live, nobodys, named_oddly, youngs)] == [True, False, False, True]


@pytest.mark.django_db(transaction=True)
def test_what_runs_is_kept_even_if_its_row_says_that_it_ended(small_portal: Portal) -> None:
    row = small_portal.awake("a")
    replica = small_portal.live(row)[0]
    Replica.objects.filter(pk=replica.pk).update(exited_at=timezone.now() - timedelta(days=99))
    pruning.prune()
    assert (small_portal.root / replica.name / "run.json").exists()
