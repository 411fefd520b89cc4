"""The part of a form that is the engine's: its options, its environment and secrets, the adapters on its weights."""

from collections.abc import Iterable, Mapping
from typing import Any

from django import forms

from catalog.models import Weights
from deployments.engines import Engine
from deployments.engines.base import ALWAYS, Choice, Fraction, Number, Option, Switch, Text, bounded_context

ON_OFF = [("on", "on"), ("off", "off")]
SPARE_SECRETS = 3


class EngineForm(forms.Form):
    """`options`, `env`, `secrets` and `chosen_adapters` are what was filled in, as operations take them. A
    secret's value is never put into a page: a field that is sent back is empty."""

    def __init__(
        self,
        *args: Any,
        engine: Engine,
        max_context_tokens: int | None,
        adapters: Iterable[tuple[str, str]] = (),
        secret_names: Iterable[str] = (),
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.engine = engine
        self.known_secrets = list(secret_names)
        self.secret_count = len(self.known_secrets) + SPARE_SECRETS
        for option in bounded_context(engine.options, max_context_tokens):
            self.fields[option.name] = _field(option)
        if max_context_tokens:
            self.fields["context_tokens"].help_text = f"This model takes up to {max_context_tokens:,}."
        self.fields["env"] = forms.CharField(
            label="Environment", required=False, max_length=100_000, widget=forms.Textarea(attrs={"rows": 3}),
            help_text="NAME=value, one a line. Anybody in the team can read these.",
        )  # fmt: skip
        for number in range(self.secret_count):
            self._add_secret(number)
        if found := list(adapters):
            self.fields["adapters"] = forms.MultipleChoiceField(
                label="LoRA adapters", required=False, choices=found, widget=forms.CheckboxSelectMultiple
            )

    def clean_env(self) -> dict[str, str]:
        found: dict[str, str] = {}
        for line in self.cleaned_data["env"].splitlines():
            name, equals, value = line.strip().partition("=")
            if not name or name.startswith("#"):
                continue
            if not equals:
                raise forms.ValidationError(f"{name[:40]!r} is no NAME=value.")
            if name in found:
                raise forms.ValidationError(f"{name} stands there twice.")
            found[name.strip()] = value
        return found

    def clean(self) -> dict[str, Any]:
        said = super().clean() or self.cleaned_data
        for number in range(self.secret_count):
            name, value = said.get(f"secret_name_{number}"), said.get(f"secret_value_{number}")
            if value and not name:
                self.add_error(f"secret_name_{number}", "This secret has no name.")
            if name and not value and name not in self.known_secrets:
                self.add_error(f"secret_value_{number}", "Enter its value: what was entered before is not kept.")
        return said

    @property
    def options(self) -> dict[str, Any]:
        """Those that were filled in."""
        return options_of(self.engine, self.cleaned_data)

    @property
    def env(self) -> dict[str, str]:
        return dict(self.cleaned_data.get("env") or {})

    @property
    def secrets(self) -> dict[str, str | None]:
        """Those with a new value, and None for those to be removed."""
        found: dict[str, str | None] = {}
        for number in range(self.secret_count):
            name = self.cleaned_data.get(f"secret_name_{number}")
            if name and self.cleaned_data.get(f"secret_remove_{number}"):
                found[name] = None
            elif name and (value := self.cleaned_data.get(f"secret_value_{number}")):
                found[name] = value
        return found

    @property
    def chosen_adapters(self) -> list[str]:
        return list(self.cleaned_data.get("adapters") or [])

    @property
    def main_option_fields(self) -> list[forms.BoundField]:
        return [self[name] for name in ALWAYS]

    @property
    def other_option_fields(self) -> list[forms.BoundField]:
        return [self[option.name] for option in self.engine.options if option.name not in ALWAYS]

    @property
    def secret_rows(self) -> list[dict[str, Any]]:
        return [
            {
                "name": self[f"secret_name_{number}"],
                "value": self[f"secret_value_{number}"],
                "remove": self[f"secret_remove_{number}"] if number < len(self.known_secrets) else None,
            }
            for number in range(self.secret_count)
        ]

    @property
    def has_engine_errors(self) -> bool:
        """Something below "More" is wrong: it has to be seen."""
        names = {option.name for option in self.engine.options} - set(ALWAYS)
        return any(name in names or name.startswith(("env", "secret", "adapters")) for name in self.errors)

    @property
    def secret_value_names(self) -> str:
        """What htmx leaves out of the requests it makes while somebody types."""
        return ",".join(f"secret_value_{number}" for number in range(self.secret_count))

    def _add_secret(self, number: int) -> None:
        known = self.known_secrets[number] if number < len(self.known_secrets) else ""
        self.fields[f"secret_name_{number}"] = forms.CharField(
            label=f"Name of secret {number + 1}", required=False, max_length=100, initial=known,
            widget=forms.TextInput(attrs={"readonly": True} if known else {"placeholder": "NAME"}),
        )  # fmt: skip
        hint = "unchanged" if known else "value"
        self.fields[f"secret_value_{number}"] = forms.CharField(
            label=f"Value of secret {number + 1}", required=False, max_length=32_768, strip=False,
            widget=forms.PasswordInput(attrs={"placeholder": hint, "autocomplete": "new-password"}),
        )  # fmt: skip
        if known:
            self.fields[f"secret_remove_{number}"] = forms.BooleanField(label=f"Remove {known}", required=False)


def options_of(engine: Engine, said: Mapping[str, Any]) -> dict[str, Any]:
    found = {}
    for option in engine.options:
        value = said.get(option.name)
        if value is not None and value != "":
            found[option.name] = value == "on" if isinstance(option, Switch) else value
    return found


def initial_of(options: Mapping[str, Any]) -> dict[str, Any]:
    """Checked options as the form's fields show them."""
    return {name: ("on" if value else "off") if isinstance(value, bool) else value for name, value in options.items()}


def adapter_choices(rows: Iterable[Weights], applied: Mapping[Any, float]) -> list[tuple[str, str]]:
    """Each as operations take it; one that is applied in part keeps its part."""
    found = []
    for row in rows:
        scale = applied.get(row.pk, 1.0)
        part = "" if scale == 1 else f"={scale:g}"
        found.append((f"{row.pk}{part}", f"{row.model.name} {row.revision}{f', scale {scale:g}' if part else ''}"))
    return found


def _field(option: Option) -> forms.Field:
    shared: dict[str, Any] = {"label": option.label, "help_text": option.help, "required": False}
    match option:
        case Number():
            return forms.IntegerField(
                min_value=option.least, max_value=option.most, initial=option.default, **shared
            )  # fmt: skip
        case Fraction():
            return forms.FloatField(
                min_value=option.least, max_value=option.most, initial=option.default, **shared
            )  # fmt: skip
        case Choice():
            return forms.ChoiceField(
                choices=[(value, value) for value in option.choices], initial=option.default, **shared
            )
        case Switch():
            return forms.ChoiceField(choices=ON_OFF, initial="on" if option.default else "off", **shared)
        case Text():
            return forms.CharField(
                max_length=option.longest, initial=option.default, widget=forms.Textarea(attrs={"rows": 2}), **shared
            )
