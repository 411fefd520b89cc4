"""The forms of validations. The editor of a prompt set works without JavaScript: a button more rows, another save."""

import json
import re
from collections.abc import Mapping
from typing import Any

from django import forms
from django.forms.fields import InvalidJSONInput

from accounts.models import Team
from deployments.validation.cases import (
    DEFAULT_MAX_TOKENS,
    LABELS,
    MOST_CASES,
    MOST_CHECKS,
    MOST_MAX_TOKENS,
    BadCase,
    Kind,
)  # fmt: skip
from deployments.validation.models import Every, PromptSet, Rule, ValidationPlan

PLACE = re.compile(r"cases\[(\d+)\](?:\.checks(?:\[(\d+)\])?)?(?:\.(\w+))?")
BEHIND_MORE = ("system", "messages", "max_tokens", "temperature", "parameters")
OWN_PARAMETERS = ("max_tokens", "temperature")


class SetForm(forms.Form):
    name = forms.CharField(max_length=80, help_text="As your team speaks of it: smoke, safety, invoices.")
    note = forms.CharField(max_length=300, required=False, label="Note", help_text="What it is for.")


class JSONText(forms.JSONField):
    """Nothing is shown as nothing. What Python can't read, or a page can't show, is not JSON to people either."""

    def to_python(self, value: Any) -> Any:
        try:
            found = super().to_python(value)
            json.dumps(found, ensure_ascii=False).encode()
        except (ValueError, RecursionError) as error:
            raise forms.ValidationError(self.error_messages["invalid"], code="invalid") from error
        return found

    def bound_data(self, data: Any, initial: Any) -> Any:
        """What was sent is shown again, as it was if it is no JSON."""
        try:
            return self.to_python(data)
        except forms.ValidationError:
            return InvalidJSONInput(data)

    def prepare_value(self, value: Any) -> Any:
        return "" if value is None else super().prepare_value(value)


class CheckForm(forms.Form):
    """One line of what an answer has to be. No kind: an empty line."""

    kind = forms.ChoiceField(
        choices=[("", "The answer …"), *((kind.value, LABELS[kind]) for kind in Kind)], required=False
    )
    value = forms.CharField(required=False, widget=forms.Textarea(attrs={"rows": 1}), strip=False)
    model = forms.CharField(max_length=200, required=False)
    threshold = forms.FloatField(required=False, min_value=0, max_value=1)

    @property
    def raw(self) -> dict[str, Any] | None:
        given = self.cleaned_data
        if not given.get("kind"):
            return None
        told = {"kind": given["kind"], "value": given.get("value") or "", "model": given.get("model") or ""}
        threshold = {"threshold": given["threshold"]} if given.get("threshold") is not None else {}
        return {name: value for name, value in told.items() if value} | threshold


class CaseForm(forms.Form):
    name = forms.CharField(max_length=120, required=False)
    prompt = forms.CharField(required=False, widget=forms.Textarea(attrs={"rows": 2}), strip=False)
    system = forms.CharField(
        required=False, widget=forms.Textarea(attrs={"rows": 2}), strip=False, label="System text before it"
    )
    messages = JSONText(
        required=False, widget=forms.Textarea(attrs={"rows": 2}), label="A conversation instead of the prompt (JSON)"
    )
    max_tokens = forms.IntegerField(
        required=False, min_value=1, max_value=MOST_MAX_TOKENS, label=f"Most tokens (empty: {DEFAULT_MAX_TOKENS})"
    )
    temperature = forms.FloatField(required=False, min_value=0, max_value=2, label="Temperature (empty: 0, greedy)")
    parameters = JSONText(required=False, widget=forms.Textarea(attrs={"rows": 1}), label="More parameters (JSON)")
    left_out = forms.BooleanField(required=False, label="Leave this case out")

    @property
    def raw(self) -> dict[str, Any]:
        given = self.cleaned_data
        more = given.get("parameters") or {}
        own = {name: given[name] for name in OWN_PARAMETERS if given.get(name) is not None}
        told = {name: given.get(name) or "" for name in ("name", "prompt", "system", "messages")}
        told["parameters"] = more | own if isinstance(more, dict) else more
        return {name: value for name, value in told.items() if value}

    @property
    def is_opened(self) -> bool:
        """Something that shapes the question stands behind "More", or something there is wrong."""
        shown = any(self[name].value() for name in ("system", "messages", "parameters"))
        return shown or any(self[name].errors for name in BEHIND_MORE)

    @property
    def behind_more(self) -> list[forms.BoundField]:
        return [self[name] for name in BEHIND_MORE]


class CaseRows:
    """A case's form with those of its checks."""

    def __init__(self, case: CaseForm, checks: list[CheckForm]) -> None:
        self.case = case
        self.checks = checks

    @property
    def raw(self) -> dict[str, Any] | None:
        """None for one that nobody filled in, or that is to be left out."""
        if self.case.cleaned_data.get("left_out"):
            return None
        found = [raw for form in self.checks if (raw := form.raw)]
        told = self.case.raw
        return told | ({"checks": found} if found else {}) if told or found else None


