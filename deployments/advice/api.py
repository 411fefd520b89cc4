"""/api/v1/advice: the path advisor for programs. The same question, the same answer."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.exceptions import NotFound, ValidationError
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts.drf import HasTeam, team_of
from accounts.models import ApiKey
from billing.statements import exact
from deployments.advice import asking, assumptions, gathering, words
from deployments.advice.asking import Answer
from deployments.advice.forms import CALLS, FIRST, PRICES, SHAPES, TOKENS, AdviceForm
from deployments.advice.reckoning import Choice

# A field of the body -> the form's.
NAMES = {
    "input_tokens": "input", "output_tokens": "output", "cached_percent": "cached", "shape": "shape", "days": "days",
    "times": "times", "minutes": "minutes", "peak": "peak", "first_token_ms": "first_token_ms",
    "tokens_per_s": "tokens_per_s", "idle_window_s": "idle", "max_replicas": "most", "min_replicas": "always",
    "own_cached_percent": "own_cached",
}  # fmt: skip
HARDWARE_NAMES = {
    "price_per_hour": "hour", "reads_tokens_per_s": "reads", "writes_tokens_per_s": "writes", "at_once": "at_once",
    "start_s": "start", "source": "source",
}  # fmt: skip


class AnyMember(HasTeam):
    """Nothing is changed: every role may ask, and every key that has the scope."""

    def has_permission(self, request: Request, view: Any) -> bool:
        if isinstance(request.auth, ApiKey):
            return super().has_permission(request, view)
        return team_of(request) is not None


class EnteredSerializer(serializers.Serializer[Any]):
    """What is known of a hardware from elsewhere."""

    hardware = serializers.CharField(max_length=60)
    price_per_hour = serializers.CharField(required=False, max_length=30, help_text="USD, a decimal.")
    reads_tokens_per_s = serializers.FloatField(required=False, help_text="Of all callers together.")
    writes_tokens_per_s = serializers.FloatField(required=False, help_text="Of all callers together.")
    at_once = serializers.IntegerField(required=False, help_text="With so many calls at once; 4.")
    start_s = serializers.FloatField(required=False, help_text="How long a start takes.")
    source = serializers.CharField(required=False, max_length=200, help_text="Needed with a speed.")  # type: ignore[assignment]


class QuestionSerializer(serializers.Serializer[Any]):
    model = serializers.CharField(max_length=100, help_text="The model's slug.")
    tokens_per_month = serializers.CharField(required=False, max_length=30, help_text="In and out; 100000000, or 2 B.")
    calls_per_month = serializers.CharField(required=False, max_length=30, help_text="Instead of tokens_per_month.")
    input_tokens = serializers.IntegerField(default=FIRST["input"], help_text="Of one call.")
    output_tokens = serializers.IntegerField(default=FIRST["output"], help_text="Of one call.")
    cached_percent = serializers.FloatField(default=0, help_text="Of the prompt, read from the provider's cache.")
    shape = serializers.ChoiceField([name for name, _ in SHAPES], default="steady")
    days = serializers.IntegerField(required=False, help_text="A week; empty: the shape's.")
    times = serializers.IntegerField(required=False, help_text="A day; empty: the shape's.")
    minutes = serializers.IntegerField(required=False, help_text="Each time; empty: the shape's.")
    peak = serializers.FloatField(required=False, help_text="Times the even flow, at the busiest moment; 1.")
    accepts_cold_starts = serializers.BooleanField(default=True)
    first_token_ms = serializers.FloatField(required=False, help_text="The wish; empty: any.")
    tokens_per_s = serializers.FloatField(required=False, help_text="The wish for one caller; empty: any.")
    idle_window_s = serializers.IntegerField(required=False, help_text="Empty: a deployment's default.")
    max_replicas = serializers.IntegerField(required=False, help_text="Empty: as many as are needed.")
    min_replicas = serializers.IntegerField(required=False, help_text="Always on; empty: as many as are needed.")
    own_cached_percent = serializers.FloatField(required=False, help_text="Not read again by own replicas; 0.")
    prices = serializers.DictField(
        child=serializers.CharField(max_length=30), required=False, default=dict,
        help_text='Assumed hosted prices by meter, USD for a million tokens: {"tokens.output": "2.78"}.',
    )  # fmt: skip
    hardware = EnteredSerializer(many=True, required=False)


class LineSerializer(serializers.Serializer[Any]):
    meter = serializers.CharField()
    quantity = serializers.CharField()
    unit_price = serializers.CharField()
    amount = serializers.CharField()


class BreakEvenSerializer(serializers.Serializer[Any]):
    calls_per_month = serializers.IntegerField()
    tokens_per_month = serializers.CharField()
    becomes_cheaper = serializers.BooleanField(help_text="Than hosted, from there on; false: up to there.")
    usd_per_month = serializers.CharField()


class WaySerializer(serializers.Serializer[Any]):
    way = serializers.ChoiceField(["hosted", "serverless", "always-on"])
    hardware = serializers.CharField(allow_null=True)
    usd_per_month = serializers.CharField(allow_null=True, help_text="null: not possible, or not known.")
    lines = LineSerializer(many=True)
    not_possible = serializers.CharField(allow_null=True)
    not_known = serializers.ListField(child=serializers.CharField())
    unfit = serializers.CharField(allow_null=True, help_text="Why it is not what was wished.")
    replicas = serializers.IntegerField(allow_null=True, help_text="The most at once.")
    starts_per_month = serializers.FloatField(allow_null=True)
    waiting_calls_per_month = serializers.FloatField(allow_null=True, help_text="That come while nothing is ready.")
    offered = serializers.BooleanField(help_text="A backend of this portal has the hardware; true for hosted.")
    break_even = BreakEvenSerializer(allow_null=True)


class AssumptionSerializer(serializers.Serializer[Any]):
    of = serializers.CharField()
    label = serializers.CharField()  # type: ignore[assignment]
    value = serializers.CharField(allow_null=True)
    source = serializers.CharField()  # type: ignore[assignment]


class AdviceSerializer(serializers.Serializer[Any]):
    model = serializers.CharField()
    answer = serializers.CharField(help_text="In one sentence.")
    reasons = serializers.ListField(child=serializers.CharField())
    calls_per_month = serializers.CharField()
    tokens_per_month = serializers.CharField()
    cheapest = serializers.IntegerField(allow_null=True, help_text="Its place in `ways`.")
    ways = WaySerializer(many=True)
    assumptions = AssumptionSerializer(many=True)


class Advice(APIView):
    permission_classes = [AnyMember]

    @extend_schema(request=QuestionSerializer, responses=AdviceSerializer)
    def post(self, request: Request) -> Response:
        asked = QuestionSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        said = asked.validated_data
        team = team_of(request)
        model = gathering.model_of(team, said["model"])
        if model is None:
            raise NotFound(f"There is no model {said['model']!r}.")
        known = gathering.known(team, model)
        form = AdviceForm(_as_form(said), hardware=[ground.hardware for ground in known.grounds])
        _check(form, said, {ground.hardware.slug for ground in known.grounds})
        return Response(_as_json(asking.answer(team, known, form, now=timezone.now())))


def _as_form(said: Mapping[str, Any]) -> dict[str, Any]:
    data: dict[str, Any] = {name: said[field] for field, name in NAMES.items() if field in said}
    data |= {"model": said["model"], "cold": "yes" if said["accepts_cold_starts"] else "no"}
    if "calls_per_month" in said:
        data |= {"volume": said["calls_per_month"], "unit": CALLS}
    elif "tokens_per_month" in said:
        data |= {"volume": said["tokens_per_month"], "unit": TOKENS}
    meters = {meter.name: name for name, meter in PRICES.items()}
    data |= {meters[meter]: price for meter, price in said["prices"].items() if meter in meters}
    for one in said.get("hardware", ()):
        data |= {f"{name}-{one['hardware']}": one[field] for field, name in HARDWARE_NAMES.items() if field in one}
    return data


def _check(form: AdviceForm, said: Mapping[str, Any], hardware: set[str]) -> None:
    """Errors by the body's own names."""
    errors: dict[str, Any] = {}
    if "calls_per_month" in said and "tokens_per_month" in said:
        errors["calls_per_month"] = ["Give tokens_per_month or calls_per_month, not both."]
    if unknown := sorted(set(said["prices"]) - {meter.name for meter in PRICES.values()}):
        errors["prices"] = [f"No price can be assumed for {unknown[0][:40]!r}."]
    if strange := sorted({one["hardware"] for one in said.get("hardware", ())} - hardware):
        errors["hardware"] = [f"{strange[0]!r} is no hardware of this portal on which this model could run."]
    names = {name: field for field, name in NAMES.items()}
    names |= {"volume": "calls_per_month" if "calls_per_month" in said else "tokens_per_month"}
    names |= {name: f"prices.{meter.name}" for name, meter in PRICES.items()}
    own = {name: field for field, name in HARDWARE_NAMES.items()}
    for field, texts in form.errors.items():
        kind, _, slug = field.partition("-")
        errors[names.get(field) or f"hardware.{slug}.{own.get(kind, kind)}"] = list(texts)
    if errors:
        raise ValidationError(errors)


