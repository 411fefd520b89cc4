"""What of the audit trail is asked for."""

from datetime import date

from django import forms
from django.core.validators import MaxValueValidator, MinValueValidator

from accounts.trail import Asked

# Days that have a day before and after in every time zone.
WITHIN = [MinValueValidator(date(2000, 1, 1)), MaxValueValidator(date(2999, 12, 31))]


class AuditForm(forms.Form):
    actor = forms.CharField(label="Who", max_length=254, required=False)
    verb = forms.CharField(label="Did what", max_length=64, required=False)
    subject = forms.CharField(label="To what", max_length=200, required=False)
    since = forms.DateField(
        label="From", required=False, widget=forms.DateInput(attrs={"type": "date"}), validators=WITHIN
    )
    until = forms.DateField(
        label="To", required=False, widget=forms.DateInput(attrs={"type": "date"}), validators=WITHIN
    )

    @property
    def asked(self) -> Asked:
        return Asked(**self.cleaned_data)
