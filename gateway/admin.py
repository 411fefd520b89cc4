"""Django's admin for what the gateway keeps. The log and stored answers are not to be changed by hand."""

from django.contrib import admin
from unfold.admin import ModelAdmin, TabularInline

from gateway.models import Alias, AliasTarget, Limits


class TargetInline(TabularInline):
    model = AliasTarget
    extra = 0


@admin.register(Alias)
class AliasAdmin(ModelAdmin):
    list_display = ["__str__", "spills", "updated_at"]
    list_select_related = ["team"]
    list_filter = ["spills"]
    search_fields = ["name", "team__slug"]
    autocomplete_fields = ["team"]
    inlines = [TargetInline]


@admin.register(Limits)
class LimitsAdmin(ModelAdmin):
    list_display = ["team", "api_key", "requests_per_minute", "tokens_per_minute", "concurrency"]
    list_select_related = ["team", "api_key"]
    search_fields = ["team__slug", "api_key__name", "api_key__prefix"]
    autocomplete_fields = ["team", "api_key"]
