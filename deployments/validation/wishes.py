"""What people and programs may wish: keep a prompt set, say when it is asked, ask it now, measure an engine."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from django.db import IntegrityError, transaction
from django.utils import timezone

from accounts import audit
from accounts.models import Team
from deployments.errors import NameTaken, NotNow
from deployments.lifecycle import VALIDATION_S, Status
from deployments.models import Deployment
from deployments.validation import bounded, cases, work
from deployments.validation.cases import BadCase, Kind
from deployments.validation.models import (
    SPANS,
    Edition,
    Every,
    PromptSet,
    Rule,
    ThroughputRun,
    ValidationPlan,
    ValidationRun,
)  # fmt: skip

MEASURE_S = 300
MOST_SETS = 200
CALLABLE = frozenset(Status) - {Status.STOPPED, Status.STOPPING, Status.FAILED}


def save_set(
    team: Team, *, name: str, note: str, raw_cases: Sequence[Any], actor: str, found: PromptSet | None = None
) -> PromptSet:
    """Make a prompt set, or another edition of the one that was `found`; the same cases make none.

    Raises BadCase naming the place, NameTaken, or NotNow for too many sets.
    """
    check_cases(raw_cases)
    if found is None and PromptSet.objects.of(team).count() >= MOST_SETS:
        raise NotNow(f"A team keeps {MOST_SETS} prompt sets at most: remove one first.")
    try:
        with transaction.atomic():
            row = found or PromptSet(team=team)
            before = _said(row) if found else {}
            row.name, row.note = name, note
            row.save(update_fields=["name", "note"] if found else None)
            PromptSet.objects.select_for_update().get(pk=row.pk)  # two edits at once: one after the other
            last = row.editions.first()
            if last is None or last.cases != raw_cases:
                number = last.number + 1 if last else 1
                Edition.objects.create(prompt_set=row, number=number, cases=raw_cases, created_by=actor)
            audit.record(team, actor=actor, verb="saved the prompt set", subject=name, before=before, after=_said(row))
    except IntegrityError as error:
        raise NameTaken(f"Your team has a prompt set named {name}.") from error
    return row


def check_cases(raw_cases: object) -> None:
    """Raises BadCase for the first thing that is wrong, a pattern or a schema that is none too."""
    parsed = cases.parse(raw_cases)
    places, jobs = [], []
    for number, case in enumerate(parsed):
        for count, check in enumerate(case.checks):
            if check.kind in {Kind.REGEX, Kind.JSON_SCHEMA}:
                name = "pattern" if check.kind == Kind.REGEX else "schema"
                places.append(f"cases[{number}].checks[{count}].value")
                jobs.append({"job": name, name: check.value})
    try:
        problems = bounded.problems(jobs)
    except bounded.NotTold as error:
        raise BadCase(places[0], str(error)) from error
    for place, problem in zip(places, problems, strict=True):
        if problem:
            raise BadCase(place, problem)


def remove_set(row: PromptSet, *, actor: str) -> None:
    """Reports still read its editions. Raises NotNow while a deployment's plan names it."""
    used = ValidationPlan.objects.filter(prompt_set=row).exclude(deployment__status=Status.STOPPED)
    if plan := used.select_related("deployment__team").first():
        raise NotNow(f"{plan.deployment.endpoint_model} is asked this set: change its validation first.")
    PromptSet.objects.filter(pk=row.pk, removed_at=None).update(removed_at=timezone.now())
    audit.record(row.team, actor=actor, verb="removed the prompt set", subject=row.name, before=_said(row))


def _said(row: PromptSet) -> dict[str, Any]:
    """For the audit trail: of the prompts themselves, which edition and how many."""
    last = row.editions.first()
    return {"name": row.name, "note": row.note} | (
        {"edition": last.number, "cases": len(last.cases)} if last is not None else {}
    )


def plan(
    deployment: Deployment, *, prompt_set: PromptSet | None, on_update: str, every: str, wakes: bool, actor: str
) -> None:
    """When it is asked which set; None: never. A changed span begins now."""
    before = ValidationPlan.objects.filter(deployment=deployment).select_related("prompt_set").first()
    after = None
    if prompt_set is None:
        ValidationPlan.objects.filter(deployment=deployment).delete()
    else:
        next_at = before.next_at if before and before.every == every else next_after(every)
        fields = {"prompt_set": prompt_set, "on_update": Rule(on_update), "every": Every(every), "wakes": wakes}
        after, _ = ValidationPlan.objects.update_or_create(
            deployment=deployment, defaults=fields | {"next_at": next_at}
        )
    audit.record(
        deployment.team, actor=actor, verb="set the validation of", subject=deployment.endpoint_model,
        before=_plan_said(before), after=_plan_said(after),
    )  # fmt: skip


def _plan_said(row: ValidationPlan | None) -> dict[str, Any]:
    if row is None:
        return {"prompt set": ""}
    fields = {"on update": row.on_update, "every": row.every, "wakes": row.wakes}
    return {"prompt set": row.prompt_set.name} | fields


def next_after(every: str) -> Any:
    return timezone.now() + SPANS[Every(every)] if every else None


def validate(
    deployment: Deployment,
    prompt_set: PromptSet,
    *,
    actor: str,
    trigger: str = ValidationRun.Trigger.DEMAND,
    wakes: bool = True,
) -> ValidationRun:
    """Ask it now. Raises NotNow for what can't be called, or while it is asked already."""
    _refuse_unless_callable(deployment)
    try:
        with transaction.atomic():
            run = ValidationRun.objects.create(
                team_id=deployment.team_id,
                deployment=deployment,
                version=deployment.version,
                edition=prompt_set.edition,
                trigger=trigger,
                wakes=wakes,
                deadline_at=timezone.now() + timedelta(seconds=VALIDATION_S),
                created_by=actor,
            )
            work.ring(run)
            if trigger == ValidationRun.Trigger.DEMAND:
                audit.record(deployment.team, actor=actor, verb="validated", subject=deployment.endpoint_model)
    except IntegrityError as error:
        raise NotNow(f"{deployment.endpoint_model} is being asked already: wait for that report.") from error
    return run


def measure(deployment: Deployment, *, actor: str) -> ThroughputRun:
    """Let a worker measure how fast its engine is. Raises NotNow for what can't be called, or is measured already."""
    with transaction.atomic():
        run = begin_measuring(deployment, actor=actor)
        work.ring(run)
    return run


def begin_measuring(deployment: Deployment, *, actor: str) -> ThroughputRun:
    """As measure(), for who carries it out without a worker."""
    _refuse_unless_callable(deployment)
    try:
        with transaction.atomic():
            return ThroughputRun.objects.create(
                team_id=deployment.team_id,
                deployment=deployment,
                version=deployment.version,
                deadline_at=timezone.now() + timedelta(seconds=MEASURE_S + deployment.start_deadline_s),
                created_by=actor,
            )
    except IntegrityError as error:
        raise NotNow(f"{deployment.endpoint_model} is being measured already.") from error


def _refuse_unless_callable(deployment: Deployment) -> None:
    if deployment.stop_asked_at or deployment.status not in CALLABLE:
        raise NotNow(f"{deployment.endpoint_model} is {deployment.status}: it can't be called.")
