"""Carrying out a validation, case by case. Each result is kept as soon as it is there, so a run that was broken off
goes on where it stood; a run that is done twice at once comes to the same results."""

import logging
import time
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.db.models import F
from django.utils import timezone

from accounts import audit, keys, sealing
from accounts.models import ApiKey, Scope
from deployments import news, operations
from deployments.lifecycle import SERVING, Status
from deployments.models import Deployment, Replica
from deployments.tasks import ring
from deployments.validation import asking, cases, checks, work
from deployments.validation.asking import Door, Said
from deployments.validation.cases import Case, Check, Kind
from deployments.validation.checks import Evidence, Finding, Verdict
from deployments.validation.models import CaseResult, Ended, ValidationRun
from deployments.validation.work import Broken, Hold, Lost

log = logging.getLogger(__name__)

CASE_S, LOOK_S = 120.0, 0.2
MOST_CALLS = 500
NO_EMBEDDINGS = frozenset({"model_not_found", "unsupported_endpoint", "provider_key_missing"})
OUTCOMES = {
    Verdict.PASSED: ValidationRun.Status.PASSED,
    Verdict.FAILED: ValidationRun.Status.FAILED,
    Verdict.UNCHECKED: ValidationRun.Status.UNCHECKED,
}


def carry_on(run_id: UUID, *, seconds: float) -> bool:
    """Ask case after case until all are asked, or so many seconds are over. True if there is more to do."""
    end = time.monotonic() + seconds
    hurry = ValidationRun.objects.filter(pk=run_id, replica__isnull=False).exists()
    with work.held(ValidationRun, run_id, in_a_hurry=hurry) as mine:
        if mine is None:
            return False
        run, hold = mine
        try:
            if not _all_asked(run, hold, end):
                return True
            finish(run, *_outcome(run))
        except Lost:
            return False
        except Broken as error:
            finish(run, ValidationRun.Status.ENDED, error.why, error.detail)
        except Exception:
            log.exception("validation %s", run_id)
            finish(run, ValidationRun.Status.ENDED, Ended.DEFECT)
    return False


def finish(run: ValidationRun, status: str, ended: Ended = Ended.NONE, detail: str = "") -> None:
    """It is over: its key opens nothing more, and an update that waited for it goes on."""
    if not work.finish(run, status, ended=ended, detail=detail):
        return
    ValidationRun.objects.filter(pk=run.pk).update(sealed_key="")
    if run.key_id:
        ApiKey.objects.filter(pk=run.key_id).delete()
    if run.replica_id:
        news.tell(run.deployment_id)
        ring(run.deployment_id)


def call_off(run: ValidationRun, *, actor: str) -> None:
    finish(run, ValidationRun.Status.ENDED, Ended.CALLED_OFF, f"By {actor}.")
    audit.record(run.deployment.team, actor=actor, verb="called off a validation of", subject=str(run.deployment))


@dataclass(slots=True)
class _Asking:
    """All that the cases of one turn need. `door` leads to what is tried; everything else is asked at the gateway."""

    run: ValidationRun
    hold: Hold
    door: Door

    @property
    def gateway(self) -> Door:
        return asking.gateway(_key(self.run))

    def ask(self, door: Door, path: str, body: dict[str, Any], *, once: str, until: float) -> Said:
        if self.run.calls >= MOST_CALLS:
            raise Broken(Ended.TOO_MANY_CALLS, f"It made {self.run.calls} calls; a run may make {MOST_CALLS}.")
        said = door.ask(path, body, once=f"validation-{self.run.pk}-{once}", until=until, alive=self.hold.renew)
        self.run.calls += 1
        ValidationRun.objects.filter(pk=self.run.pk).update(calls=F("calls") + 1, cost=F("cost") + said.cost)
        return said


def _all_asked(run: ValidationRun, hold: Hold, end: float) -> bool:
    """False if the turn is over and there are more. At least one is asked."""
    done = set(run.results.values_list("position", flat=True))
    asking_it: _Asking | None = None
    for position, case in enumerate(cases.parse(run.edition.cases)):
        if position in done:
            continue
        left_s = (run.deadline_at - timezone.now()).total_seconds()
        if left_s <= 0:
            raise Broken(Ended.TOO_LONG, f"{len(done)} cases were asked by then.")
        if (asking_it and time.monotonic() > end) or not _is_awake(run, hold, end):
            return False
        asking_it = asking_it or _begun(run, hold)
        result = _result(asking_it, position, case, time.monotonic() + min(CASE_S, left_s))
        CaseResult.objects.bulk_create([result], ignore_conflicts=True)
        done.add(position)
    return True


def _outcome(run: ValidationRun) -> tuple[str]:
    return (OUTCOMES[checks.worst(Verdict(one) for one in run.results.values_list("verdict", flat=True))],)


def _begun(run: ValidationRun, hold: Hold) -> _Asking:
    if run.replica_id is None:
        return _Asking(run, hold, asking.gateway(_key(run), hold_s=None if run.wakes else 0))
    replica = Replica.objects.get(pk=run.replica_id)
    return _Asking(run, hold, Door(replica.address, sealing.unseal(replica.sealed_key), is_gateway=False))


