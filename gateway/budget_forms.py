"""What people fill in about budgets and who hears of them. What a budget may be about comes from every floor."""

from datetime import timedelta
from decimal import Decimal
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.utils import timezone

from accounts.models import Team
from billing import periods, webhooks
from billing.errors import BadAddress
from billing.models import AlertSettings, Budget, Counter
from deployments.models import Deployment
from gateway.models import Alias

MOST_PERCENT, MOST_ADDRESSES = 500, 20
FIXED = Budget.Period.FIXED
_ONES = (Budget.Scope.KEY, Budget.Scope.DEPLOYMENT, Budget.Scope.ALIAS)


def subjects(team: Team) -> dict[str, dict[str, str]]:
    """scope -> subject -> what people call it; also what is gone, if it has cost something."""
    keys = {str(key.pk): str(key) for key in team.api_keys.filter(revoked_at=None)}
    used = Counter.objects.filter(team=team, period__startswith="2", scope=Budget.Scope.DEPLOYMENT)
    live = Deployment.objects.unsettled().of(team).values_list("name", flat=True)
    deployments = sorted({*live, *used.values_list("subject", flat=True)})
    return {
        Budget.Scope.TEAM: {"": "The whole team"},
        Budget.Scope.KEY: keys,
        Budget.Scope.DEPLOYMENT: {name: f"{team.slug}/{name}" for name in deployments},
        Budget.Scope.ALIAS: {str(row): str(row) for row in Alias.objects.filter(team=team).select_related("team")},
    }


class BudgetForm(forms.Form):
    """A new budget, or (with `budget`) another amount for one: what it is about and its window never change."""

    about = forms.ChoiceField(label="What it is about")
    period = forms.ChoiceField(choices=Budget.Period.choices, label="How often", initial=Budget.Period.MONTHLY)
    starts = forms.DateField(
        required=False, label="From", widget=forms.DateInput(attrs={"type": "date"}),
        help_text="Only for a budget that is not monthly. Empty: from now on; it counts what begins after it was made.",
    )  # fmt: skip
    ends = forms.DateField(
        required=False, label="To", widget=forms.DateInput(attrs={"type": "date"}), help_text="The last day, included."
    )
    usd = forms.DecimalField(label="Amount in USD", min_value=Decimal("0.01"), max_digits=14, decimal_places=2)
    hard = forms.BooleanField(
        required=False, initial=True, label="Hard: refuse calls, and put deployments to sleep, before it is passed"
    )
    alert_percents = forms.CharField(
        required=False, initial="50, 80, 100", max_length=60, label="Tell when so many percent are spent"
    )

    def __init__(self, *args: Any, team: Team, budget: Budget | None = None, **kwargs: Any) -> None:
        self.team, self.budget = team, budget
        if budget is not None:
            kwargs["initial"] = {
                "usd": budget.usd,
                "hard": budget.hard,
                "alert_percents": ", ".join(map(str, budget.alert_percents)),
            } | kwargs.get("initial", {})
        super().__init__(*args, **kwargs)
        self.names = subjects(team)
        if budget is not None:
            for name in ("about", "period", "starts", "ends"):
                del self.fields[name]
            return
        groups = {scope: [(f"{scope}:{one}", label) for one, label in self.names[scope].items()] for scope in _ONES}
        chosen: list[Any] = [(scope.label, choices) for scope, choices in groups.items() if choices]
        self.fields["about"].choices = [("team:", "The whole team"), *chosen]  # type: ignore[attr-defined]

    def clean_alert_percents(self) -> list[int]:
        words = self.cleaned_data["alert_percents"].replace(",", " ").replace("%", " ").split()
        if not all(word.isascii() and word.isdigit() and 1 <= int(word) <= MOST_PERCENT for word in words):
            raise ValidationError(f"Write whole numbers from 1 to {MOST_PERCENT}, such as 50, 80, 100.")
        return sorted({int(word) for word in words})

    def clean(self) -> dict[str, Any]:
        given = super().clean() or {}
        if self.budget is not None or self.errors:
            return given
        scope, _, subject = given["about"].partition(":")
        given["scope"], given["subject"] = scope, subject
        if given["period"] == FIXED:
            given |= self._window(given)
        elif Budget.objects.filter(team=self.team, scope=scope, subject=subject, period=given["period"]).exists():
            raise ValidationError({"about": "It has a monthly budget already: change that one."})
        return given

    def save(self) -> Budget:
        given = self.cleaned_data
        chosen = {name: given[name] for name in ("usd", "hard", "alert_percents")}
        if self.budget is not None:
            Budget.objects.filter(pk=self.budget.pk).update(**chosen, updated_at=timezone.now())
            self.budget.refresh_from_db()
            return self.budget
        scope, subject = given["scope"], given["subject"]
        label = "" if scope == Budget.Scope.TEAM else self.names[scope][subject]
        window = {name: given.get(name) for name in ("starts_at", "ends_at")}
        return Budget.objects.create(
            team=self.team, scope=scope, subject=subject, label=label, period=given["period"], **window, **chosen
        )

    def _window(self, given: dict[str, Any]) -> dict[str, Any]:
        """Days in the team's time zone. What began before the budget was made is not counted: it can't start then."""
        if not given.get("ends"):
            raise ValidationError({"ends": "Say until when it lasts."})
        now, zone = timezone.now(), self.team.time_zone
        ends_at = periods.start_of_day(given["ends"] + timedelta(days=1), zone)
        starts_at = max(periods.start_of_day(given["starts"], zone), now) if given.get("starts") else now
        if ends_at <= starts_at:
            raise ValidationError({"ends": "It ends before it begins, or is over already."})
        return {"starts_at": starts_at, "ends_at": ends_at}


class AlertsForm(forms.Form):
    """Who hears of the budgets."""

    emails = forms.CharField(
        required=False, max_length=2000, label="E-mail addresses", widget=forms.Textarea(attrs={"rows": 2}),
        help_text="One a line. Empty: the team's owners, admins and billing members.",
    )  # fmt: skip
    webhook_url = forms.CharField(
        required=False, max_length=500, label="Webhook address",
        widget=forms.URLInput(attrs={"placeholder": "https://example.com/hooks/budget"}),
        help_text="Gets a signed JSON message. Empty: none.",
    )  # fmt: skip

    def clean_emails(self) -> list[str]:
        addresses = list(dict.fromkeys(self.cleaned_data["emails"].replace(",", " ").split()))
        for address in addresses:
            validate_email(address)
        if len(addresses) > MOST_ADDRESSES:
            raise ValidationError(f"At most {MOST_ADDRESSES} addresses.")
        return addresses

    def clean_webhook_url(self) -> str:
        url: str = self.cleaned_data["webhook_url"].strip()
        if url:
            try:
                webhooks.check(url)
            except BadAddress as error:
                raise ValidationError(str(error)) from error
        return url

    @classmethod
    def of(cls, settings: AlertSettings | None, data: Any = None) -> "AlertsForm":
        initial = {
            "emails": "\n".join(settings.emails) if settings else "",
            "webhook_url": settings.webhook_url if settings else "",
        }
        return cls(data, initial=initial)
