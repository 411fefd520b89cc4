"""/api/v1/deployments: make, read, change, stop."""

from typing import Any
from uuid import UUID

from django.shortcuts import get_object_or_404
from drf_spectacular.utils import extend_schema
from rest_framework import serializers, status
from rest_framework.exceptions import APIException, ValidationError
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts.drf import Pages, actor_of, team_of
from billing.statements import exact
from catalog import library
from catalog.models import Hardware
from deployments import operations
from deployments import status as reports
from deployments.errors import BadName, BadOption, DeploymentError, NameTaken
from deployments.models import Deployment
from deployments.status import Report


class Conflict(APIException):
    status_code = status.HTTP_409_CONFLICT
    default_code = "conflict"


class WishSerializer(serializers.Serializer[Any]):
    model = serializers.CharField(help_text="The model's slug.")
    hardware = serializers.CharField(help_text="The hardware's slug, as /api/v1/models lists it.")
    name = serializers.CharField(required=False, default="", max_length=60)
    min_replicas = serializers.IntegerField(required=False, default=0, min_value=0, max_value=1)
    max_replicas = serializers.IntegerField(required=False, default=1, min_value=1, max_value=1)
    idle_window_s = serializers.IntegerField(required=False, default=600, min_value=30)
    hold_s = serializers.IntegerField(
        default=None, allow_null=True, min_value=0, max_value=600, help_text="How long a call waits for it to wake."
    )
    options = serializers.DictField(required=False, default=dict)


class ChangeSerializer(serializers.Serializer[Any]):
    min_replicas = serializers.IntegerField(required=False, min_value=0, max_value=1)
    idle_window_s = serializers.IntegerField(required=False, min_value=30)
    hold_s = serializers.IntegerField(
        required=False, allow_null=True, min_value=0, max_value=600, help_text="How long a call waits for it to wake."
    )


class DeploymentSerializer(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    name = serializers.CharField()
    model = serializers.CharField()
    hardware = serializers.CharField()
    endpoint_model = serializers.CharField(help_text="What a caller writes as `model`.")
    status = serializers.CharField()
    reason = serializers.CharField()
    reason_text = serializers.CharField()
    detail = serializers.CharField()
    status_since = serializers.DateTimeField()
    min_replicas = serializers.IntegerField()
    max_replicas = serializers.IntegerField()
    idle_window_s = serializers.IntegerField()
    hold_s = serializers.IntegerField(allow_null=True)
    options = serializers.DictField()
    price_per_second = serializers.CharField(allow_null=True)
    cost_so_far = serializers.CharField(help_text="USD, an exact decimal; what runs now is included.")
    created_at = serializers.DateTimeField()


class EventSerializer(serializers.Serializer[Any]):
    at = serializers.DateTimeField()
    before = serializers.CharField()
    after = serializers.CharField()
    reason = serializers.CharField()
    detail = serializers.CharField()


class LogSerializer(serializers.Serializer[Any]):
    lines = serializers.ListField(child=serializers.CharField())


class DeploymentList(APIView):
    @extend_schema(responses=DeploymentSerializer(many=True))
    def get(self, request: Request) -> Response:
        pages = Pages()
        rows = pages.paginate_queryset(reports.of_team(team_of(request)), request, view=self)  # type: ignore[arg-type]
        return pages.get_paginated_response([as_json(report) for report in rows or []])

    @extend_schema(request=WishSerializer, responses={201: DeploymentSerializer})
    def post(self, request: Request) -> Response:
        wish = WishSerializer(data=request.data)
        wish.is_valid(raise_exception=True)
        asked, team = wish.validated_data, team_of(request)
        model = library.visible_to(team).filter(slug=asked["model"]).first()
        hardware = Hardware.objects.filter(slug=asked["hardware"]).first()
        if model is None:
            raise ValidationError({"model": [f"No model {asked['model']}; GET /api/v1/models lists them."]})
        if hardware is None:
            raise ValidationError({"hardware": [f"No hardware {asked['hardware']}; the model's offers list it."]})
        names = ("name", "min_replicas", "max_replicas", "idle_window_s", "hold_s", "options")
        plain = {name: asked[name] for name in names}
        try:
            made = operations.deploy(team, model=model, hardware=hardware, actor=actor_of(request), **plain)
        except NameTaken as error:
            raise Conflict(str(error)) from error
        except BadName as error:
            raise ValidationError({"name": [str(error)]}) from error
        except BadOption as error:
            raise ValidationError({error.option: [str(error)]}) from error
        except DeploymentError as error:
            raise ValidationError({"model": [str(error)]}) from error
        return Response(as_json(reports.of(made)), status=status.HTTP_201_CREATED)


class DeploymentDetail(APIView):
    @extend_schema(responses=DeploymentSerializer)
    def get(self, request: Request, pk: UUID) -> Response:
        return Response(as_json(reports.of(_own(request, pk))))

    @extend_schema(request=ChangeSerializer, responses=DeploymentSerializer)
    def patch(self, request: Request, pk: UUID) -> Response:
        deployment = _own(request, pk)
        wish = ChangeSerializer(data=request.data)
        wish.is_valid(raise_exception=True)
        try:
            operations.change(
                deployment,
                min_replicas=wish.validated_data.get("min_replicas", deployment.min_replicas),
                idle_window_s=wish.validated_data.get("idle_window_s", deployment.idle_window_s),
                hold_s=wish.validated_data.get("hold_s", deployment.hold_s),
                actor=actor_of(request),
            )
        except BadOption as error:
            raise ValidationError({error.option: [str(error)]}) from error
        deployment.refresh_from_db()
        return Response(as_json(reports.of(deployment)))

    @extend_schema(request=None, responses={202: DeploymentSerializer})
    def delete(self, request: Request, pk: UUID) -> Response:
        deployment = _own(request, pk)
        operations.stop(deployment, actor=actor_of(request))
        return Response(as_json(reports.of(deployment)), status=status.HTTP_202_ACCEPTED)


class DeploymentEvents(APIView):
    @extend_schema(responses=EventSerializer(many=True))
    def get(self, request: Request, pk: UUID) -> Response:
        pages = Pages()
        rows = pages.paginate_queryset(_own(request, pk).events.all(), request, view=self)
        return pages.get_paginated_response(EventSerializer(rows or [], many=True).data)


class DeploymentLogs(APIView):
    @extend_schema(responses=LogSerializer)
    def get(self, request: Request, pk: UUID) -> Response:
        return Response({"lines": reports.log_tail(_own(request, pk))})


def _own(request: Request, pk: UUID) -> Deployment:
    return get_object_or_404(Deployment.objects.of(team_of(request)).select_related("team"), pk=pk)


def as_json(report: Report) -> dict[str, Any]:
    row = report.row
    return {
        "id": str(row.pk),
        "name": row.name,
        "model": row.model.slug,
        "hardware": row.hardware_id,
        "endpoint_model": row.endpoint_model,
        "status": report.shown_status,
        "reason": row.reason,
        "reason_text": row.get_reason_display(),
        "detail": row.detail,
        "status_since": row.status_since.isoformat(),
        "min_replicas": row.min_replicas,
        "max_replicas": row.max_replicas,
        "idle_window_s": row.idle_window_s,
        "hold_s": row.hold_s,
        "options": row.options,
        "price_per_second": exact(report.per_second) if report.per_second is not None else None,
        "cost_so_far": exact(report.cost_so_far),
        "created_at": row.created_at.isoformat(),
    }
