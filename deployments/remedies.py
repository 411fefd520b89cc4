"""The next step after a failure, and carrying it out: what its button says is what it does."""

from dataclasses import dataclass

from catalog.models import Hardware
from deployments import operations, updating
from deployments.errors import BadOption
from deployments.lifecycle import FURTHER_STEPS, NEXT_STEPS, Reason, Status, Step
from deployments.models import Deployment
from deployments.operations import LONGEST_START_S

CONTEXT = "context_tokens"
LEAST_CONTEXT = 512
# These are done here; the others lead to a page.
DONE_HERE = frozenset({Step.RETRY, Step.CONTEXT, Step.DEADLINE})
UNKNOWN = (Step.RETRY, "Look at the evidence; then start it again.")


@dataclass(frozen=True, slots=True)
class Remedy:
    """One button. `muted` says why it is not possible here; then it is shown and can't be pressed."""

    step: Step
    label: str
    muted: str = ""
    hardware: Hardware | None = None

    @property
    def is_done_here(self) -> bool:
        return self.step in DONE_HERE


def offered(row: Deployment) -> list[Remedy]:
    """For a failed deployment, the best first; none for another."""
    if row.status != Status.FAILED:
        return []
    reason = Reason(row.reason)
    first, _ = NEXT_STEPS.get(reason, UNKNOWN)
    return [_remedy(row, step) for step in (first, *FURTHER_STEPS.get(reason, (Step.LOG,))) if _makes_sense(row, step)]


def carry_out(row: Deployment, step: Step, *, actor: str) -> None:
    """Do it and start again. Raises BadOption or NotNow, as changing the settings does; for one that has not failed
    nothing is done."""
    if row.status != Status.FAILED:
        return
    match step:
        case Step.CONTEXT:
            updating.update(row, actor=actor, options={CONTEXT: _less_context(row)})
        case Step.DEADLINE:
            operations.change(row, actor=actor, start_deadline_s=_later_deadline_s(row))
            operations.retry(row, actor=actor)
        case Step.RETRY:
            operations.retry(row, actor=actor)
        case _:
            raise BadOption("step", f"{step} leads to a page; there is nothing to carry out")


def larger_hardware(row: Deployment) -> Hardware | None:
    """The next larger that something here offers and that the model is offered on."""
    fitting = Hardware.objects.filter(offers__model=row.model_id, memory_gib__gt=row.hardware.memory_gib)
    return fitting.exclude(backend="").order_by("memory_gib").first()


def _remedy(row: Deployment, step: Step) -> Remedy:
    match step:
        case Step.CONTEXT:
            return Remedy(step, f"Halve the context to {_less_context(row)} tokens and start again")
        case Step.DEADLINE:
            return Remedy(step, f"Raise the start deadline to {_later_deadline_s(row)} s and start again")
        case Step.HARDWARE:
            larger = larger_hardware(row)
            if larger is None:
                return Remedy(step, step.label, muted="none that is larger is offered here for this model")
            return Remedy(step, f"Deploy it on {larger.name}, {larger.memory_gib} GiB", hardware=larger)
        case _:
            return Remedy(step, step.label)


def _makes_sense(row: Deployment, step: Step) -> bool:
    if step == Step.CONTEXT:
        return row.options.get(CONTEXT, 0) > LEAST_CONTEXT
    return step != Step.DEADLINE or row.start_deadline_s < LONGEST_START_S


def _less_context(row: Deployment) -> int:
    return max(LEAST_CONTEXT, int(row.options[CONTEXT]) // 2)


def _later_deadline_s(row: Deployment) -> int:
    return min(LONGEST_START_S, row.start_deadline_s * 2)
