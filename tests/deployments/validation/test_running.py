"""A validation asks what runs, keeps each result, and ends honestly whatever happens to its worker or its budget."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from decimal import Decimal
from typing import Any
from urllib.parse import quote
from uuid import UUID

import pytest
from django.db import connection
from django.utils import timezone

from accounts.models import ApiKey
from billing.models import UsageEvent
from deployments.errors import NotNow
from deployments.lifecycle import Status
from deployments.models import Deployment, Edition, ValidationPlan, ValidationRun
from deployments.validation import running, sweeping, wishes, work
from deployments.validation.models import Ended
from gateway.models import RequestRecord
from portal.embedded import ROOT
from tests.deployments.portals import Portal
from tests.deployments.validation.conftest import MakeSet, contains
from tests.factories.billing import billed, budget, priced
from tests.fakes import openai_upstream
from tests.gateway.conftest import offer_models

pytestmark = pytest.mark.django_db(transaction=True)


def carry_on(run: ValidationRun, *, seconds: float = 30) -> ValidationRun:
    running.carry_on(run.pk, seconds=seconds)
    run.refresh_from_db()
    return run


def verdicts(run: ValidationRun) -> list[str]:
    return list(run.results.values_list("verdict", flat=True))


def answered(portal: Portal) -> int:
    return sum(len(path.read_text().splitlines()) for path in portal.root.glob("*/calls.log"))


def test_a_run_asks_through_the_gateway_and_its_calls_have_a_line_of_their_own(
    small_portal: Portal, endpoint: str, make_set: MakeSet
) -> None:
    small_portal.behave("--answers", "hello_<b>you</b>")
    row = small_portal.awake("a")
    asked = make_set(row.team, contains("hello"), contains("Paris"), [{"kind": "same_as", "model": row.endpoint_model}])
    run = carry_on(wishes.validate(row, asked, actor="t"))
    assert (run.status, run.ended, run.calls, run.version) == ("failed", "", 4, row.version)
    assert verdicts(run) == ["passed", "failed", "passed"]
    assert run.results.get(position=1).findings[0]["text"] == "It does not contain “Paris”."
    bill = UsageEvent.objects.filter(team=row.team, api_key_name__startswith="validation of a")
    assert [event.source for event in bill] == [row.endpoint_model] * 4
    assert len(set(bill.values_list("api_key_name", flat=True))) == 1
    assert not ApiKey.objects.filter(team=row.team).exists(), "its key is gone with it"
    assert run.sealed_key == ""


def test_a_difference_from_the_reference_is_told_word_by_word(
    small_portal: Portal, endpoint: str, make_set: MakeSet
) -> None:
    small_portal.behave("--answers", "It_is_Paris")
    row = small_portal.awake("a")
    small_portal.behave("--answers", "It_is_Rome")
    other = small_portal.awake("b", team=row.team)
    run = carry_on(
        wishes.validate(row, make_set(row.team, [{"kind": "same_as", "model": other.endpoint_model}]), actor="t")
    )
    assert run.results.get().findings[0]["diff"] == [["same", "It is "], ["gone", "Rome"], ["new", "Paris"]]


def test_embeddings_that_nobody_has_are_said_to_be_unchecked_and_are_no_pass(
    small_portal: Portal, endpoint: str, make_set: MakeSet
) -> None:
    row = small_portal.awake("a")
    run = carry_on(
        wishes.validate(
            row, make_set(row.team, [{"kind": "similar", "value": "Hi", "model": "no-such-model"}]), actor="t"
        )
    )
    assert (run.status, verdicts(run)) == ("unchecked", ["unchecked"])
    assert "Could not be checked. No embeddings can be had here." in run.results.get().findings[0]["text"]


def test_similarity_is_that_of_a_models_embeddings_and_is_billed(
    small_portal: Portal, endpoint: str, make_set: MakeSet
) -> None:
    row = small_portal.awake("a")
    with openai_upstream.running() as provider:
        offer_models(provider.base_url)
        asked = make_set(row.team, [{"kind": "similar", "value": "Hi", "model": "good", "threshold": 0.9}])
        run = carry_on(wishes.validate(row, asked, actor="t"))
    assert (run.status, run.calls) == ("passed", 2), run.results.get().findings
    assert run.cost > 0
    assert run.cost == sum(UsageEvent.objects.filter(team=row.team).values_list("cost", flat=True))


def test_a_spent_budget_ends_the_run_and_says_so(small_portal: Portal, endpoint: str, make_set: MakeSet) -> None:
    row = small_portal.awake("a")
    priced("hosted:smollm2-135m-instruct", tokens_input="0.000001", tokens_output="0.000001")
    billed(row.team, {"tokens.input": 1_000_000, "tokens.output": 0}, started_at=timezone.now())
    budget(row.team, "0.01")
    run = carry_on(wishes.validate(row, make_set(row.team, contains("hello"), contains("x")), actor="t"))
    assert (run.status, run.ended) == ("ended", Ended.BUDGET_SPENT)
    assert "budget" in run.detail.lower()
    assert verdicts(run) == []
    assert run.cost == Decimal(0)


def test_a_run_whose_worker_was_killed_goes_on_where_it_stood(
    small_portal: Portal, endpoint: str, make_set: MakeSet
) -> None:
    small_portal.behave("--answers", "hello")
    row = small_portal.awake("a")
    run = wishes.validate(row, make_set(row.team, *[contains("hello")] * 3), actor="t")
    assert running.carry_on(run.pk, seconds=0) is True, "one case a turn at least, and two are left"
    assert answered(small_portal) == 1
    with work.held(ValidationRun, run.pk) as mine:
        assert mine
        assert running.carry_on(run.pk, seconds=30) is False, "somebody holds it"
        assert answered(small_portal) == 1, "and nobody else asks"
        ValidationRun.objects.update(lease_until=timezone.now() - timedelta(seconds=1))
        carry_on(run)
    run.refresh_from_db()
    assert (run.status, run.lapses, verdicts(run)) == ("passed", 1, ["passed"] * 3)
    assert answered(small_portal) == 3, "nothing was asked twice"


def test_a_worker_that_is_killed_in_a_call_costs_its_lease_and_no_second_call(
    small_portal: Portal, endpoint: str, make_set: MakeSet
) -> None:
    small_portal.behave("--answers", "hello", "--answer-s", "0.7")
    row = small_portal.awake("a")
    run = wishes.validate(row, make_set(row.team, *[contains("hello")] * 3), actor="t")
    with another_worker(run, endpoint) as process:
        end = time.monotonic() + 60
        while run.results.count() == 0:
            assert time.monotonic() < end
            assert process.poll() is None
            time.sleep(0.01)
        time.sleep(0.2)
        process.kill()
        process.wait()
    sweeping.sweep()
    run.refresh_from_db()
    assert (run.status, run.lapses) == ("running", 0), "for all that anybody knows it is at work"
    ValidationRun.objects.update(lease_until=timezone.now())
    carry_on(run)
    assert (run.status, run.lapses, verdicts(run)) == ("passed", 1, ["passed"] * 3)
    assert answered(small_portal) == 3
    assert UsageEvent.objects.filter(team=row.team, source=row.endpoint_model).count() == 3


@contextmanager
def another_worker(run: ValidationRun, endpoint: str) -> "Iterator[subprocess.Popen[bytes]]":
    """A process of its own that carries it out, on this test's database."""
    facts = connection.settings_dict
    host = quote(str(facts["HOST"]), safe="")
    url = f"postgresql://{quote(facts['USER'])}:{quote(facts['PASSWORD'])}@/{facts['NAME']}?host={host}"
    if facts["PORT"]:
        url += f"&port={facts['PORT']}"
    code = (
        "import uuid, django; django.setup(); from deployments.validation import running;"
        f" running.carry_on(uuid.UUID('{run.pk}'), seconds=60)"
    )
    env = os.environ | {"DATABASE_URL": url, "GATEWAY_URL": endpoint, "DJANGO_SETTINGS_MODULE": "portal.settings"}
    process = subprocess.Popen([sys.executable, "-c", code], env=env, cwd=ROOT)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def test_a_call_that_is_made_again_after_a_kill_is_answered_and_billed_once(
    small_portal: Portal, endpoint: str, make_set: MakeSet
) -> None:
    """It was answered, and the worker died before the result was written."""
    small_portal.behave("--answers", "hello")
    row = small_portal.awake("a")
    run = carry_on(wishes.validate(row, make_set(row.team, contains("hello")), actor="t"))
    before = answered(small_portal)
    run.results.all().delete()
    ValidationRun.objects.update(status="running", finished_at=None, lease_until=timezone.now() - timedelta(seconds=1))
    assert carry_on(run).status == "passed"
    assert answered(small_portal) == before
    assert UsageEvent.objects.filter(team=row.team, source=row.endpoint_model).count() == 1


