"""What people say to import weights, and of those that are here."""

from urllib.parse import urlencode

from django import forms


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


class TokenForm(forms.Form):
    token = forms.CharField(
        max_length=300, label="Hub token",
        widget=forms.PasswordInput(attrs={"autocomplete": "off", "placeholder": "hf_…"}),
        help_text="Write-only: it is kept encrypted and never shown. A token that may read is enough.",
    )  # fmt: skip
