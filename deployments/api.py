"""/api/v1/deployments: make, read, change, stop."""

import contextlib
from collections.abc import Iterator
from typing import Any
from uuid import UUID

from django.db import transaction
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
from catalog.licensing.policy import Use
from catalog.licensing.problems import NotLicensed
from catalog.models import Hardware
from deployments import logs, operations, rehearsing, updating
from deployments import status as reports
from deployments.errors import BadName, BadOption, DeploymentError, NameTaken, NotNow, Unlicensed
from deployments.models import Deployment, Version
from deployments.operations import LONGEST_START_S, MOST_CONCURRENCY, MOST_REPLICAS, SHORTEST_START_S
from deployments.status import Report

# What is to run, and under which name.
WHAT = ("name", "revision", "options", "env", "secrets", "adapters")


class Conflict(APIException):
    status_code = status.HTTP_409_CONFLICT
    default_code = "conflict"


class WishSerializer(serializers.Serializer[Any]):
    model = serializers.CharField(help_text="The model's slug.")
    hardware = serializers.CharField(help_text="The hardware's slug, as /api/v1/models lists it.")
    name = serializers.CharField(required=False, default="", max_length=60)
    min_replicas = serializers.IntegerField(default=0, min_value=0, max_value=MOST_REPLICAS)
    max_replicas = serializers.IntegerField(
        default=1, min_value=1, max_value=MOST_REPLICAS, help_text="Counts against the team's quota, awake or asleep."
    )
    target_concurrency = serializers.IntegerField(
        default=None, allow_null=True, min_value=1, max_value=MOST_CONCURRENCY, help_text="Calls at once for a replica."
    )
    idle_window_s = serializers.IntegerField(required=False, default=600, min_value=30)
    start_deadline_s = serializers.IntegerField(default=120, min_value=SHORTEST_START_S, max_value=LONGEST_START_S)
    hold_s = serializers.IntegerField(
        default=None, allow_null=True, min_value=0, max_value=600, help_text="How long a call waits for it to wake."
    )
    options = serializers.DictField(required=False, default=dict, help_text="The engine's; docs/engines.md lists them.")
    revision = serializers.CharField(
        required=False, default="", max_length=100, help_text="Of the model's weights; empty: what its offer says."
    )
    env = serializers.DictField(
        child=serializers.CharField(allow_blank=True, trim_whitespace=False), required=False, default=dict,
        help_text="The engine's environment; the team can read it.",
    )  # fmt: skip
    secrets = serializers.DictField(
        child=serializers.CharField(trim_whitespace=False), required=False, default=dict, write_only=True,
        help_text="As env, but encrypted: no value can be read again.",
    )  # fmt: skip
    adapters = serializers.ListField(
        child=serializers.CharField(max_length=200), required=False, default=list, max_length=8,
        help_text='LoRA adapters: an id of weights or a model\'s slug, "=0.5" behind it to apply half of it.',
    )  # fmt: skip
    use = serializers.ChoiceField(
        choices=[("", "the team's default"), *Use.choices], required=False, default="",
        help_text="What it is used for: decides what its licence allows (docs/licences.md).",
    )  # fmt: skip
    dry_run = serializers.BooleanField(
        required=False, default=False, help_text="Answer 200 with what would happen; nothing is written or started."
    )


class ChangeSerializer(serializers.Serializer[Any]):
    """What is left out stays. `revision`, `options`, `env`, `secrets` and `adapters` make a new version, which starts
    beside the old one."""

    revision = serializers.CharField(required=False, max_length=100, help_text="Of the model's weights.")
    options = serializers.DictField(required=False, help_text="Added to those that it has.")
    env = serializers.DictField(
        child=serializers.CharField(allow_blank=True, trim_whitespace=False), required=False,
        help_text="Takes the place of all that it has.",
    )  # fmt: skip
    secrets = serializers.DictField(
        child=serializers.CharField(allow_null=True, allow_blank=True, trim_whitespace=False), required=False,
        write_only=True, help_text="Each is set, or removed if null; the others stay.",
    )  # fmt: skip
    adapters = serializers.ListField(
        child=serializers.CharField(max_length=200), required=False, max_length=8,
        help_text="Takes the place of all that it has.",
    )  # fmt: skip
    min_replicas = serializers.IntegerField(required=False, min_value=0, max_value=MOST_REPLICAS)
    max_replicas = serializers.IntegerField(required=False, min_value=1, max_value=MOST_REPLICAS)
    target_concurrency = serializers.IntegerField(required=False, min_value=1, max_value=MOST_CONCURRENCY)
    start_deadline_s = serializers.IntegerField(required=False, min_value=SHORTEST_START_S, max_value=LONGEST_START_S)
    idle_window_s = serializers.IntegerField(required=False, min_value=30)
    hold_s = serializers.IntegerField(
        required=False, allow_null=True, min_value=0, max_value=600, help_text="How long a call waits for it to wake."
    )


class RollbackSerializer(serializers.Serializer[Any]):
    version = serializers.IntegerField(
        default=None, allow_null=True, min_value=1, help_text="Its number; empty: the one that took the calls before."
    )


