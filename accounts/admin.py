"""Django's admin for accounts. Keys show no digest and can only be revoked; the audit trail can only be read."""

import contextlib
from typing import Any

from allauth.account.models import EmailAddress
from allauth.mfa.models import Authenticator
from allauth.socialaccount.models import SocialAccount, SocialApp, SocialToken
from allauth.usersessions.models import UserSession
from django.contrib import admin, messages
from django.contrib.admin.exceptions import NotRegistered
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.contrib.auth.models import Group
from django.db.models import Exists, OuterRef, QuerySet
from django.http import HttpRequest
from unfold.admin import ModelAdmin, TabularInline
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm

from accounts import keyring, two_factor
from accounts.models import ApiKey, AuditEvent, Invitation, Membership, Quota, Team, User


class _ReadOnly(ModelAdmin):
    def has_add_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return False


# Secrets of second factors and single sign-on are nobody's to look at; addresses stand with their user.
for theirs in (EmailAddress, Authenticator, SocialAccount, SocialApp, SocialToken, UserSession):
    with contextlib.suppress(NotRegistered):
        admin.site.unregister(theirs)
admin.site.unregister(Group)  # what people may do follows from their role in a team


class AddressInline(TabularInline):
    model = EmailAddress
    extra = 0
    verbose_name_plural = "addresses"


@admin.register(User)
class UserAdmin(DjangoUserAdmin, ModelAdmin):
    form, add_form, change_password_form = UserChangeForm, UserCreationForm, AdminPasswordChangeForm
    list_display = ["email", "is_active", "is_staff", "has_second_factor", "last_login"]
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
    inlines = [AddressInline]

    def get_inlines(self, request: HttpRequest, obj: User | None) -> list[type[TabularInline]]:
        return self.inlines if obj else []

    def get_queryset(self, request: HttpRequest) -> QuerySet[User]:
        found = Authenticator.objects.filter(user=OuterRef("pk"), type__in=two_factor.SECONDS)
        rows: QuerySet[User] = super().get_queryset(request)
        return rows.annotate(second=Exists(found))

    @admin.display(description="second factor", boolean=True)
    def has_second_factor(self, row: Any) -> bool:
        return bool(row.second)


class QuotaInline(TabularInline):
    model = Quota
    extra = 0
    verbose_name_plural = "quotas of this team"


@admin.register(Quota)
class QuotaAdmin(ModelAdmin):
    """The most that teams may have; a row without a team holds for each that has none of its own."""

    list_display = ["whose", "what", "of", "most"]
    list_filter = ["what"]
    list_select_related = ["team"]
    search_fields = ["team__slug", "team__name", "of"]
    autocomplete_fields = ["team"]

    @admin.display(description="team", ordering="team__slug")
    def whose(self, row: Quota) -> str:
        return row.team.slug if row.team else "every team"


@admin.register(Team)
class TeamAdmin(ModelAdmin):
    list_display = ["slug", "name", "time_zone", "require_two_factor", "is_platform", "created_at"]
    list_filter = ["require_two_factor", "is_platform"]
    search_fields = ["slug", "name"]
    inlines = [QuotaInline]
    readonly_fields = ["is_platform", "created_at"]


@admin.register(Membership)
class MembershipAdmin(ModelAdmin):
    list_display = ["team", "user", "role", "created_at"]
    list_filter = ["role"]
    list_select_related = ["team", "user"]
    search_fields = ["team__slug", "team__name", "user__email"]
    autocomplete_fields = ["team", "user"]


@admin.register(Invitation)
class InvitationAdmin(_ReadOnly):
    """Who was offered a place; the token's hash is not shown."""

    list_display = ["team", "email", "role", "sent_at", "expires_at", "accepted_at", "revoked_at"]
    list_filter = ["role"]
    list_select_related = ["team"]
    search_fields = ["email", "team__slug"]
    exclude = ["digest"]


@admin.register(ApiKey)
class ApiKeyAdmin(_ReadOnly):
    list_display = ["team", "name", "prefix", "scopes", "created_at", "last_used_at", "expires_at", "revoked_at"]
    list_select_related = ["team"]
    search_fields = ["prefix", "name", "team__slug"]
    exclude = ["digest", "old_digest"]
    actions = ["revoke"]

    @admin.action(description="Revoke: programs that use them are refused within 5 seconds")
    def revoke(self, request: HttpRequest, rows: QuerySet[ApiKey]) -> None:
        revoked = [keyring.revoke(key, actor=str(request.user)) for key in rows.select_related("team")]
        self.message_user(request, f"{sum(revoked)} revoked.", messages.SUCCESS)


@admin.register(AuditEvent)
class AuditEventAdmin(_ReadOnly):
    list_display = ["at", "team", "actor", "verb", "subject", "ip"]
    list_select_related = ["team"]
    list_filter = ["verb", "at"]
    search_fields = ["actor", "subject", "team__slug"]
    date_hierarchy = "at"
    show_full_result_count = False
