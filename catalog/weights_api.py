"""/api/v1/weights: the team's weights, imports from the Hub, and the team's token for it."""

from typing import Any
from uuid import UUID

from django.http import Http404
from drf_spectacular.utils import extend_schema
from rest_framework import serializers, status
from rest_framework.exceptions import PermissionDenied, ValidationError
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts import http
from accounts.drf import Pages, actor_of, team_of
from accounts.models import ApiKey, Team
from accounts.problems import status_title
from catalog import cards, hub_tokens, importing, library, removing, restating, tasks
from catalog.errors import HubError, InUse, Refused
from catalog.importing import Found
from catalog.models import HubToken, Licence, Model, Weights


class FileSerializer(serializers.Serializer[Any]):
    name = serializers.CharField()
    size_bytes = serializers.IntegerField()
    sha256 = serializers.CharField(allow_null=True, help_text="Of what is stored; null until it is known.")


class WeightsSerializer(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    model = serializers.CharField(help_text="The slug to deploy.")
    version = serializers.IntegerField()
    revision = serializers.CharField()
    kind = serializers.ChoiceField(Weights.Kind.choices)
    source_kind = serializers.ChoiceField(Weights.SourceKind.choices)
    repo = serializers.CharField(allow_null=True)
    commit = serializers.CharField(allow_null=True)
    format = serializers.CharField()
    status = serializers.CharField()
    reason = serializers.CharField()
    detail = serializers.CharField()
    size_bytes = serializers.IntegerField()
    bytes_done = serializers.IntegerField(help_text="Downloaded so far; while verifying, read so far.")
    bytes_per_s = serializers.IntegerField()
    seconds_left = serializers.IntegerField(allow_null=True)
    sha256 = serializers.CharField(allow_null=True)
    base = serializers.CharField(allow_null=True)
    licence = serializers.CharField(allow_null=True)
    licence_warning = serializers.CharField()
    notes = serializers.CharField()
    facts = serializers.DictField()
    used_by = serializers.ListField(child=serializers.CharField())
    files = FileSerializer(many=True)
    created_at = serializers.DateTimeField()


class TermsSerializer(serializers.Serializer[Any]):
    base = serializers.CharField(
        required=False, allow_null=True, max_length=100, help_text="The slug of what they were tuned from; null: none."
    )
    licence = serializers.CharField(
        required=False, allow_null=True, max_length=60, help_text="A licence's slug; null: as the base's."
    )
    notes = serializers.CharField(required=False, allow_blank=True, max_length=10_000)


class ImportSerializer(serializers.Serializer[Any]):
    repo = serializers.CharField(max_length=500, help_text="org/name, org/name@revision, or its address on the Hub.")
    revision = serializers.CharField(required=False, default="", allow_blank=True, max_length=100)
    file = serializers.CharField(
        required=False, default="", allow_blank=True, max_length=300,
        help_text="Which of several GGUF files: its name, or its quantisation such as Q4_K_M.",
    )  # fmt: skip


class NewImportSerializer(ImportSerializer):
    notes = serializers.CharField(required=False, default="", allow_blank=True, max_length=10_000)


class ChoiceSerializer(serializers.Serializer[Any]):
    label = serializers.CharField()  # type: ignore[assignment]
    format = serializers.CharField()
    file = serializers.CharField()
    size_bytes = serializers.IntegerField()


class FoundSerializer(serializers.Serializer[Any]):
    repo = serializers.CharField()
    revision = serializers.CharField()
    commit = serializers.CharField()
    gated = serializers.BooleanField()
    format = serializers.CharField()
    file = serializers.CharField()
    size_bytes = serializers.IntegerField()
    known_bytes = serializers.IntegerField(help_text="Of these, so many are on the portal's disk already.")
    parameters = serializers.IntegerField(allow_null=True)
    context_tokens = serializers.IntegerField(allow_null=True)
    modalities = serializers.ListField(child=serializers.CharField())
    architecture = serializers.CharField()
    licence = serializers.CharField(allow_null=True)
    licence_said = serializers.CharField(help_text="As the Hub calls it.")
    licence_warning = serializers.CharField()
    base = serializers.CharField(allow_null=True)
    engine = serializers.CharField(allow_null=True)
    hardware = serializers.ListField(child=serializers.CharField())
    choices = ChoiceSerializer(many=True)
    files = FileSerializer(many=True)
    notes = serializers.ListField(child=serializers.CharField())
    weights = serializers.UUIDField(allow_null=True, help_text="The same, if the team has it already.")


class TokenSerializer(serializers.Serializer[Any]):
    token = serializers.CharField(write_only=True, max_length=300)


class TokenStateSerializer(serializers.Serializer[Any]):
    is_set = serializers.BooleanField()
    account = serializers.CharField(allow_null=True, help_text="Whose token the Hub says it is.")
    set_by = serializers.CharField(allow_null=True)
    set_at = serializers.DateTimeField(allow_null=True)


class WeightsView(APIView):
    """What goes wrong, said as RFC 9457 does."""

    def handle_exception(self, exc: Exception) -> Response:
        match exc:
            case Refused():
                return _problem(400, str(exc), code=exc.code, errors={exc.field: [str(exc)]})
            case InUse():
                return _problem(409, str(exc), code="in_use")
            case HubError():
                return _problem(502, str(exc), code="hub_away")
            case _:
                return super().handle_exception(exc)


class WeightsList(WeightsView):
    @extend_schema(responses=WeightsSerializer(many=True))
    def get(self, request: Request) -> Response:
        """The newest first; removed ones are left out."""
        pages = Pages()
        rows = pages.paginate_queryset(cards.of(team_of(request)), request, view=self) or []
        return pages.get_paginated_response([as_json(row) for row in rows])


class WeightsDetail(WeightsView):
    @extend_schema(responses=WeightsSerializer)
    def get(self, request: Request, pk: UUID) -> Response:
        """Ask again while `status` is downloading or verifying."""
        return Response(as_json(_own(team_of(request), pk)))

    @extend_schema(responses={204: None})
    def delete(self, request: Request, pk: UUID) -> Response:
        """Remove them: files at once, content with the last that has it. 409 while something uses them."""
        removing.remove(_own(team_of(request), pk), actor=actor_of(request))
        return Response(status=status.HTTP_204_NO_CONTENT)

    @extend_schema(request=TermsSerializer, responses=WeightsSerializer)
    def patch(self, request: Request, pk: UUID) -> Response:
        """Other notes, another base or licence; what is left out stays. 403: of what a publisher stated, only an owner
        or admin, signed in, may state otherwise."""
        weights, asked = _own(team_of(request), pk), _asked(TermsSerializer, request)
        wish = _wish(team_of(request), asked)
        if wish and (reason := restating.why_not(weights, _role(request))):
            raise PermissionDenied(reason)
        if wish:
            restating.restate(weights, actor=actor_of(request), **wish)
        if "notes" in asked:
            cards.annotate(weights, asked["notes"], actor=actor_of(request))
        return Response(as_json(_own(team_of(request), pk)))


class WeightsRetry(WeightsView):
    @extend_schema(request=None, responses={202: WeightsSerializer})
    def post(self, request: Request, pk: UUID) -> Response:
        """A failed import goes on with what it has."""
        weights = _own(team_of(request), pk)
        importing.retry(weights, actor=actor_of(request))
        tasks.ring(weights.pk)
        weights.refresh_from_db()
        return Response(as_json(weights), status=status.HTTP_202_ACCEPTED)


class ImportList(WeightsView):
    @extend_schema(request=NewImportSerializer, responses={201: WeightsSerializer})
    def post(self, request: Request) -> Response:
        """Look first, then begin: the answer's `status` is downloading, later ready or failed with its reason."""
        asked = _asked(NewImportSerializer, request)
        weights = importing.begin(
            team_of(request), asked["repo"], revision=asked["revision"], file=asked["file"], notes=asked["notes"],
            actor=actor_of(request),
        )  # fmt: skip
        tasks.ring(weights.pk)
        return Response(as_json(weights), status=status.HTTP_201_CREATED)


class ImportPreflight(WeightsView):
    @extend_schema(request=ImportSerializer, responses={200: FoundSerializer})
    def post(self, request: Request) -> Response:
        """What is there and would come, and nothing else happens; refusals are those of an import."""
        asked = _asked(ImportSerializer, request)
        found = importing.preflight(team_of(request), asked["repo"], revision=asked["revision"], file=asked["file"])
        return Response(found_as_json(found))


class HubTokenDetail(WeightsView):
    @extend_schema(operation_id="hub_token_retrieve", responses=TokenStateSerializer)
    def get(self, request: Request) -> Response:
        """Whether there is one and whose it is; never the token."""
        return Response(_token_as_json(HubToken.objects.filter(team=team_of(request)).first()))

    @extend_schema(operation_id="hub_token_set", request=TokenSerializer, responses=TokenStateSerializer)
    def put(self, request: Request) -> Response:
        """Set it, once the Hub has said whose it is."""
        asked = _asked(TokenSerializer, request)
        return Response(_token_as_json(hub_tokens.keep(team_of(request), asked["token"], actor=actor_of(request))))

    @extend_schema(operation_id="hub_token_delete", responses={204: None})
    def delete(self, request: Request) -> Response:
        hub_tokens.forget(team_of(request), actor=actor_of(request))
        return Response(status=status.HTTP_204_NO_CONTENT)


def _wish(team: Team, asked: dict[str, Any]) -> dict[str, Any]:
    """What is said of base and licence, by their rows. Raises ValidationError for what is not there."""
    wish: dict[str, Any] = {}
    if "base" in asked:
        slug = asked["base"]
        open_ = library.visible_to(team).exclude(openness=Model.Openness.CLOSED)
        wish["base"] = open_.filter(slug=slug).first() if slug else None
        if slug and wish["base"] is None:
            raise ValidationError({"base": [f"No open model {slug}; GET /api/v1/models lists them."]})
    if "licence" in asked:
        slug = asked["licence"]
        wish["licence"] = Licence.objects.filter(slug=slug).first() if slug else None
        if slug and wish["licence"] is None:
            raise ValidationError({"licence": [f"No licence {slug}."]})
    return wish


def _role(request: Request) -> str:
    """Of who asks; a key may what a developer may."""
    if isinstance(request.auth, ApiKey):
        return restating.ROLE_OF_KEYS
    membership = http.current_membership(request._request)
    return membership.role if membership else ""


def as_json(weights: Weights) -> dict[str, Any]:
    licence = weights.licence or weights.model.licence
    return {
        "id": str(weights.pk),
        "model": weights.model.slug,
        "version": weights.version,
        "revision": weights.revision,
        "kind": weights.kind,
        "source_kind": weights.source_kind,
        "repo": weights.repo or None,
        "commit": weights.commit or None,
        "format": weights.format,
        "status": weights.status,
        "reason": weights.get_reason_display(),
        "detail": weights.detail,
        "size_bytes": weights.size_bytes,
        "bytes_done": weights.bytes_done,
        "bytes_per_s": weights.bytes_per_s,
        "seconds_left": weights.seconds_left,
        "sha256": weights.sha256 or None,
        "base": weights.base_name or None,
        "licence": str(licence),
        "licence_warning": weights.licence_warning,
        "notes": weights.notes,
        "facts": weights.facts,
        "used_by": removing.users_of(weights),
        "files": [
            {"name": file.name, "size_bytes": file.size_bytes, "sha256": file.sha256 or None}
            for file in weights.files.all()
        ],
        "created_at": weights.created_at.isoformat(),
    }


def found_as_json(found: Found) -> dict[str, Any]:
    return {
        "repo": found.repo,
        "revision": found.revision,
        "commit": found.commit,
        "gated": found.is_gated,
        "format": found.format,
        "file": found.variant.file,
        "size_bytes": found.size_bytes,
        "known_bytes": found.known_bytes,
        "parameters": found.parameters,
        "context_tokens": found.context_tokens,
        "modalities": list(found.modalities),
        "architecture": found.architecture,
        "licence": str(found.licence) if found.licence else None,
        "licence_said": found.licence_said,
        "licence_warning": found.licence_warning,
        "base": found.base_name or None,
        "engine": found.engine or None,
        "hardware": [hardware.slug for hardware in found.hardware],
        "choices": [
            {"label": one.label, "format": one.format, "file": one.file, "size_bytes": one.size_bytes}
            for one in found.choices
        ],
        "files": [
            {"name": file.name, "size_bytes": file.size_bytes, "sha256": file.sha256 or None}
            for file in found.variant.files
        ],
        "notes": list(found.notes),
        "weights": str(found.already.pk) if found.already else None,
    }


def _token_as_json(row: HubToken | None) -> dict[str, Any]:
    return {
        "is_set": row is not None,
        "account": row.account if row else None,
        "set_by": row.set_by if row else None,
        "set_at": row.set_at.isoformat() if row else None,
    }


def _asked(kind: type[serializers.Serializer[Any]], request: Request) -> dict[str, Any]:
    asked = kind(data=request.data)
    asked.is_valid(raise_exception=True)
    return dict(asked.validated_data)


def _own(team: Team, pk: UUID) -> Weights:
    """The team's own, or 404: another team's does not exist here."""
    weights = cards.of(team).filter(pk=pk).first()
    if weights is None:
        raise Http404
    return weights


def _problem(status_code: int, text: str, **more: Any) -> Response:
    body = {"type": "about:blank", "title": status_title(status_code), "status": status_code, "detail": text} | more
    return Response(body, status_code, content_type="application/problem+json")
