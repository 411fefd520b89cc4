"""What people fill in about teams and keys."""

from datetime import UTC, date, datetime, time
from typing import Any
from zoneinfo import ZoneInfo, available_timezones

from django import forms
from django.contrib.auth.password_validation import validate_password
from django.utils import timezone

from accounts import roles
from accounts.models import Membership, Team, User


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
    """A key's name and, if it has one, its last day. Days are those of the team's time zone."""

    name = forms.CharField(max_length=80, help_text="Where it will be used: laptop, ci, support-bot ...")
    last_day = forms.DateField(
        required=False, widget=forms.DateInput(attrs={"type": "date"}), help_text="Empty: it does not expire."
    )

    def __init__(self, *args: Any, time_zone: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._zone = ZoneInfo(time_zone if time_zone in available_timezones() else "UTC")
        self.fields["last_day"].help_text = f"It works until the end of that day in {self._zone}. Empty: for ever."

    def clean_last_day(self) -> date | None:
        day: date | None = self.cleaned_data["last_day"]
        if day and day < timezone.now().astimezone(self._zone).date():
            raise forms.ValidationError("That day is over: choose today or later.")
        return day

    @property
    def expires_at(self) -> datetime | None:
        """The last moment of the last day; None: it does not expire."""
        day: date | None = self.cleaned_data["last_day"]
        return datetime.combine(day, time.max, self._zone).astimezone(UTC) if day else None


class InvitationForm(forms.Form):
    """Whom to invite, and as what: of the roles that the one who invites may give."""

    email = forms.EmailField(label="E-mail address", max_length=254)
    role = forms.ChoiceField(widget=forms.RadioSelect)

    def __init__(self, *args: Any, by: Membership, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        choices = [(role.value, role.label) for role in roles.grantable(by)]
        self.fields["role"].choices = choices  # type: ignore[attr-defined]
        self.fields["email"].widget.attrs |= {"autocomplete": "off", "placeholder": "colleague@example.com"}


class JoinForm(forms.Form):
    """The password of a new account that an invitation makes."""

    password1 = forms.CharField(
        label="Choose a password", strip=False, widget=forms.PasswordInput(attrs={"autocomplete": "new-password"})
    )
    password2 = forms.CharField(
        label="The same again", strip=False, widget=forms.PasswordInput(attrs={"autocomplete": "new-password"})
    )

    def __init__(self, *args: Any, email: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._email = email

    def clean_password1(self) -> str:
        password: str = self.cleaned_data["password1"]
        validate_password(password, User(email=self._email))
        return password

    def clean(self) -> dict[str, Any]:
        given = self.cleaned_data
        if given.get("password1") and given.get("password2") and given["password1"] != given["password2"]:
            self.add_error("password2", "That is not the same password.")
        return given
