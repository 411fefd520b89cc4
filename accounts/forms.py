"""What people fill in about teams and keys."""

from datetime import date
from typing import Any
from zoneinfo import available_timezones

from django import forms
from django.utils import timezone

from accounts.models import Team


class TeamForm(forms.ModelForm):
    class Meta:
        model = Team
        fields = ["name", "time_zone"]
        labels = {"time_zone": "Time zone"}
        help_texts = {"time_zone": "An IANA name such as Europe/Berlin. The days of a bill begin in it."}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["time_zone"].widget.attrs["list"] = "time-zones"

    def clean_time_zone(self) -> str:
        zone: str = self.cleaned_data["time_zone"]
        if zone not in available_timezones():
            raise forms.ValidationError(f"{zone} is no IANA time zone; write it like Europe/Berlin or UTC.")
        return zone


class KeyForm(forms.Form):
    name = forms.CharField(max_length=80, help_text="Where it will be used: laptop, ci, support-bot ...")
    expires_on = forms.DateField(
        required=False, widget=forms.DateInput(attrs={"type": "date"}), help_text="Empty: it does not expire."
    )

    def clean_expires_on(self) -> date | None:
        day: date | None = self.cleaned_data["expires_on"]
        if day and day <= timezone.now().date():
            raise forms.ValidationError("Choose a day after today.")
        return day
