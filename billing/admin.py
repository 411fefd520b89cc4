"""Django's admin for money: prices from draft to active, discounts, credits, corrections and re-ratings. The ledger and
the prices in force are to be looked at; whatever changes a bill is a row that is added."""

from collections.abc import Callable
from decimal import Decimal
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from unfold.admin import ModelAdmin, TabularInline
from unfold.decorators import action
from unfold.widgets import UnfoldAdminDecimalFieldWidget, UnfoldAdminSelectWidget, UnfoldAdminTextInputWidget

from accounts import audit
from billing import corrections, credits, money, price_book, rating, rerating
from billing.errors import BadCorrection, BadPrice, BadQuantity
from billing.meters import CREDIT, METERS
from billing.models import CreditGrant, Discount, LedgerEntry, Price, PriceDraft, RerateSum, Rerating, UnclosedMonth

QUOTES = [
    (meter.name, f"{meter.label} ({meter.name}), USD for 1 {meter.quoted}")
    for meter in METERS.values()
    if meter != CREDIT
]


class _Kept:
    """Rows that nobody changes or deletes here."""

    def has_change_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return False


class _Shown(_Kept):
    def has_add_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return False


@admin.register(Price)
class PriceAdmin(_Shown, ModelAdmin):
    list_display = ["priced", "quoted", "above_tokens", "begins", "read_at"]
    list_filter = ["meter"]
    search_fields = ["sku", "source"]

    @admin.display(description="SKU", ordering="sku")
    def priced(self, row: Price) -> str:
        return row.sku

    @admin.display(description="Price", ordering="amount")
    def quoted(self, row: Price) -> str:
        return _quoted(row)

    @admin.display(description="Valid from", ordering="valid_from")
    def begins(self, row: Price) -> str:
        return f"{row.valid_from:%Y-%m-%d %H:%M}"

    @admin.display(description="Source", ordering="source")
    def read_at(self, row: Price) -> str:
        return f"{row.source}, {row.source_date}"


@admin.register(UnclosedMonth)
class UnclosedMonthAdmin(_Shown, ModelAdmin):
    """Why a team has no invoice yet; each hour's run tries again."""

    list_display = ["__str__", "reason", "since", "tried_at"]
    list_select_related = ["team"]
    search_fields = ["team__slug", "reason"]


class DraftForm(forms.ModelForm):  # type: ignore[type-arg]
    """A price as people quote it; the price of one unit is worked out exactly."""

    meter = forms.ChoiceField(choices=QUOTES, widget=UnfoldAdminSelectWidget)
    quoted = forms.DecimalField(
        label="USD as it is quoted", min_value=Decimal(0), max_digits=24, decimal_places=12,
        widget=UnfoldAdminDecimalFieldWidget,
        help_text="For a million tokens, an hour, one request: as the meter says.",
    )  # fmt: skip
    jump_confirmed = forms.BooleanField(
        required=False, label="A thousandfold jump is meant",
        help_text="Only needed when the price differs so much from the one in force, or a first one from its list, "
        "its other classes or all other skus; an example is shown then.",
    )  # fmt: skip

    class Meta:
        model = PriceDraft
        fields = ["sku", "meter", "above_tokens", "valid_from", "source", "source_date", "jump_confirmed"]

    field_order = ["sku", "meter", "above_tokens", "quoted", "valid_from", "source", "source_date", "jump_confirmed"]

    def clean(self) -> dict[str, Any]:
        given = super().clean() or {}
        if self.errors:
            return given
        try:
            amount = rating.EXACT.divide(given["quoted"], Decimal(METERS[given["meter"]].per))
        except ArithmeticError as error:
            raise forms.ValidationError({"quoted": "One unit of that has no exact price."}) from error
        try:
            price_book.check(
                given["sku"], meter=given["meter"], amount=amount, at=given["valid_from"],
                above_tokens=given["above_tokens"], jump_confirmed=given["jump_confirmed"],
            )  # fmt: skip
        except BadPrice as error:
            raise forms.ValidationError({"quoted": str(error)}) from error
        self.instance.amount = amount
        return given


