"""What people say of the weights that they upload."""

from typing import Any

from django import forms
from django.db.models import Q
from django.urls import reverse

from accounts.models import Team
from catalog import library
from catalog.models import Licence, Model
from catalog.uploads.drafts import Card


class CardForm(forms.Form):
    base = forms.CharField(
        required=False, max_length=100, label="Base model",
        widget=forms.TextInput(attrs={"list": "bases", "autocomplete": "off", "spellcheck": "false"}),
        help_text="What they were tuned from, as the library calls it; empty: none, or not in the library. A LoRA "
        "adapter needs one that can be deployed here.",
    )  # fmt: skip
    licence = forms.ModelChoiceField(
        queryset=Licence.objects.order_by("name"), required=False, label="Licence", empty_label="As the base model",
        help_text="Weights that were tuned stay under the terms of their base.",
    )  # fmt: skip
    notes = forms.CharField(
        required=False, max_length=10_000, widget=forms.Textarea(attrs={"rows": 3}),
        help_text="What they are good for, how they were made.",
    )  # fmt: skip

    def __init__(self, *args: Any, team: Team, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.team = team
        self.fields["base"].widget.attrs["data-suggest"] = reverse("draft-bases")

    def clean_base(self) -> Model | None:
        text = str(self.cleaned_data["base"]).strip()
        if not text:
            return None
        open_to_tuning = library.visible_to(self.team).exclude(openness=Model.Openness.CLOSED)
        found = open_to_tuning.filter(Q(slug=text) | Q(name__iexact=text)).order_by("slug").first()
        if found is None:
            raise forms.ValidationError(f"No open model of the library is named {text}. The list finds them.")
        return found

    def card(self) -> Card:
        asked = self.cleaned_data
        return Card(base=asked["base"], licence=asked["licence"], notes=asked["notes"])
