"""What people fill in about keys. Days are those of the team's time zone."""

from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo, available_timezones

from django import forms
from django.utils import timezone

from accounts import keys
from accounts.models import Scope

LASTS = {"": "for ever", "7": "7 days", "30": "30 days", "90": "90 days", "365": "a year"}
OVERLAPS = {"0": "no overlap: it dies now", "1": "1 hour", "24": "a day", "168": "7 days", "720": "30 days"}


class _Expiring(forms.Form):
    """How long a key works: a number of days, or until a day that is named; the day counts if both are given."""

    lasts = forms.ChoiceField(label="Works for", choices=list(LASTS.items()), required=False)
    last_day = forms.DateField(
        label="or until the end of", required=False, widget=forms.DateInput(attrs={"type": "date"})
    )

    def __init__(self, *args: Any, time_zone: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._zone = ZoneInfo(time_zone if time_zone in available_timezones() else "UTC")
        self.fields["last_day"].help_text = f"A day in {self._zone}; instead of the choice before."

    def clean_last_day(self) -> date | None:
        day: date | None = self.cleaned_data["last_day"]
        if day and day < self._today():
            raise forms.ValidationError("That day is over: choose today or later.")
        if day and day.year > 2999:
            raise forms.ValidationError("That is very far off: leave it empty, and it works for ever.")
        return day

    @property
    def expires_at(self) -> datetime | None:
        """The last moment of the last day; None: it does not expire."""
        days = self.cleaned_data["lasts"]
        day: date | None = self.cleaned_data["last_day"]
        if day is None and days:
            day = self._today() + timedelta(days=int(days))
        return datetime.combine(day, time.max, self._zone).astimezone(UTC) if day else None

    def _today(self) -> date:
        return timezone.now().astimezone(self._zone).date()


class KeySettingsForm(forms.Form):
    """What may be changed about a key that is there."""

    name = forms.CharField(max_length=80, help_text="Where it will be used: laptop, ci, support-bot ...")
    scopes = forms.MultipleChoiceField(
        choices=Scope.choices,
        widget=forms.CheckboxSelectMultiple,
        error_messages={"required": "Choose at least one: a key without a scope opens nothing."},
    )
    tag = forms.CharField(
        max_length=keys.LONGEST_TAG,
        required=False,
        help_text="A label on the bill for its calls that bring none of their own: a project, a customer ...",
    )

    def clean_tag(self) -> str:
        tag: str = self.cleaned_data["tag"].strip()
        if not keys.is_tag(tag):
            raise forms.ValidationError("Only characters that can be printed.")
        return tag

    @property
    def settings(self) -> dict[str, Any]:
        return {
            "name": self.cleaned_data["name"],
            "scopes": self.cleaned_data["scopes"],
            "tag": self.cleaned_data["tag"],
        }


class KeyForm(_Expiring, KeySettingsForm):
    """A new key."""

    field_order = ["name", "scopes", "lasts", "last_day", "tag"]


class RotateForm(_Expiring):
    """A new secret for a key: how long the one before still works, and, if wished, another last day."""

    overlap = forms.ChoiceField(label="The secret that it has now works for another", choices=list(OVERLAPS.items()))
    lasts = forms.ChoiceField(
        label="The key itself works for",
        choices=[("keep", "as long as before"), *LASTS.items()],
        required=False,
    )
    field_order = ["overlap", "lasts", "last_day"]

    @property
    def overlap_lasts(self) -> timedelta:
        return timedelta(hours=int(self.cleaned_data["overlap"]))

    @property
    def fields_changed(self) -> dict[str, datetime | None]:
        """The key's new end, if it gets one."""
        if self.cleaned_data["lasts"] == "keep" and not self.cleaned_data["last_day"]:
            return {}
        return {"expires_at": self.expires_at}
