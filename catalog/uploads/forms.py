"""What people say of the weights that they upload."""

from typing import Any

from django import forms

from accounts.models import Team
from catalog import library
from catalog.models import Licence, Model
from catalog.uploads.drafts import Card


class CardForm(forms.Form):
    base = forms.ModelChoiceField(
        queryset=Model.objects.none(), required=False, label="Base model", empty_label="None, or not in this list",
        help_text="What they were tuned from. A LoRA adapter needs one that can be deployed here.",
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
        choices: Any = self.fields["base"]
        open_to_tuning = library.visible_to(team).exclude(openness=Model.Openness.CLOSED)
        choices.queryset = open_to_tuning.order_by("name")

    def card(self) -> Card:
        asked = self.cleaned_data
        return Card(base=asked["base"], licence=asked["licence"], notes=asked["notes"])
