"""/api/v1/prompt-sets, and a deployment's validation, validations and throughput."""

import contextlib
from collections.abc import Iterator
from typing import Any
from uuid import UUID

from django.db.models import Prefetch
from django.shortcuts import get_object_or_404
from drf_spectacular.utils import extend_schema
from rest_framework import serializers, status
from rest_framework.exceptions import APIException, ValidationError
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts.drf import Pages, actor_of, team_of
from billing.statements import exact
from catalog import measurements
from catalog.measurement_api import FiguresSerializer
from catalog.measurements import Measured
from deployments.errors import NameTaken, NotNow
from deployments.models import Deployment
from deployments.validation import reports, running, wishes
from deployments.validation.cases import MOST_CASES, MOST_CHECKS, BadCase, Kind
from deployments.validation.models import Edition, Every, PromptSet, Rule, ThroughputRun, ValidationPlan, ValidationRun


class Conflict(APIException):
    status_code = status.HTTP_409_CONFLICT
    default_code = "conflict"


class CheckSerializer(serializers.Serializer[Any]):
    """What an answer has to be."""

    kind = serializers.ChoiceField(choices=[kind.value for kind in Kind])
    value = serializers.JSONField(required=False, help_text="Text, a pattern, a JSON schema, the expected meaning.")
    model = serializers.CharField(required=False, help_text="same_as: whose answer; similar: whose embeddings.")
    threshold = serializers.FloatField(required=False, help_text="similar: the least cosine; 0.8 unless given.")


class CaseSerializer(serializers.Serializer[Any]):
    name = serializers.CharField(required=False)
    system = serializers.CharField(required=False)
    prompt = serializers.CharField(required=False)
    messages = serializers.ListField(child=serializers.DictField(), required=False, help_text="Instead of a prompt.")
    parameters = serializers.DictField(required=False, help_text="Of the call; temperature is 0 unless given.")
    checks = CheckSerializer(many=True)


class WishedSetSerializer(serializers.Serializer[Any]):
    name = serializers.CharField(max_length=80)
    note = serializers.CharField(max_length=300, required=False, default="", allow_blank=True)
    cases = serializers.JSONField(help_text=f"1 to {MOST_CASES} cases, each with 1 to {MOST_CHECKS} checks.")


class SetSchemaSerializer(WishedSetSerializer):
    """As the schema shows it: what is wrong with a case is told by its place, which a serializer can't."""

    cases = CaseSerializer(many=True)  # type: ignore[assignment]


