"""What people say to import weights, and of those that are here."""

from typing import Any
from urllib.parse import urlencode

from django import forms

from catalog.licensing.policy import UNREAD
from catalog.models import Model, Weights
from catalog.uploads.forms import CardForm


class ImportForm(forms.Form):
    repo = forms.CharField(
        max_length=500, label="Repository",
        help_text="org/name, org/name@revision, or its address.",
        widget=forms.TextInput(
            attrs={"placeholder": "HuggingFaceTB/SmolLM2-135M-Instruct", "autocomplete": "off", "spellcheck": "false"}
        ),
    )  # fmt: skip
    revision = forms.CharField(
        max_length=100, required=False, help_text="A branch, a tag or a commit. Empty: the newest."
    )
    file = forms.CharField(max_length=300, required=False, widget=forms.HiddenInput)
    said = forms.CharField(max_length=100, required=False, widget=forms.HiddenInput, help_text="How it was asked for.")

    def query(self) -> str:
        """As the address of this page has it."""
        return urlencode({"repo": self.cleaned_data["repo"]})


class NotesForm(forms.Form):
    notes = forms.CharField(
        required=False, max_length=10_000, widget=forms.Textarea(attrs={"rows": 4, "aria-label": "Notes"}),
        help_text="What they are good for, how they were made.",
    )  # fmt: skip


class TermsForm(CardForm):
    """What they were tuned from, and under which licence they are."""

    notes = None  # type: ignore[assignment]

    def __init__(self, *args: Any, weights: Weights, **kwargs: Any) -> None:
        assert weights.team is not None  # noqa: S101 - cards.of() asks for the team's
        holds = weights.licence or weights.model.licence
        is_own = not weights.facts.get("licence_inherited") and holds.slug not in UNREAD
        initial = {"base": weights.base_name, "licence": holds if is_own else None}
        super().__init__(*args, team=weights.team, initial=initial, **kwargs)
        self.weights = weights
        self.fields["licence"].empty_label = "As the base model; without one, not stated"  # type: ignore[attr-defined]
        if weights.kind == Weights.Kind.ADAPTER:
            del self.fields["base"]

    def clean_base(self) -> Model | None:
        """What the card says already needs no model of that name here."""
        if self.cleaned_data["base"].strip() == self.weights.base_name:
            return None
        return super().clean_base()

    @property
    def wish(self) -> dict[str, Any]:
        """For catalog.restating: what was sent, and is another."""
        found = {name: self.cleaned_data[name] for name in self.fields if name in self.data}
        if self.data.get("base", "").strip() == self.weights.base_name or "base" not in self.fields:
            found.pop("base", None)
        return found


class TokenForm(forms.Form):
    token = forms.CharField(
        max_length=300, label="Hub token",
        widget=forms.PasswordInput(attrs={"autocomplete": "off", "placeholder": "hf_…"}),
        help_text="Write-only: it is kept encrypted and never shown. A token that may read is enough.",
    )  # fmt: skip
