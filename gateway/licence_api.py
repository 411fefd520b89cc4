"""/api/v1/licences: under which terms a model can be used, the team's policy, and what it has agreed to."""

from typing import Any

from django.db import transaction
from drf_spectacular.utils import extend_schema
from rest_framework import serializers, status
from rest_framework.exceptions import APIException, ValidationError
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts.drf import Pages, WritesSignedIn, actor_of, team_of
from accounts.models import Team
from accounts.roles import MANAGERS
from catalog import library
from catalog.errors import BadPolicy
from catalog.licensing import agreements, stating
from catalog.licensing.models import LicenceAgreement
from catalog.licensing.policy import Standing, Use, Verdict
from catalog.models import Model


class Changed(APIException):
    status_code = status.HTTP_409_CONFLICT
    default_code = "licence_changed"


class Manages(WritesSignedIn):
    """Read for every role and key; write for owner and admin, in the browser's session."""

    message = "Only an owner or admin, signed in, may change the licence policy."
    writers = MANAGERS


class StandingSerializer(serializers.Serializer[Any]):
    licence = serializers.CharField()
    name = serializers.CharField()
    kind = serializers.CharField()
    words = serializers.CharField(help_text="What it says, in plain words.")
    url = serializers.CharField()
    text = serializers.CharField(help_text="What is agreed to: the text, or the statement where it is not at hand.")
    text_sha256 = serializers.CharField()
    use = serializers.ChoiceField(Use.choices)
    policy = serializers.ChoiceField(Verdict.choices)
    agreed = serializers.BooleanField()
    changed = serializers.BooleanField(help_text="The team has agreed to an earlier text of it.")
    allowed = serializers.BooleanField(help_text="Whether it can be used so now.")


class AskedSerializer(serializers.Serializer[Any]):
    model = serializers.CharField(max_length=100, help_text="Its slug.")
    use = serializers.ChoiceField(Use.choices, required=False, help_text="Left out: the team's default.")


class AgreementSerializer(serializers.Serializer[Any]):
    id = serializers.IntegerField(read_only=True)
    model = serializers.CharField(max_length=100, help_text="The model's slug.")
    licence = serializers.CharField(max_length=60, help_text="The licence's slug, as /api/v1/licences says it.")
    licence_name = serializers.CharField(read_only=True)
    use = serializers.ChoiceField(Use.choices)
    text_sha256 = serializers.CharField(max_length=64, help_text="Of just what you agree to.")
    text = serializers.CharField(read_only=True)
    url = serializers.CharField(read_only=True)
    agreed_by = serializers.CharField(read_only=True)
    agreed_at = serializers.DateTimeField(read_only=True)


class RuleSerializer(serializers.Serializer[Any]):
    subject = serializers.CharField(max_length=70, help_text="A licence's slug, or kind:KIND.")
    use = serializers.ChoiceField(Use.choices)
    verdict = serializers.ChoiceField([*Verdict.choices, ("", "as its kind")], allow_blank=True)


class NamedUseSerializer(serializers.Serializer[Any]):
    name = serializers.CharField(max_length=200, help_text="A model, TEAM/DEPLOYMENT or TEAM/ALIAS.")
    use = serializers.ChoiceField([*Use.choices, ("", "the default")], allow_blank=True)


class PolicySerializer(serializers.Serializer[Any]):
    """What is left out of a PATCH stays; an empty verdict or use is the default again."""

    default_use = serializers.ChoiceField(Use.choices, required=False)
    rules = RuleSerializer(many=True, required=False)
    uses = NamedUseSerializer(many=True, required=False)


class LicencesView(APIView):
    @extend_schema(
        responses=StandingSerializer(many=True), parameters=[AskedSerializer], operation_id="licences_of_a_model"
    )
    def get(self, request: Request) -> Response:
        asked = AskedSerializer(data=request.query_params)
        asked.is_valid(raise_exception=True)
        team = team_of(request)
        policy = agreements.policy_of(team.pk)
        use = asked.validated_data.get("use") or policy.default_use
        model = _model(team, asked.validated_data["model"])
        return Response([_standing(one) for one in agreements.standings(policy, stating.all_of(model), use)])


