"""The form of a deployment's settings: how elastic it is, and what it runs."""

from typing import Any

from django import forms

from deployments import preparing
from deployments.engine_forms import EngineForm, adapter_choices, initial_of
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


class ChangeForm(EngineForm):
    """The first part holds at once; the second makes a new version, which is tried beside the old one."""

    min_replicas = forms.IntegerField(
        label="Fewest replicas", min_value=0, max_value=MOST_REPLICAS, help_text="0: it sleeps when idle."
    )
    max_replicas = forms.IntegerField(
        label="Most replicas",
        min_value=1,
        max_value=MOST_REPLICAS,
        help_text="Each costs while it is awake. All of them count against the team's quota, awake or asleep.",
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
        label="Hold calls for, seconds",
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

    def __init__(self, *args: Any, deployment: Deployment, **kwargs: Any) -> None:
        version = deployment.version
        loaded = preparing.of_version(version) if version else preparing.loads(deployment.weights)
        applied = {one.weights.pk: one.scale for one in loaded.extra}
        choices = adapter_choices(preparing.adapters_for(deployment.team, loaded.base), applied)
        choices = [choice for choice in choices if not choice[0].startswith(str(loaded.chosen.pk))]
        now = {name: getattr(deployment, name) for name in ELASTIC} | {"revision": deployment.weights.revision}
        kwargs["initial"] = now | initial_of(deployment.options) | {
            "env": "\n".join(f"{name}={value}" for name, value in sorted((version.env if version else {}).items())),
            "adapters": [text for text, _ in choices if text.partition("=")[0] in map(str, applied)],
        }  # fmt: skip
        super().__init__(
            *args,
            engine=loaded.engine,
            max_context_tokens=preparing.most_context(deployment.model, loaded.base),
            adapters=choices,
            secret_names=version.secret_names if version else (),
            **kwargs,
        )
        field = self.fields["revision"]
        assert isinstance(field, forms.ChoiceField)  # noqa: S101 - declared above
        names = [one.revision for one in preparing.revisions(deployment.model)]
        field.choices = [(name, name) for name in dict.fromkeys([*names, deployment.weights.revision])]

    @property
    def elastic(self) -> dict[str, int | None]:
        return {name: self.cleaned_data[name] for name in ELASTIC}

    @property
    def elastic_fields(self) -> list[forms.BoundField]:
        return [self[name] for name in ELASTIC]

    @property
    def change(self) -> dict[str, Any]:
        """As updating.update takes it."""
        return {
            "revision": self.cleaned_data["revision"],
            "options": self.options,
            "env": self.env,
            "secrets": self.secrets,
            "adapters": self.chosen_adapters,
        }
