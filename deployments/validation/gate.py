"""An update waits here: the version that is tried is asked the prompts of the deployment's set, before any call."""

from dataclasses import dataclass
from datetime import timedelta

from django.db import IntegrityError, transaction
from django.utils import timezone

from deployments.lifecycle import VALIDATION_S
from deployments.models import Deployment, Replica
from deployments.validation import work
from deployments.validation.models import Ended, Rule, ValidationPlan, ValidationRun


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the gate says of a trial. `detail` tells people what was found and where to read it."""

    waits: bool = False
    blocks: bool = False
    detail: str = ""


GO = Outcome()


def outcome(replica: Replica) -> Outcome | None:
    """Of the asking that has begun for this trial; None: none has."""
    run = ValidationRun.objects.filter(replica=replica).select_related("edition__prompt_set").first()
    return None if run is None else _said(run)


def open_for(row: Deployment, replica: Replica) -> Outcome:
    """Begin to ask, if the deployment's plan says so. What has taken calls before goes back without: in a hurry."""
    plan = ValidationPlan.objects.filter(deployment=row).exclude(on_update=Rule.OFF).first()
    if plan is None or (row.next_version and row.next_version.served_at):
        return GO
    try:
        with transaction.atomic():
            run = ValidationRun.objects.create(
                team_id=row.team_id,
                deployment=row,
                version=row.next_version,
                edition=plan.prompt_set.edition,
                trigger=ValidationRun.Trigger.UPDATE,
                rule=plan.on_update,
                replica=replica,
                deadline_at=timezone.now() + timedelta(seconds=VALIDATION_S),
                created_by="portal",
            )
            work.ring(run)
    except IntegrityError:  # somebody else has just begun it
        run = ValidationRun.objects.select_related("edition__prompt_set").get(replica=replica)
    return _said(run)


def _said(run: ValidationRun) -> Outcome:
    if run.is_open:
        return Outcome(waits=True)
    status = ValidationRun.Status
    if run.status == status.PASSED:
        return GO
    why = f"{Ended(run.ended).label}. {run.detail}".strip() if run.ended else _counted(run)
    found = {status.FAILED: "did not pass", status.UNCHECKED: "could not be checked by"}
    text = f"It {found.get(status(run.status), 'broke off while it was asked')} {run.edition}: {why}"
    # One line of text, whatever others have said in it; the next one is the report's path, for a link.
    return Outcome(blocks=run.rule == Rule.BLOCK, detail=f"{' '.join(text.split())}\n{report(run)}")


def report(run: ValidationRun) -> str:
    """The path of its page."""
    return f"/deployments/{run.deployment_id}/validation/{run.pk}/"


def _counted(run: ValidationRun) -> str:
    names = list(run.results.exclude(verdict="passed").values_list("name", flat=True))
    shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    return f"{shown}."
