"""Django's admin for accounts. Keys show no digest and can only be revoked; the audit trail can only be read."""

from django.contrib import admin, messages
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.contrib.auth.models import Group
from django.db.models import QuerySet
from django.http import HttpRequest
from unfold.admin import ModelAdmin
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm

from accounts import audit, keys
from accounts.models import ApiKey, AuditEvent, Membership, Team, User


class _ReadOnly(ModelAdmin):
    def has_add_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return False


admin.site.unregister(Group)  # what people may do follows from their role in a team


@admin.register(User)
class UserAdmin(DjangoUserAdmin, ModelAdmin):
    form, add_form, change_password_form = UserChangeForm, UserCreationForm, AdminPasswordChangeForm
    list_display = ["email", "is_active", "is_staff", "last_login"]
    list_filter = ["is_active", "is_staff"]
    search_fields = ["email"]
    ordering = ["email"]
    readonly_fields = ["last_login", "date_joined"]
    fieldsets = [
        (None, {"fields": ["email", "password"]}),
        ("Access", {"fields": ["is_active", "is_staff", "is_superuser"]}),
        ("Dates", {"fields": ["last_login", "date_joined"]}),
    ]
    add_fieldsets = [(None, {"fields": ["email", "password1", "password2"]})]
    filter_horizontal = []


@admin.register(Team)
class TeamAdmin(ModelAdmin):
    list_display = ["slug", "name", "time_zone", "is_platform", "created_at"]
    search_fields = ["slug", "name"]
    readonly_fields = ["is_platform", "created_at"]


@admin.register(Membership)
class MembershipAdmin(ModelAdmin):
    list_display = ["team", "user", "role", "created_at"]
    list_filter = ["role"]
    list_select_related = ["team", "user"]
    autocomplete_fields = ["team", "user"]


@admin.register(ApiKey)
class ApiKeyAdmin(_ReadOnly):
    list_display = ["team", "name", "prefix", "created_at", "last_used_at", "expires_at", "revoked_at"]
    list_select_related = ["team"]
    search_fields = ["prefix", "name", "team__slug"]
    exclude = ["digest"]
    actions = ["revoke"]

    @admin.action(description="Revoke: programs that use them are refused within 5 seconds")
    def revoke(self, request: HttpRequest, rows: QuerySet[ApiKey]) -> None:
        live = list(rows.filter(revoked_at=None).select_related("team"))
        for key in live:
            keys.revoke(key)
            audit.record(key.team, actor=str(request.user), verb="revoked the key", subject=str(key))
        self.message_user(request, f"{len(live)} revoked.", messages.SUCCESS)


@admin.register(AuditEvent)
class AuditEventAdmin(_ReadOnly):
    list_display = ["at", "team", "actor", "verb", "subject"]
    list_select_related = ["team"]
    list_filter = ["verb"]
    search_fields = ["actor", "subject"]