class AgreementsView(APIView):
    @extend_schema(responses=AgreementSerializer(many=True))
    def get(self, request: Request) -> Response:
        pages = Pages()
        rows = pages.paginate_queryset(LicenceAgreement.objects.filter(team=team_of(request)), request, view=self)
        return pages.get_paginated_response(AgreementSerializer(rows or [], many=True).data)

    @extend_schema(request=AgreementSerializer, responses={201: AgreementSerializer})
    def post(self, request: Request) -> Response:
        """Agree, for the team, to just the text with this sha256; again changes nothing."""
        wish = AgreementSerializer(data=request.data)
        wish.is_valid(raise_exception=True)
        asked, team = wish.validated_data, team_of(request)
        found = [one for one in stating.all_of(_model(team, asked["model"])) if one.licence == asked["licence"]]
        if not found:
            raise ValidationError({"licence": [f"{asked['model']} is not under {asked['licence']}."]})
        terms = next((one for one in found if one.sha256 == asked["text_sha256"]), None)
        if terms is None:
            raise Changed("That is not its text now: read it again with GET /api/v1/licences.")
        policy = agreements.policy_of(team.pk)
        if policy.verdict(terms, asked["use"]) == Verdict.DENY:
            raise ValidationError({"use": [f"The team's policy denies {terms.name} for {asked['use']} use."]})
        row = agreements.agree(team, terms, use=asked["use"], model=asked["model"], actor=actor_of(request))
        return Response(AgreementSerializer(row).data, status=status.HTTP_201_CREATED)


class PolicyView(APIView):
    permission_classes = [Manages]

    @extend_schema(responses=PolicySerializer)
    def get(self, request: Request) -> Response:
        return Response(_policy(team_of(request)))

    @extend_schema(request=PolicySerializer, responses=PolicySerializer)
    def patch(self, request: Request) -> Response:
        wish = PolicySerializer(data=request.data)
        wish.is_valid(raise_exception=True)
        asked, team, actor = wish.validated_data, team_of(request), actor_of(request)
        rules = {(rule["subject"], rule["use"]): rule["verdict"] for rule in asked.get("rules", [])}
        try:
            with transaction.atomic():
                agreements.set_rules(team, rules, actor=actor)
                if "default_use" in asked:
                    agreements.set_default_use(team, asked["default_use"], actor=actor)
                for one in asked.get("uses", []):
                    agreements.set_use(team, one["name"], one["use"], actor=actor)
        except BadPolicy as error:
            raise ValidationError({error.field: [str(error)]}) from error
        return Response(_policy(team))


def _model(team: Team, slug: str) -> Model:
    found = library.visible_to(team).filter(slug=slug).first()
    if found is None:
        raise ValidationError({"model": [f"No model {slug[:100]!r}; GET /api/v1/models lists them."]})
    return found


def _standing(one: Standing) -> dict[str, Any]:
    terms = one.terms
    return {
        "licence": terms.licence,
        "name": terms.name,
        "kind": terms.kind,
        "words": terms.words,
        "url": terms.url,
        "text": terms.text,
        "text_sha256": terms.sha256,
        "use": one.use,
        "policy": one.verdict.value,
        "agreed": one.agreed,
        "changed": one.changed,
        "allowed": one.is_open,
    }


def _policy(team: Team) -> dict[str, Any]:
    found = agreements.policy_of(team.pk)
    return {
        "default_use": found.default_use,
        "rules": [
            {"subject": subject, "use": use, "verdict": verdict}
            for (subject, use), verdict in sorted(found.rules.items())
        ],
        "uses": [{"name": name, "use": use} for name, use in sorted(found.uses.items())],
    }
