"""/api/v1/aliases: a team's names and what stands behind them."""

from typing import Any
from uuid import UUID

from django.shortcuts import get_object_or_404
from drf_spectacular.utils import extend_schema
from rest_framework import serializers, status
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts import audit
from accounts.drf import Pages, actor_of, team_of
from deployments import endpoints
from gateway import aliases
from gateway.forms import MOST_TARGETS, AliasForm
from gateway.models import Alias, AliasTarget


class TargetSerializer(serializers.Serializer[Any]):
    model = serializers.CharField(max_length=160)
    position = serializers.IntegerField(default=0, min_value=0, max_value=MOST_TARGETS)
    weight = serializers.IntegerField(default=1, min_value=0, max_value=1_000_000)
    shadow_percent = serializers.IntegerField(default=None, allow_null=True, min_value=1, max_value=100)


class AliasSerializer(serializers.Serializer[Any]):
    id = serializers.UUIDField(read_only=True)
    name = serializers.CharField(max_length=60)
    endpoint_model = serializers.CharField(read_only=True)
    hold_s = serializers.IntegerField(default=None, allow_null=True, min_value=0, max_value=600)
    spills = serializers.BooleanField(default=False)
    spill_cap_usd = serializers.DecimalField(default=None, allow_null=True, max_digits=12, decimal_places=4)
    targets = TargetSerializer(many=True)

    def validate_targets(self, targets: list[dict[str, Any]]) -> list[dict[str, Any]]:
        if not any(not target["shadow_percent"] for target in targets) or len(targets) > MOST_TARGETS:
            raise ValidationError(f"1 to {MOST_TARGETS} targets, at least one of them no shadow.")
        names = set(endpoints.callable_names(self.context["team"]))
        for target in targets:
            if target["model"] not in names:
                raise ValidationError(f"Your team can't call a model named {target['model']}.")
        return targets


class AliasesView(APIView):
    @extend_schema(responses=AliasSerializer(many=True))
    def get(self, request: Request) -> Response:
        rows = Alias.objects.filter(team=team_of(request)).select_related("team").prefetch_related("targets")
        pages = Pages()
        page: list[Alias] | None = pages.paginate_queryset(rows, request, view=self)
        return pages.get_paginated_response([_shown(row) for row in page or []])

    @extend_schema(request=AliasSerializer, responses={201: AliasSerializer})
    def post(self, request: Request) -> Response:
        row = _saved(request, Alias(team=team_of(request)))
        return Response(_shown(row), status=status.HTTP_201_CREATED)


class AliasView(APIView):
    @extend_schema(responses=AliasSerializer)
    def get(self, request: Request, pk: UUID) -> Response:
        return Response(_shown(get_object_or_404(Alias, team=team_of(request), pk=pk)))

    @extend_schema(request=AliasSerializer, responses=AliasSerializer)
    def put(self, request: Request, pk: UUID) -> Response:
        return Response(_shown(_saved(request, get_object_or_404(Alias, team=team_of(request), pk=pk))))

    @extend_schema(responses={204: None})
    def delete(self, request: Request, pk: UUID) -> Response:
        row = get_object_or_404(Alias, team=team_of(request), pk=pk)
        name, before = str(row), aliases.described(row)
        row.delete()
        audit.record(team_of(request), actor=actor_of(request), verb="deleted the alias", subject=name, before=before)
        return Response(status=status.HTTP_204_NO_CONTENT)


def _saved(request: Request, row: Alias) -> Alias:
    team = team_of(request)
    wish = AliasSerializer(data=request.data, context={"team": team})
    wish.is_valid(raise_exception=True)
    given = dict(wish.validated_data)
    targets = given.pop("targets")
    there = Alias.objects.filter(pk=row.pk).first()
    before = aliases.described(there) if there else {}
    form = AliasForm(given, instance=row, team=team)
    if not form.is_valid():
        raise ValidationError({name: [str(text) for text in errors] for name, errors in form.errors.items()})
    saved = form.save_with(lambda alias: [AliasTarget(alias=alias, **target) for target in targets])
    named = ", ".join(target["model"] for target in targets)
    audit.record(
        team, actor=actor_of(request), verb="set the alias", subject=f"{saved} -> {named}", before=before,
        after=aliases.described(saved),
    )  # fmt: skip
    return saved


def _shown(row: Alias) -> dict[str, Any]:
    names = ("model", "position", "weight", "shadow_percent")
    return {
        "id": row.pk,
        "name": row.name,
        "endpoint_model": str(row),
        "hold_s": row.hold_s,
        "spills": row.spills,
        "spill_cap_usd": None if row.spill_cap_usd is None else f"{row.spill_cap_usd:f}",
        "targets": [{name: getattr(target, name) for name in names} for target in row.targets.all()],
    }