def _key(run: ValidationRun) -> str:
    """The run's own: made at its first call, gone at its end, and with no use after its deadline."""
    if not run.sealed_key:
        name = f"validation of {run.deployment.name}"[:80]
        until = run.deadline_at + timedelta(minutes=1)
        row, text = keys.issue(run.team, name=name, expires_at=until, scopes=[Scope.MODELS])
        run.key_id, run.sealed_key = row.pk, sealing.seal(text)
        ValidationRun.objects.filter(pk=run.pk).update(key_id=run.key_id, sealed_key=run.sealed_key)
    return sealing.unseal(run.sealed_key)


def _is_awake(run: ValidationRun, hold: Hold, end: float) -> bool:
    """What is asked is still what the report will name, and takes calls. A sleeper is woken, and waited for to the
    end of the turn: how long it takes to start is no failure of an answer."""
    if run.replica_id:
        if Replica.objects.filter(pk=run.replica_id, remove_asked_at=None, exited_at=None).exists():
            return True
        raise Broken(Ended.ENGINE_GONE, "The replica that was tried has ended.")
    while True:
        row = Deployment.objects.get(pk=run.deployment_id)
        if row.version_id != run.version_id:
            raise Broken(Ended.CHANGED)
        if row.stop_asked_at or row.status in {Status.STOPPED, Status.FAILED, Status.STOPPING}:
            raise Broken(Ended.NOT_CALLABLE, f"It is {row.status}. {row.get_reason_display()}.")
        if row.status in SERVING:
            return True
        if not run.wakes:
            raise Broken(Ended.NOT_CALLABLE, f"It is {row.status}, and this run may not wake it.")
        if time.monotonic() > end:
            return False
        hold.renew()
        operations.wake(row.pk)
        time.sleep(LOOK_S)


def _result(asking_it: _Asking, position: int, case: Case, until: float) -> CaseResult:
    began = time.monotonic()
    target = asking_it.run.deployment.endpoint_model
    said = asking_it.ask(asking_it.door, "chat/completions", case.body(target), once=str(position), until=until)
    took_ms = round((time.monotonic() - began) * 1000)
    answer = asking.text_of(said.told) if said.told else None
    result = CaseResult(run=asking_it.run, position=position, name=case.name, took_ms=took_ms)
    if answer is None:
        result.verdict = Verdict.UNCHECKED if said.status in asking.NOT_ASKED else Verdict.FAILED
        result.problem = said.problem or "It answered with what is no completion."
        return result
    findings = [
        checks.judge(check, answer, _evidence(asking_it, case, check, answer, once=f"{position}-{number}", until=until))
        for number, check in enumerate(case.checks)
    ]
    result.answer, result.verdict = answer, checks.worst(one.verdict for one in findings)
    result.findings = [_kept(one) for one in findings]
    return result


def _kept(finding: Finding) -> dict[str, Any]:
    told = asdict(finding)
    return told | {"text": asking.clean(finding.text), "diff": [[one.kind, one.text] for one in finding.diff]}


def _evidence(asking_it: _Asking, case: Case, check: Check, answer: str, *, once: str, until: float) -> Evidence | None:
    """What another model has to say for it, if one has to. The lease is renewed: a check may take its time."""
    asking_it.hold.renew()
    match check.kind:
        case Kind.SAME_AS:
            return _reference(asking_it, case, check, once=once, until=until)
        case Kind.SIMILAR:
            return _vectors(asking_it, check, answer, once=once, until=until)
        case _:
            return None


def _reference(asking_it: _Asking, case: Case, check: Check, *, once: str, until: float) -> Evidence:
    body = case.body(check.model)
    said = asking_it.ask(asking_it.gateway, "chat/completions", body, once=once, until=until)
    text = asking.text_of(said.told) if said.told else None
    if text is None:
        return Evidence(problem=f"{check.model} was asked for its answer. {said.problem}".strip())
    return Evidence(text=text)


def _vectors(asking_it: _Asking, check: Check, answer: str, *, once: str, until: float) -> Evidence:
    if not answer.strip():
        return Evidence(problem="The answer is empty, and nothing has no meaning.")
    body = {"model": check.model, "input": [check.value, answer]}
    said = asking_it.ask(asking_it.gateway, "embeddings", body, once=once, until=until)
    if said.told is None:
        none = "No embeddings can be had here. " if said.code in NO_EMBEDDINGS else ""
        return Evidence(problem=f"{none}{check.model} was asked for embeddings. {said.problem}")
    try:
        rows = sorted(said.told["data"], key=lambda row: row["index"])
        expected, got = ([float(number) for number in row["embedding"]] for row in rows)
    except (KeyError, TypeError, ValueError):
        return Evidence(problem=f"{check.model} answered with what are no embeddings.")
    return Evidence(vectors=(expected, got))