class VersionSerializer(serializers.Serializer[Any]):
    number = serializers.IntegerField()
    revision = serializers.CharField(source="weights.revision")
    hardware = serializers.CharField(source="hardware_id")
    engine = serializers.CharField()
    options = serializers.DictField()
    env = serializers.DictField()
    secrets = serializers.ListField(child=serializers.CharField(), source="secret_names", help_text="Names alone.")
    adapters = serializers.SerializerMethodField()
    created_at = serializers.DateTimeField()
    created_by = serializers.CharField()
    served_at = serializers.DateTimeField(allow_null=True, help_text="When it last began to take the calls.")

    def get_adapters(self, version: Version) -> list[str]:
        return adapters_of(version)


class ReplicasSerializer(serializers.Serializer[Any]):
    ready = serializers.IntegerField()
    starting = serializers.IntegerField()
    ending = serializers.IntegerField()


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
    target_concurrency = serializers.IntegerField()
    start_deadline_s = serializers.IntegerField()
    deadline_at = serializers.DateTimeField(allow_null=True, help_text="When its state is given up, if ever.")
    queue_position = serializers.IntegerField(allow_null=True, help_text="Its turn for capacity; 1 is next.")
    next_step = serializers.CharField(allow_null=True, help_text="What to do about a failure.")
    replicas = ReplicasSerializer()
    version = serializers.IntegerField(allow_null=True)
    next_version = serializers.IntegerField(allow_null=True, help_text="What an update is trying.")
    options = serializers.DictField()
    env = serializers.DictField()
    secrets = serializers.ListField(child=serializers.CharField(), help_text="Names alone.")
    adapters = serializers.ListField(child=serializers.CharField())
    price_per_second = serializers.CharField(allow_null=True)
    cost_so_far = serializers.CharField(help_text="USD, an exact decimal; what runs now is included.")
    created_at = serializers.DateTimeField()


class EventSerializer(serializers.Serializer[Any]):
    at = serializers.DateTimeField()
    before = serializers.CharField()
    after = serializers.CharField()
    reason = serializers.CharField()
    detail = serializers.CharField()


class RefusalSerializer(serializers.Serializer[Any]):
    field = serializers.CharField()
    text = serializers.CharField()


class MemorySerializer(serializers.Serializer[Any]):
    low_bytes = serializers.IntegerField()
    likely_bytes = serializers.IntegerField()
    high_bytes = serializers.IntegerField()
    has_bytes = serializers.IntegerField()
    measured_bytes = serializers.IntegerField(allow_null=True)
    formula = serializers.CharField()
    parts = serializers.ListField(child=serializers.DictField())


class RehearsalSerializer(serializers.Serializer[Any]):
    """A dry run. All but the first three fields are there if the wish could be read at all."""

    dry_run = serializers.BooleanField()
    would_deploy = serializers.BooleanField()
    refused = RefusalSerializer(many=True)
    endpoint_model = serializers.CharField(required=False)
    hardware = serializers.CharField(required=False)
    revision = serializers.CharField(required=False)
    engine = serializers.CharField(required=False)
    engine_version = serializers.CharField(required=False)
    options = serializers.DictField(required=False)
    adapters = serializers.ListField(child=serializers.CharField(), required=False)
    command = serializers.ListField(child=serializers.CharField(), required=False)
    use = serializers.CharField(required=False)
    environment = serializers.ListField(child=serializers.CharField(), required=False, help_text="Names alone.")
    fit = serializers.CharField(required=False, help_text="fits, tight or no")
    memory = MemorySerializer(required=False)
    price_per_second = serializers.CharField(required=False, allow_null=True)
    price_per_hour = serializers.CharField(required=False, allow_null=True)
    price_per_hour_asleep = serializers.CharField(required=False)
    price_per_hour_at_most = serializers.CharField(required=False, allow_null=True)
    price_per_million_tokens = serializers.CharField(
        required=False, allow_null=True, help_text="Null until its speed has been measured."
    )


class LogSerializer(serializers.Serializer[Any]):
    replica = serializers.UUIDField(allow_null=True, help_text="Whose lines these are; none has run yet if null.")
    lines = serializers.ListField(child=serializers.CharField(), help_text="Oldest first.")
    before = serializers.IntegerField(allow_null=True, help_text="Send it to read what stands before; null: no more.")


class LogQuerySerializer(serializers.Serializer[Any]):
    replica = serializers.UUIDField(default=None, help_text="One of the deployment's replicas; else the newest.")
    q = serializers.CharField(default="", max_length=200, help_text="Only lines that contain this, in any case.")
    lines = serializers.IntegerField(default=200, min_value=1, max_value=logs.MOST_LINES)
    before = serializers.IntegerField(default=None, min_value=0, max_value=2**53, help_text="As the last answer said.")


