"""The deploy form: which version, on what, how elastic; everything else under "More"."""

from typing import Any

from django import forms

from catalog.licensing.policy import USES, Use
from deployments.engine_forms import EngineForm
from deployments.operations import (
    ELASTIC,
    FIRST_NUMBERS,
    LONGEST_HOLD_S,
    LONGEST_IDLE_S,
    LONGEST_START_S,
    MOST_CONCURRENCY,
    MOST_REPLICAS,
    SHORTEST_START_S,
)


class DeployForm(EngineForm):
    name = forms.CharField(max_length=60, required=False)
    revision = forms.ChoiceField(label="Version", required=False)
    hardware = forms.ChoiceField(widget=forms.RadioSelect)
    use = forms.ChoiceField(label="Use", required=False, choices=[(use, f"{use.label}: {USES[use]}") for use in Use])
    min_replicas = forms.IntegerField(
        label="Fewest replicas", required=False, min_value=0, max_value=MOST_REPLICAS, initial=0,
        help_text="0: it sleeps when idle, and costs nothing.",
    )  # fmt: skip
    max_replicas = forms.IntegerField(
        label="Most replicas", required=False, min_value=1, max_value=MOST_REPLICAS, initial=1,
        help_text="Each costs while it is awake. All of them count against the team's quota, awake or asleep.",
    )  # fmt: skip
    idle_window_s = forms.IntegerField(
        label="Falls asleep after, seconds", required=False, min_value=30, max_value=LONGEST_IDLE_S, initial=600,
        help_text="Without a call.",
    )  # fmt: skip
    target_concurrency = forms.IntegerField(
        label="Calls at once for a replica", required=False, min_value=1, max_value=MOST_CONCURRENCY,
        help_text="More start another replica. Empty: as many as it answers at once.",
    )  # fmt: skip
    start_deadline_s = forms.IntegerField(
        label="Start deadline, seconds", required=False, min_value=SHORTEST_START_S, max_value=LONGEST_START_S,
        initial=120, help_text="A start that takes longer is given up.",
    )  # fmt: skip
    hold_s = forms.IntegerField(
        label="Hold calls for, seconds", required=False, min_value=0, max_value=LONGEST_HOLD_S,
        help_text="A call that waited so long is told to try again. Empty: the portal's default.",
    )  # fmt: skip

    def __init__(
        self, *args: Any, hardware: list[tuple[str, str]], revisions: list[tuple[str, str]], **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        for name, choices in (("hardware", hardware), ("revision", revisions)):
            field = self.fields[name]
            assert isinstance(field, forms.ChoiceField)  # noqa: S101 - declared above
            field.choices = choices

    @property
    def elastic(self) -> dict[str, int | None]:
        said = {name: self.cleaned_data.get(name) for name in ELASTIC}
        return {name: FIRST_NUMBERS[name] if value is None else value for name, value in said.items()}

    @property
    def wish(self) -> dict[str, Any]:
        """As operations.deploy takes it, but for the model and the hardware. A secret without a value is none."""
        return self.elastic | {
            "name": self.cleaned_data.get("name") or "",
            "revision": self.cleaned_data.get("revision") or "",
            "use": self.cleaned_data.get("use") or "",
            "options": self.options,
            "env": self.env,
            "secrets": {name: value for name, value in self.secrets.items() if value},
            "adapters": self.chosen_adapters,
        }

    @property
    def scaling_fields(self) -> list[forms.BoundField]:
        return [self[name] for name in ("min_replicas", "max_replicas", "idle_window_s")]

    @property
    def more_fields(self) -> list[forms.BoundField]:
        return [self[name] for name in ("target_concurrency", "start_deadline_s", "hold_s")]

    @property
    def has_more_errors(self) -> bool:
        names = {"target_concurrency", "start_deadline_s", "hold_s", "context_tokens", "slots"}
        return self.has_engine_errors or bool(names & set(self.errors))
