"""/api/v1/keys: a team's keys made, changed, rotated and revoked; a secret is in the answer that made it, and no other.

A key may do this, too, but widens nothing: it gives no scope that it lacks and no later end than its own, and neither
changes nor rotates a key that holds more.
"""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from django.db.models import QuerySet
from django.shortcuts import get_object_or_404
from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework import serializers, status
from rest_framework.exceptions import PermissionDenied, ValidationError
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts import keyring, keys
from accounts.drf import AsOnThePages, Pages, acting, actor_of, team_of
from accounts.models import ApiKey, Scope, User
from accounts.problems import told
from accounts.roles import MAKERS

LONGEST_OVERLAP = timedelta(days=30)
# The last moment that every time zone can name.
LAST = datetime(2999, 12, 31, tzinfo=UTC)


class HoldsKeys(AsOnThePages):
    message = "Only an owner, admin or developer, or a key that one of them made, may make and change keys."
    writers = MAKERS

    def lets_the_operator(self, *, is_read: bool) -> bool:
        return True


class KeySerializer(serializers.Serializer[Any]):
    id = serializers.UUIDField(read_only=True)
    name = serializers.CharField(max_length=80)
    prefix = serializers.CharField(read_only=True, help_text="How logs and the bill's detail name it.")
    scopes = serializers.ListField(
        child=serializers.ChoiceField(Scope.choices), min_length=1, max_length=8, help_text="What it opens."
    )
    tag = serializers.CharField(
        default="", allow_blank=True, max_length=keys.LONGEST_TAG, help_text="Label of its calls that bring none."
    )
    expires_at = serializers.DateTimeField(default=None, allow_null=True, help_text="Null: it works for ever.")
    state = serializers.CharField(read_only=True, help_text="live, expired or revoked")
    created_by = serializers.EmailField(source="created_by.email", default=None, allow_null=True, read_only=True)
    created_at = serializers.DateTimeField(read_only=True)
    last_used_at = serializers.DateTimeField(read_only=True, allow_null=True)
    revoked_at = serializers.DateTimeField(read_only=True, allow_null=True)
    old_secret_until = serializers.DateTimeField(
        source="old_until", read_only=True, allow_null=True, help_text="How long the secret before still works."
    )
    old_secret_used_at = serializers.DateTimeField(source="old_last_used_at", read_only=True, allow_null=True)

    def validate_scopes(self, scopes: list[str]) -> list[str]:
        return sorted(set(scopes))

    def validate_tag(self, tag: str) -> str:
        if not keys.is_tag(tag):
            raise ValidationError("Only characters that can be printed.")
        return tag

    def validate_expires_at(self, at: datetime | None) -> datetime | None:
        return _to_come(at)


class FreshKeySerializer(KeySerializer):
    key = serializers.CharField(read_only=True, help_text="The secret, this once.")


class KeyChangeSerializer(KeySerializer):
    """What is left out stays. Its end is changed by a rotation alone."""

    expires_at = serializers.DateTimeField(read_only=True, allow_null=True)  # type: ignore[assignment]


class RotationSerializer(serializers.Serializer[Any]):
    overlap_s = serializers.IntegerField(
        default=86400, min_value=0, max_value=int(LONGEST_OVERLAP.total_seconds()),
        help_text="How long the secret that it has now still works.",
    )  # fmt: skip
    expires_at = serializers.DateTimeField(
        required=False, allow_null=True, help_text="Another end for the key; left out: as before, null: none."
    )

    def validate_expires_at(self, at: datetime | None) -> datetime | None:
        return _to_come(at)