class DeploymentList(APIView):
    @extend_schema(responses=DeploymentSerializer(many=True))
    def get(self, request: Request) -> Response:
        pages = Pages()
        team = team_of(request)
        shown = pages.paginate_queryset(reports.in_order(team), request, view=self) or []  # type: ignore[arg-type]
        return pages.get_paginated_response([as_json(report) for report in reports.with_costs(team, list(shown))])

    @extend_schema(request=WishSerializer, responses={201: DeploymentSerializer, 200: RehearsalSerializer})
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
        plain = {name: asked[name] for name in (*WHAT, "use", *operations.ELASTIC)}
        if asked["dry_run"]:
            return Response(rehearsing.rehearse(team, model=model, hardware=hardware, **plain).as_json())
        try:
            made = operations.deploy(team, model=model, hardware=hardware, actor=actor_of(request), **plain)
        except Unlicensed as error:
            raise NotLicensed(error.refusal) from error
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
        asked, actor = dict(wish.validated_data), actor_of(request)
        version = {name: asked.pop(name) for name in WHAT if name in asked}
        with _told(), transaction.atomic():
            operations.change(deployment, actor=actor, **asked)
            if version:
                updating.update(deployment, actor=actor, **version)
        deployment.refresh_from_db()
        return Response(as_json(reports.of(deployment)))

    @extend_schema(request=None, responses={202: DeploymentSerializer})
    def delete(self, request: Request, pk: UUID) -> Response:
        deployment = _own(request, pk)
        operations.stop(deployment, actor=actor_of(request))
        return Response(as_json(reports.of(deployment)), status=status.HTTP_202_ACCEPTED)


class DeploymentRollback(APIView):
    @extend_schema(request=RollbackSerializer, responses={202: DeploymentSerializer})
    def post(self, request: Request, pk: UUID) -> Response:
        deployment = _own(request, pk)
        wish = RollbackSerializer(data=request.data)
        wish.is_valid(raise_exception=True)
        with _told():
            updating.rollback(deployment, actor=actor_of(request), number=wish.validated_data["version"])
        return Response(as_json(reports.of(deployment)), status=status.HTTP_202_ACCEPTED)


class DeploymentVersions(APIView):
    @extend_schema(responses=VersionSerializer(many=True))
    def get(self, request: Request, pk: UUID) -> Response:
        pages = Pages()
        rows = pages.paginate_queryset(
            _own(request, pk).versions.select_related("weights").prefetch_related("adapters"), request, view=self
        )
        return pages.get_paginated_response(VersionSerializer(rows or [], many=True).data)


class DeploymentEvents(APIView):
    @extend_schema(responses=EventSerializer(many=True))
    def get(self, request: Request, pk: UUID) -> Response:
        pages = Pages()
        rows = pages.paginate_queryset(_own(request, pk).events.all(), request, view=self)
        return pages.get_paginated_response(EventSerializer(rows or [], many=True).data)


class DeploymentLogs(APIView):
    """What an engine has written, also after its death; without colours and secrets."""

    @extend_schema(parameters=[LogQuerySerializer], responses=LogSerializer)
    def get(self, request: Request, pk: UUID) -> Response:
        row = _own(request, pk)
        query = LogQuerySerializer(data=request.query_params)
        query.is_valid(raise_exception=True)
        asked = query.validated_data
        replicas = row.replicas.order_by("-created_at")
        replica = get_object_or_404(replicas, pk=asked["replica"]) if asked["replica"] else replicas.first()
        if replica is None:
            return Response({"replica": None, "lines": [], "before": None})
        part = logs.last(row, replica, lines=asked["lines"], before=asked["before"], q=asked["q"])
        texts = [line.text for line in part.lines]
        return Response({"replica": str(replica.pk), "lines": texts, "before": part.begins})


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """What can't be done is told by field, or as a conflict with the state that it is in."""
    try:
        yield
    except BadOption as error:
        raise ValidationError({error.option: [str(error)]}) from error
    except Unlicensed as error:
        raise NotLicensed(error.refusal) from error
    except NotNow as error:
        raise Conflict(str(error)) from error


def _own(request: Request, pk: UUID) -> Deployment:
    return get_object_or_404(Deployment.objects.of(team_of(request)).select_related("team"), pk=pk)


def adapters_of(version: Version) -> list[str]:
    """As they are asked for."""
    return [
        str(row.weights_id) if row.scale == 1 else f"{row.weights_id}={row.scale:g}" for row in version.adapters.all()
    ]


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
        "target_concurrency": row.target_concurrency,
        "start_deadline_s": row.start_deadline_s,
        "deadline_at": row.deadline_at.isoformat() if row.deadline_at else None,
        "queue_position": report.queue_position,
        "next_step": report.next_step[1] if report.next_step else None,
        "replicas": {"ready": len(report.ready), "starting": len(report.starting), "ending": len(report.ending)},
        "version": row.version.number if row.version else None,
        "next_version": row.next_version.number if row.next_version else None,
        "options": row.options,
        "env": row.version.env if row.version else {},
        "secrets": row.version.secret_names if row.version else [],
        "adapters": adapters_of(row.version) if row.version else [],
        "price_per_second": exact(report.per_second) if report.per_second is not None else None,
        "cost_so_far": exact(report.cost_so_far),
        "created_at": row.created_at.isoformat(),
    }
