from django.urls import path

from accounts import api, key_api, member_api

urlpatterns = [
    path("audit", api.AuditView.as_view(), name="api-audit"),
    path("members", member_api.MembersView.as_view(), name="api-members"),
    path("members/<int:pk>", member_api.MemberView.as_view(), name="api-member"),
    path("invitations", member_api.InvitationsView.as_view(), name="api-invitations"),
    path("invitations/<uuid:pk>", member_api.InvitationView.as_view(), name="api-invitation"),
    path("invitations/<uuid:pk>/resend", member_api.InvitationResendView.as_view(), name="api-invitation-resend"),
    path("keys", key_api.KeysView.as_view(), name="api-keys"),
    path("keys/<uuid:pk>", key_api.KeyView.as_view(), name="api-key"),
    path("keys/<uuid:pk>/rotate", key_api.KeyRotateView.as_view(), name="api-key-rotate"),
]
