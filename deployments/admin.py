"""Django's admin for deployments: to be looked at. What changes them is reconcile, and the wishes in operations."""

from typing import ClassVar

from django.contrib import admin
from django.http import HttpRequest
from unfold.admin import ModelAdmin, TabularInline

from deployments.models import Deployment, DeploymentEvent, Orphan, Replica


class _ReadOnly:
    def has_add_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return False


class ReplicaInline(_ReadOnly, TabularInline):
    model = Replica
    extra = 0
    fields: ClassVar[list[str]] = [
        "name", "ordinal", "version", "created_at", "started_at", "ready_at", "exited_at", "exit_code", "crashed",
        "billed_until",
    ]  # fmt: skip
    readonly_fields = fields


class EventInline(_ReadOnly, TabularInline):
    model = DeploymentEvent
    extra = 0
    fields: ClassVar[list[str]] = ["at", "before", "after", "reason", "detail"]
    readonly_fields = fields


@admin.register(Deployment)
class DeploymentAdmin(_ReadOnly, ModelAdmin):
    list_display: ClassVar[list[str]] = ["endpoint_model", "model", "hardware", "status", "reason", "status_since"]
    list_select_related: ClassVar[list[str]] = ["team", "model", "hardware"]
    list_filter: ClassVar[list[str]] = ["status", "reason", "hardware", "engine", "backend"]
    search_fields: ClassVar[list[str]] = ["name", "team__slug", "model__name"]
    inlines: ClassVar[list[type]] = [ReplicaInline, EventInline]


@admin.register(Orphan)
class OrphanAdmin(_ReadOnly, ModelAdmin):
    list_display: ClassVar[list[str]] = ["name", "backend", "found_at", "ran_since", "gone_at", "belonged_to"]
    list_filter: ClassVar[list[str]] = ["backend"]
    search_fields: ClassVar[list[str]] = ["name", "belonged_to"]