def test_a_run_that_kills_its_workers_is_ended_by_name(small_portal: Portal, make_set: MakeSet) -> None:
    row = small_portal.awake("a")
    run = wishes.validate(row, make_set(row.team, contains("hello")), actor="t")
    for _ in range(work.MOST_LAPSES + 1):
        with work.held(ValidationRun, run.pk) as mine:
            assert mine
            ValidationRun.objects.update(lease_until=timezone.now() - timedelta(seconds=1), owner=None)
        ValidationRun.objects.update(lease_until=timezone.now() - timedelta(seconds=1))
    carry_on(run)
    sweeping.sweep()
    run.refresh_from_db()
    assert (run.status, run.ended) == ("ended", Ended.WORKER_DIED)


def test_a_run_past_its_deadline_is_ended_by_the_sweep(small_portal: Portal, make_set: MakeSet) -> None:
    row = small_portal.awake("a")
    run = wishes.validate(row, make_set(row.team, contains("hello")), actor="t")
    ValidationRun.objects.update(deadline_at=timezone.now() - timedelta(seconds=1))
    sweeping.sweep()
    run.refresh_from_db()
    assert (run.status, run.ended) == ("ended", Ended.TOO_LONG)


def test_a_run_makes_so_many_calls_and_no_more(small_portal: Portal, endpoint: str, make_set: MakeSet) -> None:
    row = small_portal.awake("a")
    run = wishes.validate(row, make_set(row.team, contains("hello")), actor="t")
    ValidationRun.objects.update(calls=running.MOST_CALLS)
    assert (carry_on(run).status, run.ended) == ("ended", Ended.TOO_MANY_CALLS)


