"""/api/v1/members and /api/v1/invitations: who belongs to the team, in what role, and who is offered a place."""

from typing import Any
from uuid import UUID

from django.shortcuts import get_object_or_404
from drf_spectacular.utils import extend_schema
from rest_framework import serializers, status
from rest_framework.exceptions import PermissionDenied
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts import invitations, members, two_factor
from accounts.drf import AsOnThePages, Pages, acting, actor_of, team_of
from accounts.models import Invitation, Membership, Role
from accounts.problems import told
from accounts.roles import MANAGERS


class ReadsMembers(AsOnThePages):
    message = "Only an owner or admin, or a key that one of them made, may change members."
    writers = MANAGERS


class Invites(AsOnThePages):
    message = "Only an owner or admin, or a key that one of them made, may see and make invitations."
    readers = writers = MANAGERS


class MemberSerializer(serializers.Serializer[Any]):
    id = serializers.IntegerField(read_only=True)
    email = serializers.EmailField(source="user.email", read_only=True)
    role = serializers.ChoiceField(Role.choices)
    second_factor = serializers.BooleanField(source="has_second", read_only=True)
    joined_at = serializers.DateTimeField(source="created_at", read_only=True)


class RemovedSerializer(serializers.Serializer[Any]):
    keys_revoked = serializers.IntegerField()


class RemovalSerializer(serializers.Serializer[Any]):
    revoke_keys = serializers.BooleanField(default=False, help_text="The keys that they made go, too.")


class InvitationSerializer(serializers.Serializer[Any]):
    """Open ones: neither taken nor taken back."""

    id = serializers.UUIDField(read_only=True)
    email = serializers.EmailField(max_length=254)
    role = serializers.ChoiceField(Role.choices)
    invited_by = serializers.EmailField(source="invited_by.email", default=None, allow_null=True, read_only=True)
    created_at = serializers.DateTimeField(read_only=True)
    sent_at = serializers.DateTimeField(read_only=True, allow_null=True, help_text="Null: no mail could be sent.")
    expires_at = serializers.DateTimeField(read_only=True)


class OfferedSerializer(InvitationSerializer):
    """With its link, this once: only its hash is kept."""

    link = serializers.URLField(read_only=True)


class MembersView(APIView):
    permission_classes = [ReadsMembers]

    @extend_schema(responses=MemberSerializer(many=True), operation_id="members_list")
    def get(self, request: Request) -> Response:
        """The oldest first."""
        pages = Pages()
        rows: Any = pages.paginate_queryset(_members(request).order_by("created_at", "pk"), request, view=self)
        return pages.get_paginated_response(MemberSerializer(rows or [], many=True).data)


class MemberView(APIView):
    permission_classes = [ReadsMembers]

    @extend_schema(responses=MemberSerializer)
    def get(self, request: Request, pk: int) -> Response:
        return Response(MemberSerializer(get_object_or_404(_members(request), pk=pk)).data)

    @extend_schema(request=MemberSerializer, responses=MemberSerializer)
    def patch(self, request: Request, pk: int) -> Response:
        """Give another role. A team keeps an owner (409); a key makes and unmakes none (403)."""
        member = get_object_or_404(_members(request), pk=pk)
        wish = MemberSerializer(data=request.data)
        wish.is_valid(raise_exception=True)
        with told():
            members.change_role(member, wish.validated_data["role"], by=_somebody(request), actor=actor_of(request))
        return Response(MemberSerializer(_members(request).get(pk=pk)).data)

    @extend_schema(parameters=[RemovalSerializer], responses=RemovedSerializer)
    def delete(self, request: Request, pk: int) -> Response:
        """Take the member out of the team. The invitations that they made go with them."""
        member = get_object_or_404(_members(request), pk=pk)
        asked = RemovalSerializer(data=request.query_params)
        asked.is_valid(raise_exception=True)
        with told():
            revoked = members.remove(
                member, by=_somebody(request), actor=actor_of(request), revoke_keys=asked.validated_data["revoke_keys"]
            )
        return Response({"keys_revoked": revoked})


class InvitationsView(APIView):
    permission_classes = [Invites]

    @extend_schema(responses=InvitationSerializer(many=True), operation_id="invitations_list")
    def get(self, request: Request) -> Response:
        """The newest first."""
        rows = team_of(request).invitations.open().select_related("invited_by")
        pages = Pages()
        page = pages.paginate_queryset(rows, request, view=self)
        return pages.get_paginated_response(InvitationSerializer(page or [], many=True).data)

    @extend_schema(request=InvitationSerializer, responses={201: OfferedSerializer})
    def post(self, request: Request) -> Response:
        """Offer a place, by mail. The answer holds the link, this once, for where no mail gets through."""
        wish = InvitationSerializer(data=request.data)
        wish.is_valid(raise_exception=True)
        asked = wish.validated_data
        with told():
            row, link = invitations.invite(
                asked["email"], asked["role"], by=_somebody(request), actor=actor_of(request)
            )
        return Response(_offered(row, link), status=status.HTTP_201_CREATED)


class InvitationView(APIView):
    permission_classes = [Invites]

    @extend_schema(responses=InvitationSerializer)
    def get(self, request: Request, pk: UUID) -> Response:
        return Response(InvitationSerializer(_invitation(request, pk)).data)

    @extend_schema(responses={204: None})
    def delete(self, request: Request, pk: UUID) -> Response:
        """Take it back: its link opens nothing from now on."""
        with told():
            invitations.revoke(_invitation(request, pk), by=_somebody(request), actor=actor_of(request))
        return Response(status=status.HTTP_204_NO_CONTENT)


class InvitationResendView(APIView):
    permission_classes = [Invites]

    @extend_schema(request=None, responses=OfferedSerializer)
    def post(self, request: Request, pk: UUID) -> Response:
        """A new link in a new mail, good for a week; the old one is dead. 409 within a minute of the last mail."""
        row = _invitation(request, pk)
        with told():
            link = invitations.resend(row, by=_somebody(request), actor=actor_of(request))
        return Response(_offered(row, link))


def _members(request: Request) -> Any:
    return team_of(request).memberships.select_related("user").annotate(has_second=two_factor.EXISTS)


def _invitation(request: Request, pk: UUID) -> Invitation:
    rows = team_of(request).invitations.open().select_related("team", "invited_by")
    found: Invitation = get_object_or_404(rows, pk=pk)
    return found


def _somebody(request: Request) -> Membership:
    """In whose name it is done."""
    member = acting(request)
    if member is None:
        raise PermissionDenied(
            "This key was made at the command line and acts for nobody. Members are changed and invited in somebody's "
            "name: use a key that an owner or admin made on the Keys page.",
            code="key_of_nobody",
        )
    return member


def _offered(row: Invitation, link: str) -> dict[str, Any]:
    row.link = link  # type: ignore[attr-defined]
    return dict(OfferedSerializer(row).data)
