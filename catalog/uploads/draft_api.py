"""/api/v1/weights/drafts: uploads gathered under a name, for programs."""

from typing import Any
from uuid import UUID

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers, status
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts.drf import Pages, actor_of, team_of
from accounts.models import Team
from catalog import library
from catalog.models import Licence
from catalog.uploads import api, drafts, tasks
from catalog.uploads.drafts import Card
from catalog.uploads.models import Draft


class CardSerializer(serializers.Serializer[Any]):
    base_model = serializers.CharField(required=False, default="", help_text="The slug of what they were tuned from.")
    licence = serializers.CharField(required=False, default="", help_text="Its slug; left out: the base's.")
    notes = serializers.CharField(required=False, default="", max_length=10_000)


class DraftSerializer(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    name = serializers.CharField()
    status = serializers.ChoiceField(Draft.Status.choices)
    reason = serializers.CharField(help_text="Why it was refused, and what to do.")
    length = serializers.IntegerField()
    checked_bytes = serializers.IntegerField(help_text="How far the verification has come.")
    base_model = serializers.CharField(allow_null=True)
    licence = serializers.CharField(allow_null=True)
    notes = serializers.CharField()
    weights = serializers.UUIDField(allow_null=True, help_text="What it became.")
    files = api.UploadSerializer(many=True)


class DraftList(APIView):
    @extend_schema(responses=DraftSerializer(many=True), parameters=[OpenApiParameter("name", str)])
    def get(self, request: Request) -> Response:
        """The newest first."""
        found = drafts.of(team_of(request))
        if name := request.query_params.get("name"):
            found = [draft for draft in found if draft.name == name]
        pages = Pages()
        rows: Any = pages.paginate_queryset(found, request, view=self)  # type: ignore[arg-type]
        return pages.get_paginated_response([as_json(draft) for draft in rows or []])


class DraftDetail(api.RefusingView):
    @extend_schema(responses=DraftSerializer)
    def get(self, request: Request, pk: UUID) -> Response:
        """A draft with its files; ask again while its `status` is verifying."""
        return Response(as_json(drafts.find(team_of(request), pk)))

    @extend_schema(responses={204: None})
    def delete(self, request: Request, pk: UUID) -> Response:
        """Give it up: all its files are removed at once."""
        drafts.give_up(drafts.find(team_of(request), pk), actor=actor_of(request))
        return Response(status=status.HTTP_204_NO_CONTENT)


class DraftFinish(api.RefusingView):
    @extend_schema(request=CardSerializer, responses={202: DraftSerializer})
    def post(self, request: Request, pk: UUID) -> Response:
        """All files are here: verify them. The draft's `status` is then verifying, and later ready or refused."""
        team = team_of(request)
        draft = drafts.find(team, pk)
        asked = CardSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        drafts.finish(draft, card(team, **asked.validated_data), actor=actor_of(request))
        tasks.ring(draft.pk)
        return Response(as_json(draft), status=status.HTTP_202_ACCEPTED)


def card(team: Team, *, base_model: str, licence: str, notes: str) -> Card:
    """From slugs to rows, or an error that names the field."""
    base = library.visible_to(team).filter(slug=base_model).first() if base_model else None
    chosen = Licence.objects.filter(slug=licence).first() if licence else None
    if base_model and base is None:
        raise ValidationError({"base_model": [f"No model {base_model}; GET /api/v1/models lists them."]})
    if licence and chosen is None:
        raise ValidationError({"licence": [f"No licence {licence}; leave it out to take the base model's."]})
    return Card(base=base, licence=chosen, notes=notes)


def as_json(draft: Draft) -> dict[str, Any]:
    rows = drafts.files(draft)
    return {
        "id": str(draft.pk),
        "name": draft.name,
        "status": draft.status,
        "reason": draft.reason,
        "length": sum(row.length for row in rows),
        "checked_bytes": draft.checked_bytes,
        "base_model": draft.base.slug if draft.base else None,
        "licence": draft.licence_id,
        "notes": draft.notes,
        "weights": str(draft.weights_id) if draft.weights_id else None,
        "files": [api.as_json(row) for row in rows],
    }
