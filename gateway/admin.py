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
    inlines = [TargetInline]


@admin.register(Limits)
class LimitsAdmin(ModelAdmin):
    list_display = ["team", "api_key", "requests_per_minute", "tokens_per_minute", "concurrency"]
    list_select_related = ["team", "api_key"]