@admin.register(PriceDraft)
class PriceDraftAdmin(ModelAdmin):
    form = DraftForm
    list_display = ["sku", "meter", "above_tokens", "quoted_now", "valid_from", "state", "source", "example"]
    list_filter = ["state", "batch", "meter"]
    search_fields = ["sku", "source"]
    actions = ["review", "activate", "reject"]

    def has_change_permission(self, request: HttpRequest, obj: object = None) -> bool:
        # A draft that is wrong is rejected, and another one made.
        return obj is None and super().has_change_permission(request)

    def has_delete_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return False

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        fresh = {} if obj is None else {"form": forms.ModelForm}
        return super().get_form(request, obj, change, **fresh | kwargs)

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        shown = ("amount", "example", "state", "drafted_by", "reviewed_by", "decided_by", "decided_at")
        return DraftForm.field_order if obj is None else [*DraftForm.Meta.fields, *shown]

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return [] if obj is None else self.get_fields(request, obj)

    @admin.display(description="Quoted")
    def quoted_now(self, row: PriceDraft) -> str:
        return _quoted(row)

    @admin.display(description="Worked example")
    def example(self, row: PriceDraft) -> str:
        return str(price_book.example_of(row))

    def save_model(self, request: HttpRequest, obj: PriceDraft, form: Any, change: bool) -> None:
        obj.drafted_by = str(request.user)
        super().save_model(request, obj, form, change)
        messages.info(request, str(price_book.example_of(obj)))

    @admin.action(description="Review: they were compared with their source")
    def review(self, request: HttpRequest, rows: "QuerySet[PriceDraft]") -> None:
        self._each(request, rows, price_book.review, "reviewed")

    @admin.action(description="Make active: they are charged from their moment on")
    def activate(self, request: HttpRequest, rows: "QuerySet[PriceDraft]") -> None:
        self._each(request, rows, price_book.activate, "active")

    @admin.action(description="Reject")
    def reject(self, request: HttpRequest, rows: "QuerySet[PriceDraft]") -> None:
        self._each(request, rows, price_book.reject, "rejected")

    def _each(self, request: HttpRequest, rows: Any, do: Callable[..., object], done: str) -> None:
        count = 0
        for row in rows:
            try:
                do(row, actor=str(request.user))
                count += 1
            except BadPrice as error:
                messages.error(request, f"{row}: {error}")
        if count:
            messages.success(request, f"{count} {done}.")


@admin.register(Discount)
class DiscountAdmin(_Kept, ModelAdmin):
    list_display = ["team", "pattern", "percent", "valid_from", "reason", "agreed_by"]
    list_select_related = ["team"]
    autocomplete_fields = ["team"]
    fields = ["team", "pattern", "percent", "valid_from", "reason"]

    def save_model(self, request: HttpRequest, obj: Discount, form: Any, change: bool) -> None:
        obj.agreed_by = str(request.user)
        earlier = Discount.objects.filter(team=obj.team, pattern=obj.pattern, valid_from__lte=obj.valid_from)
        before = earlier.exclude(pk=obj.pk).order_by("-valid_from").first()
        super().save_model(request, obj, form, change)
        audit.record(
            obj.team, actor=str(request.user), verb="agreed the discount", subject=str(obj),
            before={"percent": f"{before.percent:f}"} if before else {},
            after={
                "percent": f"{obj.percent:f}",
                "valid from": obj.valid_from.isoformat(),
                "reason": obj.reason,
            },
        )  # fmt: skip


@admin.register(CreditGrant)
class CreditGrantAdmin(_Kept, ModelAdmin):
    list_display = ["team", "name", "usd", "starts_at", "expires_at", "granted_by"]
    list_select_related = ["team"]
    autocomplete_fields = ["team"]
    fields = ["team", "name", "usd", "starts_at", "expires_at"]

    def save_model(self, request: HttpRequest, obj: CreditGrant, form: Any, change: bool) -> None:
        made = credits.grant(
            obj.team, name=obj.name, usd=obj.usd, actor=str(request.user), starts_at=obj.starts_at,
            expires_at=obj.expires_at,
        )  # fmt: skip
        obj.pk = made.pk


class CorrectionForm(forms.Form):
    quantity = forms.DecimalField(
        min_value=Decimal(0), max_digits=24, decimal_places=6, widget=UnfoldAdminDecimalFieldWidget
    )
    unit_price = forms.DecimalField(
        label="USD for one unit", min_value=Decimal(0), max_digits=24, decimal_places=12,
        widget=UnfoldAdminDecimalFieldWidget,
    )  # fmt: skip
    reason = forms.CharField(
        max_length=200, help_text="The team reads it on its bill.", widget=UnfoldAdminTextInputWidget
    )


@admin.register(LedgerEntry)
class LedgerEntryAdmin(_Shown, ModelAdmin):
    list_display = ["id", "team", "at", "kind", "source", "meter", "quantity", "unit_price", "amount", "reason"]
    list_filter = ["kind", "meter"]
    list_select_related = ["team"]
    search_fields = ["source", "team__slug", "=id", "=event__id"]
    show_full_result_count = False
    actions_detail = ["correct"]

    @action(description="Correct this row", url_path="correct")
    def correct(self, request: HttpRequest, object_id: str) -> HttpResponse:
        may(request, "billing.change_ledgerentry")
        entry = get_object_or_404(LedgerEntry.objects.select_related("team"), pk=object_id)
        stands = corrections.standing(entry)
        initial = {"quantity": Decimal(money.plain(entry.quantity)), "unit_price": _plain_price(entry)}
        form = CorrectionForm(request.POST or None, initial=initial)
        if request.method == "POST" and form.is_valid():
            try:
                rows = corrections.correct(entry, actor=str(request.user), **form.cleaned_data)
            except (BadCorrection, BadQuantity) as error:
                form.add_error(None, str(error))
            else:
                messages.success(request, f"{len(rows)} rows were added." if rows else "That is what it is charged as.")
                return redirect(reverse("admin:billing_ledgerentry_change", args=(object_id,)))
        context = {
            "form": form,
            "stands": [map(money.plain, (line.quantity, line.unit_price, line.amount)) for line in stands],
            "title": f"Correct row {entry.pk}: {entry}",
            "explanation": "Rows are added that take back what stands and charge this instead; none is changed.",
            "button": "Add the correction",
            "back": reverse("admin:billing_ledgerentry_change", args=(object_id,)),
        }
        return ask(self, request, context)


