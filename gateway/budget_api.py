"""/api/v1/budgets: what may be spent and what is left. Keys may read; who keeps the team's money may change."""

from typing import Any

from django.shortcuts import get_object_or_404
from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework import serializers, status
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts import audit
from accounts.drf import WritesSignedIn, actor_of, team_of
from accounts.roles import KEEPERS
from billing import budgets, credits
from billing.budgets import Standing
from billing.models import Budget
from billing.money import plain
from gateway.budget_forms import BudgetForm
from gateway.budget_views import said


class KeepsMoney(WritesSignedIn):
    """Read for every role and key; write for owner, admin and billing, in the browser's session: a key that could
    raise its own cap would have none."""

    message = "Only an owner, admin or billing member, signed in, may change budgets."
    writers = KEEPERS


class BudgetSerializer(serializers.Serializer[Any]):
    """Amounts are exact decimals in USD."""

    id = serializers.IntegerField(read_only=True)
    scope = serializers.ChoiceField(choices=Budget.Scope.choices, default=Budget.Scope.TEAM)
    subject = serializers.CharField(
        default="", allow_blank=True, max_length=200, help_text="The key's id, the deployment's name, TEAM/ALIAS."
    )
    name = serializers.CharField(read_only=True, help_text="What people call the subject.")
    period = serializers.ChoiceField(choices=Budget.Period.choices, default=Budget.Period.MONTHLY)
    starts = serializers.DateField(default=None, allow_null=True, write_only=True)
    ends = serializers.DateField(default=None, allow_null=True, write_only=True, help_text="The last day, included.")
    begins_at = serializers.DateTimeField(read_only=True)
    ends_at = serializers.DateTimeField(read_only=True, help_text="Exclusive.")
    usd = serializers.DecimalField(max_digits=14, decimal_places=2)
    hard = serializers.BooleanField(default=True)
    alert_percents = serializers.ListField(child=serializers.IntegerField(min_value=1, max_value=500), required=False)
    spent_usd = serializers.CharField(read_only=True)
    held_usd = serializers.CharField(read_only=True)
    credit_usd = serializers.CharField(read_only=True)
    left_usd = serializers.CharField(read_only=True)


class BudgetsView(APIView):
    permission_classes = [KeepsMoney]

    @extend_schema(responses=BudgetSerializer(many=True), operation_id="budgets_list")
    def get(self, request: Request) -> Response:
        return Response([_shown(one) for one in budgets.standings(team_of(request))])

    @extend_schema(request=BudgetSerializer, responses={201: BudgetSerializer})
    def post(self, request: Request) -> Response:
        return Response(_saved(request, None), status=status.HTTP_201_CREATED)


class BudgetView(APIView):
    permission_classes = [KeepsMoney]

    @extend_schema(responses=BudgetSerializer)
    def get(self, request: Request, pk: int) -> Response:
        return Response(_shown(_standing(_found(request, pk))))

    @extend_schema(request=BudgetSerializer, responses=BudgetSerializer)
    def put(self, request: Request, pk: int) -> Response:
        return Response(_saved(request, _found(request, pk)))

    @extend_schema(responses={204: None})
    def delete(self, request: Request, pk: int) -> Response:
        row = _found(request, pk)
        audit.record(row.team, actor=actor_of(request), verb="deleted the budget", subject=str(row), before=said(row))
        row.delete()
        return Response(status=status.HTTP_204_NO_CONTENT)


def _found(request: Request, pk: int) -> Budget:
    return get_object_or_404(Budget.objects.select_related("team"), team=team_of(request), pk=pk)


def _saved(request: Request, row: Budget | None) -> dict[str, Any]:
    wish = BudgetSerializer(data=request.data)
    wish.is_valid(raise_exception=True)
    given = dict(wish.validated_data)
    percents = given.get("alert_percents", row.alert_percents if row else [50, 80, 100])
    given |= {"about": f"{given['scope']}:{given['subject']}", "alert_percents": ", ".join(map(str, percents))}
    form = BudgetForm(given, team=team_of(request), budget=row)
    if not form.is_valid():
        names = {"about": "subject", "__all__": "non_field_errors"}
        raise ValidationError(
            {names.get(name, name): [str(text) for text in texts] for name, texts in form.errors.items()}
        )
    before = said(row)
    saved = form.save()
    credits.refresh(saved.team, now=timezone.now())
    saved.refresh_from_db()
    audit.record(
        saved.team, actor=actor_of(request), verb="set the budget", subject=str(saved), before=before, after=said(saved)
    )
    return _shown(_standing(saved))


def _standing(row: Budget) -> Standing:
    return budgets.standing_of(row, now=timezone.now())


def _shown(standing: Standing) -> dict[str, Any]:
    row = standing.budget
    names = ("id", "scope", "subject", "period", "hard", "alert_percents")
    return {name: getattr(row, name) for name in names} | {
        "name": row.label,
        "usd": f"{row.usd:f}",
        "begins_at": standing.begins.isoformat(),
        "ends_at": standing.ends.isoformat(),
        "spent_usd": plain(standing.settled),
        "held_usd": plain(standing.held),
        "credit_usd": plain(standing.credit),
        "left_usd": plain(standing.left),
    }
