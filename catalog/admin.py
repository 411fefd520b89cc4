"""Django's admin for providers, models, offers and hardware. A provider's key can be set and tested, never read."""

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from unfold.admin import ModelAdmin, StackedInline
from unfold.decorators import action
from unfold.widgets import UnfoldAdminPasswordWidget, UnfoldAdminTextInputWidget

from accounts import audit, sealing
from billing import price_imports
from billing.admin import ask, may
from billing.errors import BadPrice
from catalog import price_names, providers
from catalog.licensing.models import LicenceText
from catalog.models import Hardware, Licence, Model, Offer, Provider


class ProviderForm(forms.ModelForm):  # type: ignore[type-arg]
    new_key = forms.CharField(
        required=False, label="New key", max_length=4000, strip=True,
        widget=UnfoldAdminPasswordWidget(attrs={"autocomplete": "new-password"}),
        help_text="Write-only: it is kept encrypted and never shown. Empty keeps the one that is set.",
    )  # fmt: skip

    class Meta:
        model = Provider
        fields = ["slug", "name", "wire", "base_url"]

    def clean(self) -> dict[str, Any]:
        given = super().clean() or {}
        url = given.get("base_url")
        if given.get("wire") != Provider.Wire.PLATFORM:
            if not url:
                raise forms.ValidationError({"base_url": "Where is it? https://api.example.com/v1"})
            try:
                providers.check_address(url)
            except providers.BadAddress as error:
                raise forms.ValidationError({"base_url": str(error)}) from error
        return given


@admin.register(Provider)
class ProviderAdmin(ModelAdmin):
    form = ProviderForm
    list_display = ["name", "wire", "base_url", "has_key", "offer_count"]
    list_filter = ["wire"]
    search_fields = ["slug", "name"]
    actions_detail = ["test_this_provider", "forget_the_key"]
    actions = ["test_these"]

    @admin.display(boolean=True, description="Key set")
    def has_key(self, row: Provider) -> bool:
        return bool(row.sealed_key)

    @admin.display(description="Offers")
    def offer_count(self, row: Provider) -> int:
        return row.offers.count()

    def save_model(self, request: HttpRequest, obj: Provider, form: Any, change: bool) -> None:
        if key := form.cleaned_data.get("new_key"):
            before, obj.sealed_key = bool(obj.sealed_key), sealing.seal(key)
            audit.record(
                None, actor=str(request.user), verb="set the key of the provider", subject=obj.slug,
                before={"has a key": before}, after={"has a key": True},
            )  # fmt: skip
        super().save_model(request, obj, form, change)

    @action(description="Test this provider", url_path="test")
    def test_this_provider(self, request: HttpRequest, object_id: str) -> HttpResponse:
        self._test(request, Provider.objects.get(pk=object_id))
        return redirect(reverse("admin:catalog_provider_change", args=(object_id,)))

    @action(description="Forget the key", url_path="forget")
    def forget_the_key(self, request: HttpRequest, object_id: str) -> HttpResponse:
        Provider.objects.filter(pk=object_id).update(sealed_key="")
        audit.record(
            None, actor=str(request.user), verb="forgot the key of the provider", subject=object_id,
            before={"has a key": True}, after={"has a key": False},
        )  # fmt: skip
        messages.success(request, "The key is gone. Its models can be seen, not called.")
        return redirect(reverse("admin:catalog_provider_change", args=(object_id,)))

    @admin.action(description="Test these providers")
    def test_these(self, request: HttpRequest, queryset: "QuerySet[Provider]") -> None:
        for row in queryset:
            self._test(request, row)

    def _test(self, request: HttpRequest, row: Provider) -> None:
        verdict = providers.probe(row)
        tell = messages.success if verdict.works else messages.error
        tell(request, f"{row.name}: {verdict.text}")


@admin.register(Model)
class ModelsAdmin(ModelAdmin):
    list_display = ["name", "slug", "publisher", "openness", "licence", "context_tokens", "team"]
    list_filter = ["openness", "publisher"]
    search_fields = ["slug", "name", "publisher"]
    list_select_related = ["licence", "team"]


class PriceFileForm(forms.Form):
    file = forms.FileField(label="LiteLLM's JSON file of prices")
    read_on = forms.DateField(
        label="The file's day: from then on the drafts would hold",
        widget=UnfoldAdminTextInputWidget(attrs={"type": "date"}),
    )


@admin.register(Offer)
class OfferAdmin(ModelAdmin):
    actions_list = ["import_prices"]
    list_display = ["model", "path", "provider", "upstream_model", "engine"]
    list_filter = ["path", "provider"]
    search_fields = ["model__slug", "upstream_model"]
    list_select_related = ["model", "provider"]
    autocomplete_fields = ["model", "provider"]

    @action(description="Import prices as drafts", url_path="import-prices")
    def import_prices(self, request: HttpRequest) -> HttpResponse:
        """Nothing is in force by it: drafts are reviewed and made active one by one."""
        may(request, "billing.add_pricedraft")
        form, outcome = PriceFileForm(request.POST or None, request.FILES or None), None
        if request.method == "POST" and form.is_valid():
            file, read_on = form.cleaned_data["file"], form.cleaned_data["read_on"]
            source = f"LiteLLM {file.name}"
            try:
                outcome = price_imports.draft_all(
                    price_imports.read_litellm(file.read()), skus=price_names.skus(), batch=f"{source} {read_on}",
                    source=source, read_on=read_on, actor=str(request.user),
                )  # fmt: skip
            except BadPrice as error:
                form.add_error("file", str(error))
        context = {
            "form": form,
            "outcome": outcome,
            "title": "Import prices as drafts",
            "explanation": "Prices of the models hosted here, as drafts. What was entered is never overwritten.",
            "button": "Draft them",
            "back": reverse("admin:billing_pricedraft_changelist"),
        }
        return ask(self, request, context)


@admin.register(Hardware)
class HardwareAdmin(ModelAdmin):
    list_display = ["name", "slug", "memory_gib", "gpus", "backend", "capacity"]
    list_filter = ["backend", "gpus"]
    search_fields = ["slug", "name"]


class LicenceTextInline(StackedInline):
    """What teams agree to; with another text they are asked again."""

    model = LicenceText
    verbose_name_plural = "its whole text"


@admin.register(Licence)
class LicenceAdmin(ModelAdmin):
    inlines = [LicenceTextInline]
    list_display = ["name", "slug", "spdx_id", "commercial_use"]
    list_filter = ["commercial_use"]
    search_fields = ["slug", "name"]