def test_a_portal_whose_endpoint_is_away_is_no_failure_of_the_model(
    small_portal: Portal, make_set: MakeSet, settings: Any
) -> None:
    settings.GATEWAY_URL = "http://127.0.0.1:9"
    row = small_portal.awake("a")
    run = carry_on(wishes.validate(row, make_set(row.team, contains("hello")), actor="t"))
    assert (run.status, run.ended) == ("ended", Ended.GATEWAY_AWAY)


def test_a_pattern_that_never_ends_keeps_no_worker(small_portal: Portal, endpoint: str, make_set: MakeSet) -> None:
    small_portal.behave("--answers", "a" * 60 + "!")
    row = small_portal.awake("a")
    asked = make_set(row.team, [{"kind": "regex", "value": "^(a+)+$"}], contains("aaa"))
    run = carry_on(wishes.validate(row, asked, actor="t"))
    assert (run.status, verdicts(run)) == ("unchecked", ["unchecked", "passed"])


def test_one_run_at_a_time_and_none_for_what_has_stopped(small_portal: Portal, make_set: MakeSet) -> None:
    row = small_portal.awake("a")
    asked = make_set(row.team, contains("hello"))
    run = wishes.validate(row, asked, actor="t")
    with pytest.raises(NotNow, match="asked already"):
        wishes.validate(row, asked, actor="t")
    running.call_off(run, actor="t")
    run.refresh_from_db()
    assert (run.status, run.ended) == ("ended", Ended.CALLED_OFF)
    row.status = Status.STOPPED
    with pytest.raises(NotNow, match="stopped"):
        wishes.validate(row, asked, actor="t")