class Editor:
    """All of a prompt set's form. `cases` is what it says, once is_valid()."""

    def __init__(self, data: Mapping[str, Any] | None = None, *, found: PromptSet | None = None) -> None:
        self.data = data
        first = {"name": found.name, "note": found.note} if found else {}
        self.form = SetForm(data, initial=first)
        stored = list(found.edition.cases) if found else []
        if data is None:
            self.rows = [_stored(place, raw) for place, raw in enumerate(stored)] or [_empty(0)]
            return
        self.rows = [self._given(place) for place in range(self._count("cases", MOST_CASES, 1))]
        match data.get("add", "").partition("-"):
            case ("case", _, _) if len(self.rows) < MOST_CASES:
                self.rows.append(_empty(len(self.rows)))
            case ("check", _, place) if _is_small(place) and int(place) < len(self.rows):
                checks = self.rows[int(place)].checks
                if len(checks) < MOST_CHECKS:
                    checks.append(_check(int(place), len(checks)))

    @property
    def is_asked_for_rows(self) -> bool:
        return bool(self.data and self.data.get("add"))

    def is_valid(self) -> bool:
        forms_of_all = [self.form, *(form for row in self.rows for form in (row.case, *row.checks))]
        return all([form.is_valid() for form in forms_of_all])

    @property
    def cases(self) -> list[dict[str, Any]]:
        return [raw for row in self.rows if (raw := row.raw)]

    def tell(self, error: BadCase) -> None:
        """Put the error where it belongs."""
        found = PLACE.fullmatch(error.place)
        rows = [row for row in self.rows if row.raw]
        if not found or int(found[1]) >= len(rows):
            self.form.add_error(None, str(error))
            return
        row = rows[int(found[1])]
        checks = [form for form in row.checks if form.raw]
        form: forms.Form = checks[int(found[2])] if found[2] else row.case
        form.add_error(found[3] if found[3] in form.fields else None, str(error))

    def _given(self, place: int) -> CaseRows:
        count = self._count(f"case-{place}-checks", MOST_CHECKS, 0)
        checks = [CheckForm(self.data, prefix=f"case-{place}-check-{number}") for number in range(count)]
        return CaseRows(CaseForm(self.data, prefix=f"case-{place}"), checks)

    def _count(self, name: str, most: int, least: int) -> int:
        text = str((self.data or {}).get(name, ""))
        return max(least, min(int(text), most)) if _is_small(text) else least


class PlanForm(forms.Form):
    """When a deployment is asked which set."""

    prompt_set = forms.ModelChoiceField(PromptSet.objects.none(), required=False, empty_label="None")
    on_update = forms.ChoiceField(choices=Rule.choices, label="Before an update takes calls")
    every = forms.ChoiceField(choices=Every.choices, required=False, label="By the clock")
    wakes = forms.BooleanField(required=False, label="Wake it for that if it sleeps")

    def __init__(
        self, *args: Any, team: Team, sets: list[PromptSet], plan: ValidationPlan | None, **kwargs: Any
    ) -> None:
        """`sets` are the team's own, as the page has them already."""
        names = ("prompt_set", "on_update", "every", "wakes")
        kwargs["initial"] = {name: getattr(plan, name) for name in names} if plan else {"on_update": Rule.OFF}
        super().__init__(*args, **kwargs)
        field = self.fields["prompt_set"]
        assert isinstance(field, forms.ModelChoiceField)  # noqa: S101 - declared above
        field.queryset = PromptSet.objects.of(team)
        field.choices = [("", field.empty_label or ""), *((row.pk, str(row)) for row in sets)]

    def clean(self) -> dict[str, Any]:
        given = super().clean() or {}
        if not given.get("prompt_set") and (given.get("on_update", Rule.OFF) != Rule.OFF or given.get("every")):
            self.add_error("prompt_set", "Choose the set to be asked.")
        return given


def _is_small(text: str) -> bool:
    """A whole number that int() reads; other alphabets have digits, too, that it does not."""
    return text.isascii() and text.isdigit() and len(text) < 5


def _stored(place: int, raw: dict[str, Any]) -> CaseRows:
    parameters = dict(raw.get("parameters") or {})
    own = {name: parameters.pop(name) for name in OWN_PARAMETERS if name in parameters}
    initial = {name: raw.get(name) or None for name in ("name", "prompt", "system", "messages")} | own
    case = CaseForm(prefix=f"case-{place}", initial=initial | {"parameters": parameters or None})
    return CaseRows(case, [_check(place, number, one) for number, one in enumerate(raw["checks"])])


def _empty(place: int) -> CaseRows:
    return CaseRows(CaseForm(prefix=f"case-{place}"), [_check(place, 0)])


def _check(place: int, number: int, raw: dict[str, Any] | None = None) -> CheckForm:
    told = dict(raw or {})
    if isinstance(told.get("value"), dict):  # a schema, as a program gave it
        told["value"] = json.dumps(told["value"], indent=2, ensure_ascii=False)
    return CheckForm(prefix=f"case-{place}-check-{number}", initial=told)
