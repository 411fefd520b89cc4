"""What the pages and the API say about prompt sets and runs: one reading, used by both."""

from collections import Counter
from dataclasses import dataclass
from typing import Any

from django.db.models import Count, OuterRef, Q, QuerySet, Subquery

from accounts.models import Team
from deployments.models import Deployment
from deployments.validation import cases
from deployments.validation.cases import LABELS, Case, Kind
from deployments.validation.checks import Verdict
from deployments.validation.models import CaseResult, Edition, PromptSet, ValidationRun


@dataclass(frozen=True, slots=True)
class CaseReport:
    """A case with what came of it; `result` None: it is still to be asked."""

    number: int
    case: Case
    result: CaseResult | None

    @property
    def verdict(self) -> str:
        return self.result.verdict if self.result else "waiting"

    @property
    def is_fine(self) -> bool:
        return self.verdict in {Verdict.PASSED, "waiting"}

    @property
    def findings(self) -> list[dict[str, Any]]:
        found = self.result.findings if self.result else []
        return [one | {"label": LABELS[Kind(one["kind"])]} for one in found]


def sets(team: Team) -> list[PromptSet]:
    """The team's sets, each with the number of its newest edition, its cases, and the last run that is over."""
    newest = Edition.objects.filter(prompt_set=OuterRef("pk")).order_by("-number")
    over = ValidationRun.objects.filter(edition__prompt_set=OuterRef("pk"), finished_at__isnull=False)
    last = over.order_by("-finished_at")
    rows = PromptSet.objects.of(team).annotate(
        number=Subquery(newest.values("number")[:1]),
        cases=Subquery(newest.values("cases")[:1]),
        edited_at=Subquery(newest.values("created_at")[:1]),
        last_run=Subquery(last.values("pk")[:1]),
        last_status=Subquery(last.values("status")[:1]),
        last_deployment=Subquery(last.values("deployment")[:1]),
        last_name=Subquery(last.values("deployment__name")[:1]),
        last_at=Subquery(last.values("finished_at")[:1]),
    )
    return list(rows)


def runs_of(deployment: Deployment) -> QuerySet[ValidationRun]:
    """Newest first, each with how many of its cases passed, failed and could not be checked."""
    rows = ValidationRun.objects.filter(deployment=deployment).select_related("edition__prompt_set", "version")
    counted = {verdict.value: Count("results", filter=Q(results__verdict=verdict)) for verdict in Verdict}
    return rows.annotate(**counted).order_by("-created_at")


def of_run(run: ValidationRun) -> dict[str, Any]:
    parsed = cases.parse(run.edition.cases)
    results = {result.position: result for result in run.results.all()}
    found = [CaseReport(place + 1, case, results.get(place)) for place, case in enumerate(parsed)]
    counts = Counter(one.verdict for one in found)
    return {
        "run": run,
        "found": sorted(found, key=lambda one: (one.is_fine, one.number)),
        "counts": counts,
        "asked": len(results),
        "total": len(parsed),
    }
