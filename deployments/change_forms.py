"""The form of a deployment's settings: how elastic it is, and what it runs."""

from typing import Any

from django import forms

from deployments.engines.llama_cpp import LEAST_CONTEXT, MOST_CONTEXT, MOST_SLOTS
from deployments.models import Deployment
from deployments.operations import (
    ELASTIC,
    LONGEST_HOLD_S,
    LONGEST_IDLE_S,
    LONGEST_START_S,
    MOST_CONCURRENCY,
    MOST_REPLICAS,
    SHORTEST_START_S,
)  # fmt: skip

ENGINE_OPTIONS = ("context_tokens", "slots")


class ChangeForm(forms.Form):
    """The first part holds at once; the second makes a new version, which is tried beside the old one."""

    min_replicas = forms.IntegerField(
        label="Fewest replicas", min_value=0, max_value=MOST_REPLICAS, help_text="0: it sleeps when idle."
    )
    max_replicas = forms.IntegerField(
        label="Most replicas", min_value=1, max_value=MOST_REPLICAS, help_text="Each costs while it is awake."
    )
    target_concurrency = forms.IntegerField(
        label="Calls at once for a replica",
        min_value=1,
        max_value=MOST_CONCURRENCY,
        help_text="More calls than that start another replica, up to the most.",
    )
    idle_window_s = forms.IntegerField(
        label="Idle window in seconds",
        min_value=30,
        max_value=LONGEST_IDLE_S,
        help_text="It falls asleep after this long without a call.",
    )
    hold_s = forms.IntegerField(
        label="Hold calls while it wakes, seconds",
        required=False,
        min_value=0,
        max_value=LONGEST_HOLD_S,
        help_text="A call that waited so long is told to try again. Empty: the portal's default.",
    )
    start_deadline_s = forms.IntegerField(
        label="Start deadline in seconds",
        min_value=SHORTEST_START_S,
        max_value=LONGEST_START_S,
        help_text="A start that takes longer is given up.",
    )
    revision = forms.ChoiceField(label="Revision of the weights")
    context_tokens = forms.IntegerField(
        label="Context tokens for each call", min_value=LEAST_CONTEXT, max_value=MOST_CONTEXT
    )
    slots = forms.IntegerField(
        label="Calls at once in the engine", min_value=1, max_value=MOST_SLOTS, help_text="More wait in its queue."
    )

    def __init__(self, *args: Any, deployment: Deployment, **kwargs: Any) -> None:
        now = {name: getattr(deployment, name) for name in ELASTIC} | {"revision": deployment.weights.revision}
        kwargs["initial"] = now | deployment.options
        super().__init__(*args, **kwargs)
        field = self.fields["revision"]
        assert isinstance(field, forms.ChoiceField)  # noqa: S101 - declared above
        field.choices = [(name, name) for name in deployment.model.weights.values_list("revision", flat=True)]

    @property
    def elastic(self) -> dict[str, int | None]:
        return {name: self.cleaned_data[name] for name in ELASTIC}

    @property
    def options(self) -> dict[str, int]:
        return {name: self.cleaned_data[name] for name in ENGINE_OPTIONS}
