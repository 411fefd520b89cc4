"""What people fill in about teams and invitations."""

from typing import Any
from zoneinfo import available_timezones

from django import forms
from django.contrib.auth.password_validation import validate_password

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