class PromptSetSerializer(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    name = serializers.CharField()
    note = serializers.CharField()
    edition = serializers.IntegerField(help_text="Counts up with each edit of the cases.")
    cases = CaseSerializer(many=True)
    created_at = serializers.DateTimeField()
    edited_at = serializers.DateTimeField()


class PlanSerializer(serializers.Serializer[Any]):
    prompt_set = serializers.UUIDField(allow_null=True, help_text="Null: it is never asked.")
    on_update = serializers.ChoiceField(choices=Rule.choices, default=Rule.OFF)
    every = serializers.ChoiceField(choices=Every.choices, default=Every.NEVER, allow_blank=True)
    wakes = serializers.BooleanField(default=False, help_text="By the clock also while it sleeps.")
    next_at = serializers.DateTimeField(read_only=True, allow_null=True)


class WishedRunSerializer(serializers.Serializer[Any]):
    prompt_set = serializers.UUIDField()


class FindingSerializer(serializers.Serializer[Any]):
    kind = serializers.CharField()
    verdict = serializers.CharField()
    text = serializers.CharField()
    diff = serializers.ListField(
        child=serializers.ListField(child=serializers.CharField()), help_text="[same, gone or new; text], in order."
    )


class ResultSerializer(serializers.Serializer[Any]):
    position = serializers.IntegerField()
    name = serializers.CharField()
    verdict = serializers.CharField()
    answer = serializers.CharField()
    problem = serializers.CharField()
    findings = FindingSerializer(many=True)
    took_ms = serializers.IntegerField(allow_null=True)


class RunSerializer(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    prompt_set = serializers.UUIDField()
    name = serializers.CharField(help_text="Of the prompt set.")
    edition = serializers.IntegerField()
    version = serializers.IntegerField(allow_null=True, help_text="Of the deployment.")
    trigger = serializers.CharField()
    status = serializers.CharField(help_text="waiting, running, passed, failed, unchecked or ended (broke off).")
    ended = serializers.CharField(help_text="Why it broke off.")
    detail = serializers.CharField()
    passed = serializers.IntegerField()
    failed = serializers.IntegerField()
    unchecked = serializers.IntegerField()
    calls = serializers.IntegerField()
    cost = serializers.CharField(help_text="USD of its calls, an exact decimal.")
    created_at = serializers.DateTimeField()
    finished_at = serializers.DateTimeField(allow_null=True)


class ReportSerializer(RunSerializer):
    results = ResultSerializer(many=True)


class ThroughputSerializer(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    status = serializers.CharField()
    ended = serializers.CharField()
    detail = serializers.CharField()
    created_at = serializers.DateTimeField()
    finished_at = serializers.DateTimeField(allow_null=True)
    hardware = serializers.CharField()
    engine = serializers.CharField()
    engine_version = serializers.CharField()
    figures = FiguresSerializer(many=True)


class PromptSetList(APIView):
    @extend_schema(responses=PromptSetSerializer(many=True))
    def get(self, request: Request) -> Response:
        pages = Pages()
        newest = Edition.objects.order_by("prompt_set_id", "-number").distinct("prompt_set_id")
        sets = PromptSet.objects.of(team_of(request)).prefetch_related(Prefetch("editions", newest))
        rows = pages.paginate_queryset(sets, request, view=self)
        return pages.get_paginated_response([_set_json(row) for row in rows or []])

    @extend_schema(request=SetSchemaSerializer, responses={201: PromptSetSerializer})
    def post(self, request: Request) -> Response:
        return Response(_set_json(_saved(request, None)), status=status.HTTP_201_CREATED)


class PromptSetDetail(APIView):
    @extend_schema(responses=PromptSetSerializer)
    def get(self, request: Request, pk: UUID) -> Response:
        return Response(_set_json(_own_set(request, pk)))

    @extend_schema(request=SetSchemaSerializer, responses=PromptSetSerializer)
    def put(self, request: Request, pk: UUID) -> Response:
        return Response(_set_json(_saved(request, _own_set(request, pk))))

    @extend_schema(request=None, responses={204: None})
    def delete(self, request: Request, pk: UUID) -> Response:
        with _told():
            wishes.remove_set(_own_set(request, pk), actor=actor_of(request))
        return Response(status=status.HTTP_204_NO_CONTENT)


class DeploymentValidation(APIView):
    @extend_schema(responses=PlanSerializer)
    def get(self, request: Request, pk: UUID) -> Response:
        return Response(_plan_json(_own(request, pk)))

    @extend_schema(request=PlanSerializer, responses=PlanSerializer)
    def put(self, request: Request, pk: UUID) -> Response:
        row = _own(request, pk)
        wish = PlanSerializer(data=request.data)
        wish.is_valid(raise_exception=True)
        asked = dict(wish.validated_data)
        found = _named_set(request, asked.pop("prompt_set"))
        if found is None and (asked["on_update"] != Rule.OFF or asked["every"]):
            raise ValidationError({"prompt_set": ["Name the set to be asked."]})
        wishes.plan(row, prompt_set=found, actor=actor_of(request), **asked)
        return Response(_plan_json(row))


class ValidationList(APIView):
    @extend_schema(responses=RunSerializer(many=True))
    def get(self, request: Request, pk: UUID) -> Response:
        pages = Pages()
        rows = pages.paginate_queryset(reports.runs_of(_own(request, pk)), request, view=self)
        return pages.get_paginated_response([_run_json(run) for run in rows or []])

    @extend_schema(request=WishedRunSerializer, responses={202: RunSerializer})
    def post(self, request: Request, pk: UUID) -> Response:
        row = _own(request, pk)
        wish = WishedRunSerializer(data=request.data)
        wish.is_valid(raise_exception=True)
        found = _named_set(request, wish.validated_data["prompt_set"])
        assert found is not None  # noqa: S101 - the field takes no null
        with _told():
            run = wishes.validate(row, found, actor=actor_of(request))
        return Response(_run_json(_run(row, run.pk)), status=status.HTTP_202_ACCEPTED)


class ValidationDetail(APIView):
    @extend_schema(responses=ReportSerializer)
    def get(self, request: Request, pk: UUID, run: UUID) -> Response:
        found = _run(_own(request, pk), run)
        return Response(_run_json(found) | {"results": ResultSerializer(found.results.all(), many=True).data})

    @extend_schema(request=None, responses={202: RunSerializer})
    def delete(self, request: Request, pk: UUID, run: UUID) -> Response:
        """Call it off; its report stays."""
        row = _own(request, pk)
        running.call_off(_run(row, run), actor=actor_of(request))
        return Response(_run_json(_run(row, run)), status=status.HTTP_202_ACCEPTED)


class ThroughputList(APIView):
    @extend_schema(responses=ThroughputSerializer(many=True))
    def get(self, request: Request, pk: UUID) -> Response:
        pages = Pages()
        rows: list[ThroughputRun] = pages.paginate_queryset(_throughputs(_own(request, pk)), request, view=self) or []
        found = measurements.of_runs(run.pk for run in rows)
        return pages.get_paginated_response([_throughput_json(run, found.get(run.pk)) for run in rows])

    @extend_schema(request=None, responses={202: ThroughputSerializer})
    def post(self, request: Request, pk: UUID) -> Response:
        with _told():
            run = wishes.measure(_own(request, pk), actor=actor_of(request))
        return Response(_throughput_json(run, None), status=status.HTTP_202_ACCEPTED)


class ThroughputDetail(APIView):
    @extend_schema(responses=ThroughputSerializer)
    def get(self, request: Request, pk: UUID, run: UUID) -> Response:
        found = get_object_or_404(_throughputs(_own(request, pk)), pk=run)
        return Response(_throughput_json(found, measurements.of_runs([found.pk]).get(found.pk)))


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """What can't be done now is a conflict with the state that it is in; what is wrong is told by its place."""
    try:
        yield
    except BadCase as error:
        raise ValidationError({error.place: [str(error)]}) from error
    except NameTaken as error:
        raise ValidationError({"name": [str(error)]}) from error
    except NotNow as error:
        raise Conflict(str(error)) from error


def _saved(request: Request, found: PromptSet | None) -> PromptSet:
    wish = WishedSetSerializer(data=request.data)
    wish.is_valid(raise_exception=True)
    asked = wish.validated_data
    with _told():
        return wishes.save_set(
            team_of(request),
            name=asked["name"],
            note=asked["note"],
            raw_cases=asked["cases"],
            actor=actor_of(request),
            found=found,
        )


def _own(request: Request, pk: UUID) -> Deployment:
    return get_object_or_404(Deployment.objects.of(team_of(request)).select_related("team", "version"), pk=pk)


def _own_set(request: Request, pk: UUID) -> PromptSet:
    return get_object_or_404(PromptSet.objects.of(team_of(request)).select_related("team"), pk=pk)


def _named_set(request: Request, pk: UUID | None) -> PromptSet | None:
    """A set that a body names; another team's does not exist."""
    if pk is None:
        return None
    found = PromptSet.objects.of(team_of(request)).filter(pk=pk).first()
    if found is None:
        raise ValidationError(
            {"prompt_set": [f"Your team has no prompt set {pk}; GET /api/v1/prompt-sets lists them."]}
        )
    return found


def _run(row: Deployment, pk: UUID) -> ValidationRun:
    return get_object_or_404(reports.runs_of(row), pk=pk)


def _throughputs(row: Deployment) -> Any:
    return ThroughputRun.objects.filter(deployment=row).select_related("deployment")


def _set_json(row: PromptSet) -> dict[str, Any]:
    edition = row.edition
    return {
        "id": str(row.pk),
        "name": row.name,
        "note": row.note,
        "edition": edition.number,
        "cases": edition.cases,
        "created_at": row.created_at.isoformat(),
        "edited_at": edition.created_at.isoformat(),
    }


def _plan_json(row: Deployment) -> dict[str, Any]:
    plan = ValidationPlan.objects.filter(deployment=row).first()
    return {
        "prompt_set": str(plan.prompt_set_id) if plan else None,
        "on_update": plan.on_update if plan else Rule.OFF.value,
        "every": plan.every if plan else "",
        "wakes": bool(plan and plan.wakes),
        "next_at": plan.next_at.isoformat() if plan and plan.next_at else None,
    }


def _run_json(run: Any) -> dict[str, Any]:
    return {
        "id": str(run.pk),
        "prompt_set": str(run.edition.prompt_set_id),
        "name": run.edition.prompt_set.name,
        "edition": run.edition.number,
        "version": run.version.number if run.version else None,
        "trigger": run.trigger,
        "status": run.status,
        "ended": run.ended,
        "detail": run.detail,
        "passed": run.passed,
        "failed": run.failed,
        "unchecked": run.unchecked,
        "calls": run.calls,
        "cost": exact(run.cost),
        "created_at": run.created_at.isoformat(),
        "finished_at": run.finished_at.isoformat() if run.finished_at else None,
    }


def _throughput_json(run: ThroughputRun, measured: Measured | None) -> dict[str, Any]:
    return {
        "id": str(run.pk),
        "status": run.status,
        "ended": run.ended,
        "detail": run.detail,
        "created_at": run.created_at.isoformat(),
        "finished_at": run.finished_at.isoformat() if run.finished_at else None,
        "hardware": run.deployment.hardware_id,
        "engine": measured.first.engine if measured else run.deployment.engine,
        "engine_version": measured.first.engine_version if measured else "",
        "figures": FiguresSerializer(measured.rows, many=True).data if measured else [],
    }
