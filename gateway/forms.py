"""Aliases and limits, as people enter them."""

from collections.abc import Callable, Collection
from decimal import Decimal
from typing import Any

from django import forms
from django.db import transaction

from accounts.models import Team
from deployments.models import Deployment
from gateway.models import Alias, AliasTarget

MOST_TARGETS = 8
MOST_TOKENS_A_MINUTE = 2_000_000_000


class AliasForm(forms.ModelForm):  # type: ignore[type-arg]
    class Meta:
        model = Alias
        fields = ["name", "hold_s", "spills", "spill_cap_usd"]
        labels = {
            "hold_s": "Wait for a sleeping target at most (seconds)",
            "spills": "Then go on to the next target",
            "spill_cap_usd": "... if it asks at most (USD a million tokens)",
        }
        help_texts = {
            "name": "Programs write it after the team's name. Lower case, digits, dots and dashes.",
            "hold_s": "Empty: the portal's default. 0 with the box below: never wait while there is another target.",
            "spills": "Otherwise a call that waited too long is told to try again (503).",
        }

    def __init__(self, *args: Any, team: Team, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.team = team

    def clean_name(self) -> str:
        name = str(self.cleaned_data["name"])
        if Alias.objects.filter(team=self.team, name=name).exclude(pk=self.instance.pk).exists():
            raise forms.ValidationError("Your team has an alias of this name.")
        if Deployment.objects.unsettled().of(self.team).filter(name=name).exists():
            raise forms.ValidationError("Your team has a deployment of this name. Choose another.")
        return name

    def save_with(self, targets: Callable[[Alias], list[AliasTarget]]) -> Alias:
        """The alias and what stands behind it, replaced together or not at all."""
        with transaction.atomic():
            saved: Alias = self.save()
            saved.targets.all().delete()
            AliasTarget.objects.bulk_create(targets(saved))
        return saved


class TargetForm(forms.Form):
    """One line of the table of targets. An empty model is an empty line."""

    model = forms.CharField(max_length=160, required=False)
    kind = forms.ChoiceField(
        choices=[("0", "Serves"), ("1", "Fallback"), ("2", "Second fallback"), ("shadow", "Shadow (a copy)")],
        required=False,
    )
    weight = forms.IntegerField(min_value=0, max_value=1_000_000, required=False)

    def __init__(self, *args: Any, names: Collection[str], **kwargs: Any) -> None:
        """`names`: what the team can call."""
        super().__init__(*args, **kwargs)
        self.names = names

    def clean_model(self) -> str:
        name = str(self.cleaned_data["model"]).strip()
        if name and name not in self.names:
            raise forms.ValidationError(f"Your team can't call a model named {name}. The list finds those it can.")
        return name

    def clean(self) -> dict[str, Any]:
        given = super().clean() or {}
        share = given.get("weight")
        if given.get("kind") == "shadow" and given.get("model") and not 1 <= (share or 0) <= 100:
            raise forms.ValidationError({"weight": "A shadow gets a copy of 1 to 100 percent of the calls."})
        return given

    def target(self, alias: Alias) -> AliasTarget | None:
        given = self.cleaned_data
        if not given.get("model"):
            return None
        share = given["weight"] if given["weight"] is not None else 1
        if given.get("kind") == "shadow":
            return AliasTarget(alias=alias, model=given["model"], shadow_percent=share, weight=0)
        return AliasTarget(alias=alias, model=given["model"], position=int(given.get("kind") or 0), weight=share)


class BaseTargets(forms.BaseFormSet):  # type: ignore[type-arg]
    def clean(self) -> None:
        if any(form.errors for form in self.forms):
            return
        serving = [
            form for form in self.forms if form.cleaned_data.get("model") and form.cleaned_data.get("kind") != "shadow"
        ]
        if not serving:
            raise forms.ValidationError("An alias needs at least one target that serves.")


Targets = forms.formset_factory(TargetForm, formset=BaseTargets, extra=3, max_num=MOST_TARGETS)


class PromptLoggingForm(forms.Form):
    """For how long a team's prompts and answers are kept."""

    days = forms.IntegerField(min_value=1, max_value=90, label="Keep them for days")


class LimitsForm(forms.Form):
    """A team's or a key's limits. Empty: none of this kind."""

    requests_per_minute = forms.IntegerField(
        min_value=1, max_value=10_000_000, required=False, label="Requests a minute"
    )
    tokens_per_minute = forms.IntegerField(
        min_value=1, max_value=MOST_TOKENS_A_MINUTE, required=False, label="Tokens a minute"
    )
    concurrency = forms.IntegerField(min_value=1, max_value=100_000, required=False, label="Calls at a time")
    monthly_usd = forms.DecimalField(
        min_value=Decimal("0.01"), max_digits=14, decimal_places=2, required=False, label="Budget a month (USD)"
    )
