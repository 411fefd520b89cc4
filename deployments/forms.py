"""The deploy form: which version, on what, how elastic."""

from typing import Any

from django import forms

from deployments.engines.llama_cpp import DEFAULT_CONTEXT, DEFAULT_SLOTS, LEAST_CONTEXT, MOST_CONTEXT, MOST_SLOTS
from deployments.operations import LONGEST_IDLE_S


class DeployForm(forms.Form):
    name = forms.CharField(max_length=60, help_text="Callers write TEAM/NAME. a-z, 0-9 and '-'.")
    hardware = forms.ChoiceField(widget=forms.RadioSelect)
    min_replicas = forms.TypedChoiceField(
        label="How elastic",
        coerce=int,
        choices=[
            (0, "Sleep when idle"),
            (1, "Always awake"),
        ],
        widget=forms.RadioSelect,
        initial=0,
    )
    idle_window_s = forms.IntegerField(
        label="Idle window in seconds",
        min_value=30,
        max_value=LONGEST_IDLE_S,
        initial=600,
        help_text="It falls asleep after this long without a call.",
    )
    hold_s = forms.IntegerField(
        label="Hold calls while it wakes, seconds",
        required=False,
        min_value=0,
        max_value=600,
        help_text="A call that waited so long is told to try again. Empty: the portal's default.",
    )
    context_tokens = forms.IntegerField(
        label="Context tokens for each call", min_value=LEAST_CONTEXT, max_value=MOST_CONTEXT, initial=DEFAULT_CONTEXT
    )
    slots = forms.IntegerField(
        label="Calls at once",
        min_value=1,
        max_value=MOST_SLOTS,
        initial=DEFAULT_SLOTS,
        help_text="More wait in the engine's queue.",
    )

    def __init__(
        self, *args: Any, hardware: list[tuple[str, str]], max_context_tokens: int | None = None, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        field = self.fields["hardware"]
        assert isinstance(field, forms.ChoiceField)  # noqa: S101 - declared above
        field.choices = hardware
        if max_context_tokens:
            self.fields["context_tokens"].help_text = f"This model takes up to {max_context_tokens:,}."
