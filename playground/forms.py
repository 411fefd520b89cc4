"""What people save, checked before it is kept."""

from typing import Any

from django import forms

from playground.prompts import Content

LONGEST_TEXT = 200_000
# Of chat/completions: what a saved prompt may carry.
PARAMETERS = frozenset(
    {
        "temperature", "top_p", "max_tokens", "stop", "seed", "presence_penalty", "frequency_penalty",
        "reasoning_effort", "response_format", "tools", "tool_choice",
    }
)  # fmt: skip


class PromptForm(forms.Form):
    """One version of a prompt; a name and whether it is shared for a new one."""

    name = forms.CharField(max_length=80)
    is_shared = forms.BooleanField(required=False)
    system = forms.CharField(max_length=LONGEST_TEXT, required=False, strip=False)
    message = forms.CharField(max_length=LONGEST_TEXT, required=False, strip=False)
    parameters = forms.JSONField(required=False)
    tried_with = forms.JSONField(required=False)
    note = forms.CharField(max_length=200, required=False)

    def clean_parameters(self) -> dict[str, Any]:
        given = self.cleaned_data["parameters"] or {}
        if not isinstance(given, dict):
            raise forms.ValidationError("Parameters are an object.")
        if unknown := sorted(set(given) - PARAMETERS):
            raise forms.ValidationError(f"Not parameters of a prompt: {', '.join(unknown)[:200]}.")
        return given

    def clean_tried_with(self) -> list[str]:
        given = self.cleaned_data["tried_with"] or []
        if not isinstance(given, list) or not all(isinstance(one, str) for one in given):
            raise forms.ValidationError("Models are a list of names.")
        return given[:4]

    def clean(self) -> dict[str, Any]:
        found = super().clean() or {}
        if not any(found.get(name) for name in ("system", "message", "parameters")):
            raise forms.ValidationError("There is nothing in it yet: write a system prompt or a message first.")
        return found

    @property
    def content(self) -> Content:
        found = self.cleaned_data
        return Content(**{name: found[name] for name in ("system", "message", "parameters", "tried_with", "note")})
