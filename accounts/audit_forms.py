"""What of the audit trail is asked for."""

from django import forms

from accounts.trail import Asked


class AuditForm(forms.Form):
    actor = forms.CharField(label="Who", max_length=254, required=False)
    verb = forms.CharField(label="Did what", max_length=64, required=False)
    subject = forms.CharField(label="To what", max_length=200, required=False)
    since = forms.DateField(label="From", required=False, widget=forms.DateInput(attrs={"type": "date"}))
    until = forms.DateField(label="To", required=False, widget=forms.DateInput(attrs={"type": "date"}))

    @property
    def asked(self) -> Asked:
        return Asked(**self.cleaned_data)