class KeysView(APIView):
    permission_classes = [HoldsKeys]

    @extend_schema(responses=KeySerializer(many=True), operation_id="keys_list")
    def get(self, request: Request) -> Response:
        """The newest first, revoked and expired ones too; never a secret."""
        pages = Pages()
        rows = pages.paginate_queryset(_keys(request), request, view=self)
        return pages.get_paginated_response([_shown(row) for row in rows or []])

    @extend_schema(request=KeySerializer, responses={201: FreshKeySerializer})
    def post(self, request: Request) -> Response:
        wish = KeySerializer(data=request.data)
        wish.is_valid(raise_exception=True)
        asked, team = wish.validated_data, team_of(request)
        _widens_nothing(request, scopes=asked["scopes"])
        _ends_no_later(request, asked["expires_at"])
        maker = request.user if isinstance(request.user, User) else None
        with told():
            row, text = keyring.issue(team, actor=actor_of(request), created_by=maker, **asked)
        return Response(_shown(row) | {"key": text}, status=status.HTTP_201_CREATED)


class KeyView(APIView):
    permission_classes = [HoldsKeys]

    @extend_schema(responses=KeySerializer)
    def get(self, request: Request, pk: UUID) -> Response:
        return Response(_shown(_key(request, pk)))

    @extend_schema(request=KeyChangeSerializer, responses=KeySerializer)
    def patch(self, request: Request, pk: UUID) -> Response:
        """Another name, other scopes, another tag; gateways follow within 5 seconds."""
        row = _key(request, pk)
        wish = KeyChangeSerializer(data=request.data, partial=True)
        wish.is_valid(raise_exception=True)
        _widens_nothing(request, scopes=[*row.scopes, *wish.validated_data.get("scopes", [])])
        with told():
            keyring.change(row, by=acting(request), actor=actor_of(request), **wish.validated_data)
        return Response(_shown(row))

    @extend_schema(responses={204: None})
    def delete(self, request: Request, pk: UUID) -> Response:
        """Revoke it: who uses it is refused within 5 seconds. Again changes nothing."""
        keyring.revoke(_key(request, pk), actor=actor_of(request))
        return Response(status=status.HTTP_204_NO_CONTENT)


class KeyRotateView(APIView):
    permission_classes = [HoldsKeys]

    @extend_schema(request=RotationSerializer, responses=FreshKeySerializer)
    def post(self, request: Request, pk: UUID) -> Response:
        """A new secret for the same key: its limits, budgets and its line on the bill stay."""
        row = _key(request, pk)
        wish = RotationSerializer(data=request.data)
        wish.is_valid(raise_exception=True)
        asked = dict(wish.validated_data)
        overlap = timedelta(seconds=asked.pop("overlap_s"))
        _widens_nothing(request, scopes=row.scopes)
        _ends_no_later(request, asked.get("expires_at", row.expires_at))
        with told():
            text = keyring.rotate(row, by=acting(request), actor=actor_of(request), overlap=overlap, **asked)
        return Response(_shown(row) | {"key": text})


def _keys(request: Request) -> QuerySet[ApiKey]:
    return team_of(request).api_keys.select_related("created_by", "team")


def _key(request: Request, pk: UUID) -> ApiKey:
    return get_object_or_404(_keys(request), pk=pk)


def _shown(row: ApiKey) -> dict[str, Any]:
    return dict(KeySerializer(row).data)


def _to_come(at: datetime | None) -> datetime | None:
    if at and at <= timezone.now():
        raise ValidationError("That moment is over: name one to come.")
    if at and at >= LAST:
        raise ValidationError("That is very far off: send null, and it works for ever.")
    return at


def _widens_nothing(request: Request, *, scopes: list[str]) -> None:
    if isinstance(request.auth, ApiKey) and (more := sorted(set(scopes) - set(request.auth.scopes))):
        raise PermissionDenied(
            f"This key doesn't hold {', '.join(more)} itself: it neither gives that nor touches a key that has it.",
            code="wider_than_this_key",
        )


def _ends_no_later(request: Request, at: datetime | None) -> None:
    own = request.auth.expires_at if isinstance(request.auth, ApiKey) else None
    if own is not None and (at is None or at > own):
        raise PermissionDenied(
            f"This key works until {own.isoformat()}: no key that it makes or rotates may work longer.",
            code="wider_than_this_key",
        )
