"""Django's admin for accounts. Keys show no digest; the audit trail can only be read."""

from django.contrib import admin
from django.http import HttpRequest
from unfold.admin import ModelAdmin

from accounts.models import ApiKey, AuditEvent, Membership, Team, User


class _ReadOnly(ModelAdmin):
    def has_add_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return False


@admin.register(User)
class UserAdmin(ModelAdmin):
    list_display = ["email", "is_active", "is_staff", "last_login"]
    search_fields = ["email"]
    exclude = ["password"]


@admin.register(Team)
class TeamAdmin(ModelAdmin):
    list_display = ["slug", "name", "time_zone", "is_platform"]
    search_fields = ["slug", "name"]


@admin.register(Membership)
class MembershipAdmin(ModelAdmin):
    list_display = ["team", "user", "role"]
    list_filter = ["role"]


@admin.register(ApiKey)
class ApiKeyAdmin(_ReadOnly):
    list_display = ["team", "name", "prefix", "created_at", "last_used_at", "revoked_at"]
    exclude = ["digest"]


@admin.register(AuditEvent)
class AuditEventAdmin(_ReadOnly):
    list_display = ["at", "team", "actor", "verb", "subject"]
