"""An update starts beside the old, answers a real prompt, takes the calls; one that fails never takes one."""

import json
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from accounts import keys
from accounts.models import Role
from catalog.models import Hardware
from deployments import endpoints, operations, updating
from deployments.errors import BadOption, NotNow
from deployments.lifecycle import Reason, Status
from deployments.models import Deployment
from tests.deployments.portals import Portal
from tests.factories.accounts import MembershipFactory

pytestmark = pytest.mark.django_db(transaction=True)


def update(row: Deployment, **wish: Any) -> Any:
    return updating.update(row, actor="test", **wish)


def versions_that_answer(row: Deployment) -> list[int]:
    return [one.version.number for one in row.replicas.filter(exited_at=None, remove_asked_at=None) if one.ready_at]


def test_a_new_version_takes_the_calls_once_it_has_answered_and_the_old_one_drains(small_portal: Portal) -> None:
    row = small_portal.awake("a")
    old = small_portal.live(row)[0]
    made = update(row, options={"slots": 2})
    assert (made.number, row.status) == (2, Status.UPDATING)
    small_portal.step(row)
    assert [one.name for one in endpoints.live_endpoints()[0].replicas] == [old.name], "the old one answers meanwhile"
    small_portal.settle(row)
    assert (row.status, row.reason, row.version, row.next_version) == (Status.READY, Reason.UPDATED, made, None)
    assert row.options["slots"] == 2
    assert versions_that_answer(row) == [2]
    old.refresh_from_db()
    assert old.exited_at
    assert not old.crashed
    new = small_portal.live(row)[0]
    assert (small_portal.root / new.name / "calls.log").read_text() == "1\n", "it was tried with a real prompt"
    assert small_portal.engines() == {new.name}


BAD_ENGINES = [
    (["--refuse"], "it can't compute that"),
    (["--says", "error:_unrecognized_arguments:_--turbo"], "unrecognized arguments"),
    (["--says", "failed_to_allocate_8_GiB"], "ran out of memory"),
]


@pytest.mark.parametrize(("behaviour", "evidence"), BAD_ENGINES)
def test_a_version_that_fails_never_takes_a_call_and_says_why(
    small_portal: Portal, behaviour: list[str], evidence: str
) -> None:
    row = small_portal.awake("a")
    old = small_portal.live(row)[0]
    small_portal.behave(*behaviour)
    bad = update(row, options={"slots": 2})
    small_portal.settle(row)
    assert (row.status, row.reason, row.next_version) == (Status.READY, Reason.UPDATE_FAILED, None)
    assert evidence in row.detail
    assert row.version.number == 1
    assert row.options["slots"] == 4
    assert versions_that_answer(row) == [1]
    assert not bad.replicas.filter(ready_at__isnull=False).exists()
    assert small_portal.engines() == {old.name}


def test_an_update_past_its_deadline_is_given_up(small_portal: Portal) -> None:
    row = small_portal.awake("a")
    small_portal.behave("--load-s", "60")
    update(row, options={"slots": 2})
    small_portal.step(row)
    Deployment.objects.update(deadline_at=timezone.now())
    small_portal.settle(row)
    assert (row.status, row.reason) == (Status.READY, Reason.UPDATE_FAILED)
    assert Reason.START_TIMEOUT.label in row.detail


def test_without_room_beside_the_old_it_is_given_up_with_that_reason(small_portal: Portal) -> None:
    row = small_portal.awake("a")
    Hardware.objects.update(capacity=1)
    update(row, options={"slots": 2})
    small_portal.settle(row)
    assert row.reason == Reason.UPDATE_FAILED
    assert "No capacity" in row.detail
    assert versions_that_answer(row) == [1]


def test_what_sleeps_is_tried_too_and_a_failing_one_leaves_it_asleep(small_portal: Portal) -> None:
    row = small_portal.awake("a", min_replicas=0)
    Deployment.objects.update(status_since=timezone.now() - timedelta(hours=1))
    small_portal.settle(row)
    assert row.status == Status.ASLEEP
    small_portal.behave("--refuse")
    update(row, options={"slots": 2})
    small_portal.settle(row)
    assert (row.status, row.reason, row.version.number) == (Status.ASLEEP, Reason.UPDATE_FAILED, 1)
    small_portal.behave()
    update(row, options={"slots": 3})
    small_portal.settle(row)
    assert (row.status, row.version.number) == (Status.READY, 3)


def test_one_step_back_and_forth_again(small_portal: Portal) -> None:
    row = small_portal.awake("a")
    with pytest.raises(NotNow, match="nothing to go back to"):
        updating.rollback(row, actor="test")
    update(row, options={"slots": 2})
    small_portal.settle(row)
    for number, slots in ((1, 4), (2, 2), (1, 4)):
        updating.rollback(row, actor="test")
        small_portal.settle(row)
        assert (row.status, row.version.number, row.options["slots"]) == (Status.READY, number, slots)
    assert row.versions.count() == 2, "going back makes no new version"


def test_an_update_can_be_taken_back_while_it_is_tried(small_portal: Portal) -> None:
    row = small_portal.awake("a")
    old = small_portal.live(row)[0]
    small_portal.behave("--load-s", "60")
    update(row, options={"slots": 2})
    small_portal.step(row)
    with pytest.raises(NotNow, match="updating"):
        update(row, options={"slots": 3})
    updating.rollback(row, actor="test")
    small_portal.settle(row)
    assert (row.status, row.reason) == (Status.READY, Reason.UPDATE_TAKEN_BACK)
    assert small_portal.engines() == {old.name}