def asleep(row: Deployment, portal: Portal) -> None:
    Deployment.objects.update(status_since=timezone.now() - timedelta(hours=1))
    assert portal.settle(row).status == Status.ASLEEP


def test_by_the_clock_a_sleeper_is_left_alone_unless_the_plan_says_so(
    small_portal: Portal, endpoint: str, make_set: MakeSet
) -> None:
    small_portal.behave("--answers", "hello")
    row = small_portal.awake("a", min_replicas=0)
    asleep(row, small_portal)
    asked = make_set(row.team, contains("hello"))
    wishes.plan(row, prompt_set=asked, on_update="off", every="hour", wakes=False, actor="t")
    plan = ValidationPlan.objects.get()
    assert timedelta(minutes=59) < plan.next_at - timezone.now() <= timedelta(hours=1)
    sweeping.sweep()
    assert not ValidationRun.objects.exists(), "it is not due yet"
    ValidationPlan.objects.update(next_at=timezone.now())
    sweeping.sweep()
    plan.refresh_from_db()
    assert plan.skipped_at
    assert plan.next_at > timezone.now()
    assert not ValidationRun.objects.exists()
    ValidationPlan.objects.update(next_at=timezone.now(), wakes=True)
    sweeping.sweep()
    sweeping.sweep()
    run = ValidationRun.objects.get()
    over = threading.Event()
    with_worker = threading.Thread(target=_follow, args=[row.pk, small_portal, over])
    with_worker.start()
    try:
        carry_on(run)
    finally:
        over.set()
        with_worker.join()
    assert (run.status, run.trigger) == ("passed", "schedule")


def _follow(pk: UUID, portal: Portal, over: threading.Event) -> None:
    try:
        row = Deployment.objects.get(pk=pk)
        while not over.is_set():
            portal.step(row)
    finally:
        connection.close()


def test_a_run_that_may_not_wake_does_not(small_portal: Portal, endpoint: str, make_set: MakeSet) -> None:
    row = small_portal.awake("a", min_replicas=0)
    run = wishes.validate(row, make_set(row.team, contains("hello")), actor="t", wakes=False)
    asleep(row, small_portal)
    assert (carry_on(run).status, run.ended) == ("ended", Ended.NOT_CALLABLE)
    row.refresh_from_db()
    assert row.status == Status.ASLEEP
    assert RequestRecord.objects.count() == 0


def test_reports_keep_the_edition_that_was_asked(small_portal: Portal, endpoint: str, make_set: MakeSet) -> None:
    small_portal.behave("--answers", "hello")
    row = small_portal.awake("a")
    asked = make_set(row.team, contains("hello"))
    run = carry_on(wishes.validate(row, asked, actor="t"))
    raw = [{"prompt": "Other", "checks": contains("x")}]
    for _ in range(2):
        wishes.save_set(row.team, name="smoke", note="", raw_cases=raw, actor="t", found=asked)
    assert Edition.objects.count() == 2, "the same cases make no edition"
    run = ValidationRun.objects.get(pk=run.pk)
    assert run.edition.number == 1
    wishes.plan(row, prompt_set=asked, on_update="warn", every="", wakes=False, actor="t")
    with pytest.raises(NotNow, match="is asked this set"):
        wishes.remove_set(asked, actor="t")
