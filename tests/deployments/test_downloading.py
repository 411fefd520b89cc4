"""Deployed before its weights are here: it waits for them, goes on by itself, or fails with the cause of theirs."""

from pathlib import Path
from typing import Any

import pytest
from django.test import Client

from accounts.models import Team
from catalog import fetching, importing, removing
from catalog.models import Offer, Weights
from deployments import operations, reconcile
from deployments.errors import NotDeployable
from deployments.lifecycle import Reason, Status
from deployments.models import Deployment
from tests.deployments.portals import Portal
from tests.factories import tiny_weights as tiny
from tests.factories.accounts import MembershipFactory, TeamFactory
from tests.factories.catalog import mit
from tests.factories.deployments import smollm2
from tests.fakes.hub import TestHub

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def team(settings: Any, tmp_path: Path) -> Team:
    settings.WEIGHTS_DIR, settings.UPLOADS_KEEP_FREE = str(tmp_path / "weights"), 0
    return TeamFactory()


@pytest.fixture
def waiting(hub: TestHub, team: Team, small_portal: Portal) -> tuple[Deployment, Weights]:
    """A deployment of an import that no worker has taken up."""
    _, hardware = smollm2()
    hub.add("org/tiny", {"a.gguf": tiny.gguf()}, card=mit())
    weights = importing.begin(team, "org/tiny", actor="ada")
    row = operations.deploy(team, model=weights.model, hardware=hardware, actor="ada", min_replicas=1)
    small_portal.step(row)
    assert (row.status, row.reason) == (Status.DOWNLOADING, Reason.WEIGHTS_COMING)
    return row, weights


def test_it_goes_on_by_itself_when_they_are_here(waiting: tuple[Deployment, Weights], small_portal: Portal) -> None:
    row, weights = waiting
    assert not reconcile.follow(row.pk, seconds=5), "nobody stands by for hours"
    fetching.fetch(weights.pk)
    small_portal.until(row, Status.READY)
    assert [event.after for event in row.events.order_by("at")] == ["pending", "downloading", "starting", "ready"]


@pytest.mark.parametrize(
    ("wrong", "reason", "says"),
    [
        ({"spoil": lambda content: content[:-1] + b"x"}, Reason.BAD_WEIGHTS, "its sha256 is"),
        ({"gated": True}, Reason.HUB_REFUSED, "Accept its terms"),
        ({"gone": True}, Reason.HUB_REFUSED, "no repository org/tiny"),
    ],
)
def test_it_fails_with_the_cause_of_theirs(
    waiting: tuple[Deployment, Weights],
    small_portal: Portal,
    hub: TestHub,
    wrong: dict[str, Any],
    reason: Reason,
    says: str,
) -> None:
    row, weights = waiting
    hub.spoil = wrong.get("spoil", bytes)
    hub.repos["org/tiny"].gated = wrong.get("gated", False)
    if wrong.get("gone"):
        hub.repos.clear()
    fetching.fetch(weights.pk)
    small_portal.step(row)
    assert (row.status, row.reason) == (Status.FAILED, reason)
    assert says in row.detail
    assert not Offer.objects.filter(weights=weights).exists()
    with pytest.raises(NotDeployable):
        operations.deploy(row.team, model=row.model, hardware=row.hardware, actor="ada", name="another")


def test_it_can_be_stopped_while_it_waits(waiting: tuple[Deployment, Weights], small_portal: Portal) -> None:
    row, weights = waiting
    operations.stop(row, actor="ada")
    small_portal.until(row, Status.STOPPED)
    removing.remove(weights, actor="ada")
    assert weights.status == "removed"


def test_its_page_says_how_far_they_are(
    waiting: tuple[Deployment, Weights], client: Client, small_portal: Portal
) -> None:
    row, weights = waiting
    client.force_login(MembershipFactory(team=row.team).user)
    Weights.objects.filter(pk=weights.pk).update(bytes_done=weights.size_bytes // 2, bytes_per_s=100)
    page = client.get(f"/deployments/{row.pk}", follow=True).content.decode()
    assert "on their way: <b>59.9\xa0KB</b> of 119.8\xa0KB, about 10 min 13 s left" in page
    assert f"/weights/{weights.pk}" in page
    assert '<li class="now"><span>Fetching the weights' in page
    form = client.get(f"/deployments/new?model={row.model.slug}", follow=True).content.decode()
    assert "it starts once they are here" in form


def test_what_wakes_without_its_weights_has_failed_and_says_so(
    waiting: tuple[Deployment, Weights], small_portal: Portal
) -> None:
    row, weights = waiting
    fetching.fetch(weights.pk)
    Deployment.objects.filter(pk=row.pk).update(status=Status.ASLEEP, min_replicas=0)
    Weights.objects.filter(pk=weights.pk).update(status="failed")
    operations.wake(row.pk)
    for _ in range(3):
        small_portal.step(row)
    assert (row.status, row.reason) == (Status.FAILED, Reason.BAD_WEIGHTS)
    assert "are not here" in row.detail
    assert not small_portal.live(row)
