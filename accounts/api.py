"""/api/v1/audit: who did what in the team. For owners and admins, and for keys that they made."""

from typing import Any

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts import http, trail
from accounts.audit_forms import AuditForm
from accounts.drf import HasTeam, Pages, team_of
from accounts.models import ApiKey, Membership
from accounts.roles import MANAGERS

FILTERS = {
    "actor": "Part of who did it: an e-mail address, a key's prefix.",
    "verb": "All of what was done: `issued the key`.",
    "subject": "Part of what it was done to.",
    "since": "The first day, in the team's time zone.",
    "until": "The last day, included.",
}


class ReadsTheTrail(HasTeam):
    message = "Only an owner or admin, or a key that one of them made, may read the audit log."

    def has_permission(self, request: Request, view: Any) -> bool:
        if not super().has_permission(request, view):
            return False
        if isinstance(request.auth, ApiKey):
            return _made_by_a_manager(request.auth)
        membership = http.current_membership(request._request)
        return membership is not None and membership.role in MANAGERS


class AuditEventSerializer(serializers.Serializer[Any]):
    """`before` and `after` hold what changed, by name; never a secret."""

    id = serializers.IntegerField()
    at = serializers.DateTimeField()
    actor = serializers.CharField()
    verb = serializers.CharField()
    subject = serializers.CharField()
    before = serializers.DictField()
    after = serializers.DictField()
    ip = serializers.IPAddressField(allow_null=True)


class AuditView(APIView):
    permission_classes = [ReadsTheTrail]

    @extend_schema(
        responses=AuditEventSerializer(many=True),
        parameters=[
            *(OpenApiParameter(name, str, description=text) for name, text in FILTERS.items()),
            OpenApiParameter("limit", int),
            OpenApiParameter("offset", int),
        ],
        operation_id="audit_list",
    )
    def get(self, request: Request) -> Response:
        """The newest first."""
        form = AuditForm(request.query_params)
        if not form.is_valid():
            raise ValidationError({name: [str(text) for text in texts] for name, texts in form.errors.items()})
        pages = Pages()
        rows = pages.paginate_queryset(trail.of_team(team_of(request), form.asked), request, view=self) or []
        return pages.get_paginated_response(AuditEventSerializer(rows, many=True).data)


def _made_by_a_manager(key: ApiKey) -> bool:
    """A key of the command line's has no maker: whoever runs the portal made it."""
    if key.created_by_id is None:
        return True
    return Membership.objects.filter(team=key.team_id, user=key.created_by_id, role__in=MANAGERS).exists()