def _plain_price(entry: LedgerEntry) -> Decimal:
    """Without the idle zeros that 18 decimals have."""
    return Decimal(money.plain(entry.unit_price))


class SumInline(_Shown, TabularInline):
    model = RerateSum
    extra = 0
    fields = ["team", "meter", "events", "quantity", "was", "becomes", "change"]
    readonly_fields = fields

    @admin.display(description="Charged in USD")
    def was(self, row: RerateSum) -> str:
        return money.plain(row.charged)

    @admin.display(description="Right in USD")
    def becomes(self, row: RerateSum) -> str:
        return money.plain(row.right)

    @admin.display(description="Difference in USD")
    def change(self, row: RerateSum) -> str:
        return money.plain(rating.EXACT.subtract(row.right, row.charged))


@admin.register(Rerating)
class ReratingAdmin(_Kept, ModelAdmin):
    fields = ["sku", "team", "since", "until", "reason"]
    list_display = ["sku", "team", "since", "until", "reason", "state", "drafted_by", "decided_by"]
    list_select_related = ["team"]
    list_filter = ["state"]
    autocomplete_fields = ["team"]
    inlines = [SumInline]
    actions_detail = ["apply_it", "reject_it"]

    def get_inlines(self, request: HttpRequest, obj: Any) -> Any:
        return [SumInline] if obj else []

    def add_view(self, request: HttpRequest, form_url: str = "", extra_context: Any = None) -> HttpResponse:
        """Drafting works out the sums, so it is done here and not by saving a row."""
        may(request, "billing.add_rerating")
        form = self.get_form(request)(request.POST or None)
        if request.method == "POST" and form.is_valid():
            try:
                made = rerating.draft(actor=str(request.user), **form.cleaned_data)
            except BadCorrection as error:
                messages.error(request, str(error))
            else:
                messages.success(request, "Drafted. Look at the sums; another admin applies it.")
                return redirect(reverse("admin:billing_rerating_change", args=(made.pk,)))
        return super().add_view(_reading(request), form_url, extra_context)

    @action(description="Apply: write the corrections", url_path="apply")
    def apply_it(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return self._decide(request, object_id, rerating.apply, "Applied: the corrections are in the ledger")

    @action(description="Reject", url_path="reject")
    def reject_it(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return self._decide(request, object_id, rerating.reject, "Rejected.")

    def _decide(self, request: HttpRequest, object_id: str, do: Callable[..., object], done: str) -> HttpResponse:
        may(request, "billing.change_rerating")
        row = get_object_or_404(Rerating, pk=object_id)
        back = reverse("admin:billing_rerating_change", args=(object_id,))
        if request.method != "POST":
            context = {
                "title": f"{done.split(':', maxsplit=1)[0].rstrip('.')}?",
                "explanation": f"{row}, drafted by {row.drafted_by}: {row.reason}",
                "button": "Yes, do it",
                "back": back,
            }
            return ask(self, request, context)
        try:
            do(row, actor=str(request.user))
            messages.success(request, done)
        except BadCorrection as error:
            messages.error(request, str(error))
        return redirect(back)


def may(request: HttpRequest, permission: str) -> None:
    """Unfold's actions ask for nothing but staff: raises PermissionDenied for who lacks this."""
    if not request.user.has_perm(permission):  # type: ignore[union-attr]
        raise PermissionDenied


def ask(page: Any, request: HttpRequest, context: dict[str, Any]) -> HttpResponse:
    """A question with a form, dressed as the administration's own pages."""
    site = {**page.admin_site.each_context(request), "opts": page.model._meta}
    return render(request, "admin/billing/ask.html", site | context)


def _reading(request: HttpRequest) -> HttpRequest:
    request.method = "GET"
    return request


def _quoted(row: Price | PriceDraft) -> str:
    """As people quote it: `$1.00 / M input tokens`."""
    unit = METERS[row.meter]
    return f"{money.dollars(rating.EXACT.multiply(row.amount, Decimal(unit.per)))} / {unit.quoted}"
