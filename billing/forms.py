"""What people fill in about money."""

from django import forms
from django.core.exceptions import ValidationError
from django.core.validators import validate_email


class InvoiceSettingsForm(forms.Form):
    address = forms.CharField(
        label="Billing address",
        required=False,
        max_length=600,
        widget=forms.Textarea(attrs={"rows": 4}),
        help_text="Printed on the invoices from now on: company, street, tax number.",
    )
    emails = forms.CharField(
        label="Mail each invoice to",
        required=False,
        max_length=1000,
        help_text="Addresses with commas between them. Empty: it is not mailed.",
    )

    def clean_emails(self) -> list[str]:
        found = [text.strip() for text in self.cleaned_data["emails"].split(",") if text.strip()]
        for address in found:
            try:
                validate_email(address)
            except ValidationError as error:
                raise ValidationError(f"{address} is no e-mail address.") from error
        if len(found) > 10:
            raise ValidationError("At most 10 addresses.")
        return found


class ProviderFileForm(forms.Form):
    file = forms.FileField(
        label="The provider's file",
        help_text="OpenAI's or Anthropic's usage export as CSV, or the columns date, model, meter, quantity, cost.",
    )
    names = forms.CharField(
        label="Names that differ",
        required=False,
        max_length=4000,
        widget=forms.Textarea(attrs={"rows": 3}),
        help_text="One a line, theirs = ours. Case, dots and dates are left aside anyway.",
    )

    def clean_names(self) -> dict[str, str]:
        found = {}
        for line in filter(str.strip, self.cleaned_data["names"].splitlines()):
            theirs, equals, ours = (part.strip() for part in line.partition("="))
            if not (theirs and equals and ours):
                raise ValidationError(f"{line[:80]!r}: write theirs = ours.")
            found[theirs] = ours
        return found