def test_what_has_failed_starts_anew_as_the_new_version(small_portal: Portal) -> None:
    small_portal.behave("--says", "error:_unrecognized_arguments:_--turbo")
    row = small_portal.until(small_portal.deploy("a"), Status.FAILED)
    assert row.reason == Reason.BAD_OPTION
    small_portal.behave()
    update(row, options={"slots": 2})
    small_portal.settle(row)
    assert (row.status, row.version.number) == (Status.READY, 2)


def test_an_update_to_what_runs_already_is_none(small_portal: Portal) -> None:
    row = small_portal.awake("a")
    assert update(row, options={"slots": 4}) is None
    with pytest.raises(BadOption, match="no revision"):
        update(row, revision="none")
    with pytest.raises(BadOption):
        update(row, options={"turbo": 1})
    assert row.versions.count() == 1


def test_stop_during_an_update_leaves_no_engine(small_portal: Portal) -> None:
    row = small_portal.awake("a")
    small_portal.behave("--load-s", "60")
    update(row, options={"slots": 2})
    small_portal.step(row)
    operations.stop(row, actor="test")
    small_portal.settle(row)
    assert row.status == Status.STOPPED
    assert small_portal.engines() == set()


def test_several_replicas_are_replaced_and_never_fewer_answer(small_portal: Portal) -> None:
    row = small_portal.awake("a", min_replicas=2, max_replicas=2)
    small_portal.settle(row)
    update(row, options={"slots": 2})
    answering = []
    while row.version.number == 1 or versions_that_answer(row) != [2, 2]:
        small_portal.step(row)
        answering.append(len(versions_that_answer(row)))
        assert len(answering) < 400
    assert min(answering) >= 2


def call(client: Client, key: str, method: str, path: str, body: Any = None) -> Any:
    return client.generic(
        method, f"/api/v1/deployments/{path}", json.dumps(body or {}), content_type="application/json",
        headers={"authorization": f"Bearer {key}"},
    )  # fmt: skip


def test_the_api_changes_updates_lists_and_rolls_back(small_portal: Portal, client: Client) -> None:
    row = small_portal.awake("a")
    _, key = keys.issue(row.team, name="k")
    wish = {"max_replicas": 3, "target_concurrency": 2, "start_deadline_s": 60, "options": {"slots": 2}}
    told = call(client, key, "PATCH", str(row.pk), wish).json()
    assert (told["status"], told["version"], told["next_version"], told["max_replicas"]) == ("updating", 1, 2, 3)
    busy = call(client, key, "PATCH", str(row.pk), {"max_replicas": 9, "options": {"slots": 3}})
    assert busy.status_code == 409
    assert call(client, key, "GET", str(row.pk)).json()["max_replicas"] == 3, "all of a change or nothing"
    small_portal.settle(row)
    told = call(client, key, "POST", f"{row.pk}/rollback")
    assert (told.status_code, told.json()["next_version"]) == (202, 1)
    small_portal.settle(row)
    versions = call(client, key, "GET", f"{row.pk}/versions").json()["results"]
    assert [(one["number"], one["options"]["slots"]) for one in versions] == [(2, 2), (1, 4)]
    assert call(client, key, "POST", f"{row.pk}/rollback", {"version": 7}).status_code == 400
    for bad in ({"max_replicas": 0}, {"min_replicas": 5}, {"options": {"turbo": 1}}, {"revision": "x"}):
        assert call(client, key, "PATCH", str(row.pk), bad).status_code == 400, bad


def test_the_page_changes_settings_and_rolls_back(small_portal: Portal, client: Client) -> None:
    membership = MembershipFactory()
    row = small_portal.awake("a", team=membership.team)
    client.force_login(membership.user)
    page = f"/deployments/{row.pk}/"
    form = client.get(f"{page}settings/").context["form"].initial | {"hold_s": ""}
    assert client.post(f"{page}settings/", form | {"max_replicas": 99}).status_code == 400
    assert client.post(f"{page}settings/", form | {"min_replicas": 3}).status_code == 400
    assert client.post(f"{page}settings/", form | {"slots": 2, "max_replicas": 4}).status_code == 302
    assert "Take it back" in client.get(page).content.decode()
    small_portal.settle(row)
    assert (row.max_replicas, row.version.number) == (4, 2)
    assert "Roll back to 1" in client.get(f"{page}versions/").content.decode()
    client.post(f"{page}rollback/", {"version": "1"})
    assert small_portal.settle(row).version.number == 1
    membership.role = Role.VIEWER
    membership.save()
    assert client.post(f"{page}rollback/").status_code == 403
    assert client.get(f"{page}settings/").status_code == 403
    assert "Roll back" not in client.get(f"{page}versions/").content.decode()
    client.force_login(MembershipFactory().user)
    assert client.get(f"{page}settings/").status_code == 404
    assert client.post(f"{page}rollback/").status_code == 404


def test_a_failure_shows_its_cause_and_what_to_do(small_portal: Portal, client: Client) -> None:
    membership = MembershipFactory()
    small_portal.behave("--says", "failed_to_allocate_8_GiB")
    row = small_portal.deploy("a", team=membership.team)
    while row.status != Status.FAILED:
        Deployment.objects.update(next_try_at=None)
        small_portal.step(row)
    client.force_login(membership.user)
    page = client.get(f"/deployments/{row.pk}/").content.decode()
    assert "The engine ran out of memory" in page
    assert "Change its settings" in page
    assert ">$0.00</b>; while it does not run it costs nothing" in page