def _as_json(answer: Answer) -> dict[str, Any]:
    advice, traffic = answer.advice, answer.advice.question.traffic
    rows = {"traffic": assumptions.of_traffic(answer), "hosted": assumptions.of_hosted(answer)}
    rows |= {ground.hardware.slug: assumptions.of_ground(answer, ground) for ground in answer.known.grounds}
    return {
        "model": answer.known.model.slug,
        "answer": words.headline(advice),
        "reasons": words.reasons(advice),
        "calls_per_month": _rounded(traffic.calls),
        "tokens_per_month": _rounded(traffic.calls * traffic.tokens_per_call),
        "cheapest": advice.choices.index(advice.best) if advice.best else None,
        "ways": [_way(answer, choice) for choice in advice.choices],
        "assumptions": [
            {"of": of, "label": one.label, "value": one.value or None, "source": one.source}
            for of, found in rows.items()
            for one in found
        ],
    }


def _way(answer: Answer, choice: Choice) -> dict[str, Any]:
    cost, crossing = choice.cost, choice.crossing
    per_call = answer.advice.question.traffic.tokens_per_call
    return {
        "way": str(cost.way),
        "hardware": cost.machine.slug if cost.machine else None,
        "usd_per_month": exact(cost.monthly) if cost.monthly is not None else None,
        "lines": [
            {
                "meter": line.meter,
                "quantity": exact(line.quantity),
                "unit_price": exact(line.unit_price),
                "amount": exact(line.amount),
            }
            for line in cost.lines
        ],
        "not_possible": cost.why_not or None,
        "not_known": [gap.text for gap in cost.gaps],
        "unfit": choice.unfit or None,
        "replicas": cost.uptime.most if cost.uptime else None,
        "starts_per_month": round(cost.uptime.wakes, 3) if cost.uptime else None,
        "waiting_calls_per_month": round(cost.uptime.held, 3) if cost.uptime else None,
        "offered": cost.machine.offered if cost.machine else True,
        "break_even": None
        if crossing is None
        else {
            "calls_per_month": crossing.calls,
            "tokens_per_month": _rounded(per_call * crossing.calls),
            "becomes_cheaper": crossing.to_other,
            "usd_per_month": exact(crossing.cost),
        },
    }


def _rounded(count: Decimal) -> str:
    return exact(count.quantize(Decimal("0.001")))
