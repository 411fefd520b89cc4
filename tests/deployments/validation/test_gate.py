"""A version that does not pass its prompt set never takes a call, if the rule says so."""

from typing import Any

import pytest

from deployments import endpoints, operations, updating
from deployments.lifecycle import Reason, Status
from deployments.models import Deployment, ValidationRun
from deployments.validation import running, wishes
from tests.deployments.portals import Portal
from tests.deployments.validation.conftest import MakeSet, contains

pytestmark = pytest.mark.django_db(transaction=True)


def planned(portal: Portal, make_set: MakeSet, rule: str, *checks: list[dict[str, Any]]) -> Deployment:
    """Version 1 says hello, and each version after it has to."""
    portal.behave("--answers", "hello")
    row = portal.awake("a")
    asked = make_set(row.team, *(checks or [contains("hello")]))
    wishes.plan(row, prompt_set=asked, on_update=rule, every="", wakes=False, actor="t")
    return row


def tried(portal: Portal, row: Deployment, *, answers: str) -> ValidationRun:
    """The run that the update waits for."""
    portal.behave("--answers", answers)
    updating.update(row, actor="t", options={"slots": 2})
    for _ in range(400):
        portal.step(row)
        if run := ValidationRun.objects.filter(trigger="update").first():
            break
    portal.step(row)
    assert (row.status, row.reason) == (Status.UPDATING, Reason.VALIDATING)
    return run


def who_takes_calls() -> list[str]:
    return [one.name for endpoint in endpoints.live_endpoints() for one in endpoint.replicas]


def test_a_version_that_fails_under_block_never_takes_a_call(small_portal: Portal, make_set: MakeSet) -> None:
    row = planned(small_portal, make_set, "block")
    old = small_portal.live(row)[0]
    run = tried(small_portal, row, answers="goodbye")
    for _ in range(3):
        small_portal.step(row)
        assert who_takes_calls() == [old.name]
    running.carry_on(run.pk, seconds=30)
    small_portal.settle(row)
    assert (row.status, row.reason, row.version.number) == (Status.READY, Reason.VALIDATION_FAILED, 1)
    assert "did not pass smoke, edition 1: Case 1." in row.detail
    assert f"/deployments/{row.pk}/validation/{run.pk}/" in row.detail
    assert who_takes_calls() == [old.name]
    assert small_portal.engines() == {old.name}
    trial = run.replica
    trial.refresh_from_db()
    assert trial.ready_at is None
    assert (small_portal.root / trial.name / "calls.log").read_text() == "1\n1\n", "the probe, and the case once"
    run.refresh_from_db()
    assert (run.status, run.version.number) == ("failed", 2)
    assert run.results.get().answer == "goodbye"


def test_a_version_that_passes_takes_the_calls(small_portal: Portal, make_set: MakeSet) -> None:
    row = planned(small_portal, make_set, "block")
    run = tried(small_portal, row, answers="hello_again")
    running.carry_on(run.pk, seconds=30)
    small_portal.settle(row)
    assert (row.status, row.reason, row.version.number, row.detail) == (Status.READY, Reason.UPDATED, 2, "")
    updating.rollback(row, actor="t")
    small_portal.settle(row)
    assert row.version.number == 1, "what has served goes back without being asked"
    assert ValidationRun.objects.count() == 1


def test_under_warn_it_takes_the_calls_and_the_report_is_named(small_portal: Portal, make_set: MakeSet) -> None:
    row = planned(small_portal, make_set, "warn")
    run = tried(small_portal, row, answers="goodbye")
    running.carry_on(run.pk, seconds=30)
    small_portal.settle(row)
    assert (row.status, row.reason, row.version.number) == (Status.READY, Reason.UPDATED, 2)
    assert str(run.pk) in row.detail


def test_what_could_not_be_checked_does_not_pass_under_block(
    small_portal: Portal, make_set: MakeSet, endpoint: str
) -> None:
    row = planned(small_portal, make_set, "block", [{"kind": "similar", "value": "x", "model": "no-such-model"}])
    run = tried(small_portal, row, answers="hello")
    running.carry_on(run.pk, seconds=30)
    small_portal.settle(row)
    assert (row.reason, row.version.number) == (Reason.VALIDATION_FAILED, 1)
    assert "could not be checked" in row.detail


def test_the_reference_of_a_trial_is_what_takes_the_calls(
    small_portal: Portal, make_set: MakeSet, endpoint: str
) -> None:
    """The old version answers by the gateway, the new one at its own address."""
    row = planned(small_portal, make_set, "block")
    wishes.save_set(
        row.team, name="smoke", note="", actor="t", found=row.validation_plan.prompt_set,
        raw_cases=[{"prompt": "Hi", "checks": [{"kind": "same_as", "model": row.endpoint_model}]}],
    )  # fmt: skip
    run = tried(small_portal, row, answers="goodbye")
    running.carry_on(run.pk, seconds=30)
    assert run.results.get().findings[0]["diff"] == [["gone", "hello"], ["new", "goodbye"]]
    small_portal.settle(row)
    assert row.reason == Reason.VALIDATION_FAILED


def test_an_update_that_waits_can_be_taken_back_or_stopped(small_portal: Portal, make_set: MakeSet) -> None:
    row = planned(small_portal, make_set, "block")
    run = tried(small_portal, row, answers="hello")
    updating.rollback(row, actor="t")
    small_portal.settle(row)
    assert (row.status, row.reason) == (Status.READY, Reason.UPDATE_TAKEN_BACK)
    running.carry_on(run.pk, seconds=30)
    run.refresh_from_db()
    assert (run.status, run.ended) == ("ended", "engine_gone")
    updating.update(row, actor="t", options={"slots": 3})
    small_portal.step(row)
    operations.stop(row, actor="t")
    small_portal.settle(row)
    assert small_portal.engines() == set()
