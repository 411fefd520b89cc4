"""The path advisor's page, and the part of it that stands on a model's page."""

from dataclasses import dataclass
from typing import Any

from django.forms import BoundField
from django.http import Http404, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_safe

from accounts.http import TeamRequest, team_required
from billing.meters import METERS
from catalog import finding, library
from deployments.advice import amounts, asking, assumptions, figures, gathering, words
from deployments.advice.asking import Answer
from deployments.advice.assumptions import Assumption
from deployments.advice.costing import Gap
from deployments.advice.forms import PRICES, AdviceForm
from deployments.advice.gathering import Ground, Known
from deployments.advice.reckoning import Choice

FOUND = 24


@require_safe
@team_required
def advisor(request: TeamRequest) -> HttpResponse:
    """Which path is the cheapest: every field of the form is a parameter of the address."""
    slug = request.GET.get("model", "")
    if not slug:
        return _choose(request)
    known = _known(request, slug)
    page = _page(request, known)
    is_part = bool(request.htmx)  # type: ignore[attr-defined]
    # What htmx asks for while somebody types is shown whatever is wrong in it.
    status = 400 if page["form"].errors and not is_part else 200
    return render(request, f"deployments/advisor.html{'#advice' if is_part else ''}", page, status=status)


@require_safe
@team_required
def brief(request: TeamRequest) -> HttpResponse:
    """For the model's page: the answer for a first volume, and the way to the whole of it."""
    known = _known(request, request.GET.get("model", ""))
    form = AdviceForm({"model": known.model.slug}, hardware=[ground.hardware for ground in known.grounds])
    form.is_valid()
    answer = asking.answer(request.team, known, form, now=timezone.now())
    return render(request, "deployments/advice_brief.html", {"model": known.model, **_said(answer)})


def _choose(request: TeamRequest) -> HttpResponse:
    asked = "".join(filter(str.isprintable, request.GET.get("q", "")))
    search = finding.find(request.team, finding.asked({"q": [asked]}))
    slugs = [search.shelf.items[number].slug for number in search.numbers[:FOUND]]
    rows = library.visible_to(request.team).in_bulk(slugs, field_name="slug")
    found = [rows[slug] for slug in slugs if slug in rows]
    return render(request, "deployments/advisor_choose.html", {"q": asked, "models": found})


def _known(request: TeamRequest, slug: str) -> Known:
    model = gathering.model_of(request.team, slug)
    if model is None:
        raise Http404
    return gathering.known(request.team, model)


def _page(request: TeamRequest, known: Known) -> dict[str, Any]:
    form = AdviceForm(request.GET.dict(), hardware=[ground.hardware for ground in known.grounds])
    page: dict[str, Any] = {"form": form, "known": known, "model": known.model}
    if not form.is_valid():
        return page | {"grounds": [_Row(form, ground) for ground in known.grounds if not ground.why_not]}
    answer = asking.answer(request.team, known, form, now=timezone.now())
    grounds = [_Row(form, ground, answer) for ground in known.grounds if not ground.why_not]
    targets = {_Missing(gap).target for gap in answer.advice.gaps}
    rows = [*assumptions.of_hosted(answer), *(one for row in grounds for one in row.assumptions)]
    for one in rows:
        if one.field:
            wanted = f"id_{one.field}" in targets and one.field.startswith("price")
            form.mark(one.field, known=one.plain, wanted=wanted)
    return (
        page
        | _said(answer)
        | {
            "figure": figures.of(answer.advice),
            "grounds": [row for row in grounds if row.is_shown],
            "others": [row for row in grounds if not row.is_shown],
            "too_small": [ground for ground in known.grounds if ground.why_not],
            "traffic_assumptions": assumptions.of_traffic(answer),
            "hosted_assumptions": assumptions.of_hosted(answer),
            "missing": [_Missing(gap) for gap in answer.advice.gaps if _is_urgent(gap, grounds)],
            "speed_missing": any(gap.field.startswith("speed") for gap in answer.advice.gaps),
            "prices_missing": any(gap.field.startswith("price") for gap in answer.advice.gaps),
        }
    )


def _said(answer: Answer) -> dict[str, Any]:
    advice = answer.advice
    rows = [_Line(answer, choice) for choice in advice.choices if not choice.cost.machine or _is_known(choice)]
    return {
        "answer": answer,
        "advice": advice,
        "headline": words.headline(advice),
        "reasons": words.reasons(advice),
        "rows": rows,
        "volume": words.volume(advice),
    }


def _is_urgent(gap: Gap, grounds: list["_Row"]) -> bool:
    """Of hosted, or of a hardware of which some is known; the others are asked for together."""
    return gap.field.startswith("price") or any(
        gap.field.endswith(f":{row.hardware.slug}") for row in grounds if row.is_shown
    )


def _is_known(choice: Choice) -> bool:
    """Enough of the hardware to say something: a start that was never timed stands in its own row."""
    cost = choice.cost
    return not cost.why_not and all(gap.field.startswith("start") for gap in cost.gaps)


@dataclass(frozen=True, slots=True)
class _Missing:
    """A number that is not known, and the field that takes it."""

    gap: Gap

    @property
    def text(self) -> str:
        return self.gap.text

    @property
    def target(self) -> str:
        kind, _, name = self.gap.field.partition(":")
        if kind == "price":
            return next((f"id_{field}" for field, meter in PRICES.items() if meter.name == name), "id_price_input")
        return f"id_reads-{name}" if kind == "speed" else f"id_{kind}-{name}"


@dataclass(frozen=True, slots=True)
class _Line:
    """A way, as the table shows it."""

    answer: Answer
    choice: Choice

    @property
    def name(self) -> str:
        return figures.label_of(self.choice.cost)

    @property
    def is_best(self) -> bool:
        return self.choice is self.answer.advice.best

    @property
    def monthly(self) -> str:
        monthly = self.choice.cost.monthly
        return amounts.dollars(monthly) if monthly is not None else ""

    @property
    def what(self) -> str:
        return words.what_it_is(self.choice.cost)

    @property
    def break_even(self) -> str:
        return words.break_even(self.answer.advice, self.choice)

    @property
    def gaps(self) -> str:
        return "; ".join(gap.text for gap in self.choice.cost.gaps)

    @property
    def parts(self) -> list[tuple[str, str, str, str]]:
        """(meter, quantity, price, amount), as billing would write them."""
        return [
            (
                METERS[line.meter].label,
                f"{amounts.short(line.quantity)} {METERS[line.meter].unit}s",
                f"{amounts.dollars(line.unit_price * METERS[line.meter].per)} / {METERS[line.meter].quoted}",
                amounts.dollars(line.amount),
            )
            for line in self.choice.cost.lines
        ]


@dataclass(frozen=True, slots=True)
class _Row:
    """A hardware's part of the form, with what is known of it."""

    form: AdviceForm
    ground: Ground
    answer: Answer | None = None

    @property
    def hardware(self) -> Any:
        return self.ground.hardware

    @property
    def fields(self) -> list[BoundField]:
        return self.form.fields_of(self.ground.hardware.slug)

    @property
    def assumptions(self) -> list[Assumption]:
        return assumptions.of_ground(self.answer, self.ground) if self.answer else []

    @property
    def missing(self) -> list[str]:
        return [one.label.lower() for one in self.assumptions if not one.value]

    @property
    def is_shown(self) -> bool:
        """Something is measured there, or somebody has said something of it."""
        return self.form.is_entered(self.hardware.slug) or self.ground.pace is not None

    @property
    def is_open(self) -> bool:
        return self.form.is_entered(self.ground.hardware.slug) or any(field.errors for field in self.fields)
