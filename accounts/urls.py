from django.urls import path

from accounts import audit_views, key_views, member_views, views

urlpatterns = [
    path("team/", views.team, name="team"),
    path("team/edit/", views.team_edit, name="team-edit"),
    path("team/new/", views.team_new, name="team-new"),
    path("team/switch/", views.team_switch, name="team-switch"),
    path("team/two-factor/", views.team_two_factor, name="team-two-factor"),
    path("team/two-factor/required/", views.two_factor_required, name="two-factor-required"),
    path("team/leave/", member_views.leave, name="team-leave"),
    path("team/members/<int:pk>/role/", member_views.member_role, name="member-role"),
    path("team/members/<int:pk>/remove/", member_views.member_remove, name="member-remove"),
    path("team/invitations/", member_views.invite, name="invite"),
    path("team/invitations/<uuid:pk>/resend/", member_views.invitation_resend, name="invitation-resend"),
    path("team/invitations/<uuid:pk>/revoke/", member_views.invitation_revoke, name="invitation-revoke"),
    path("team/audit/", audit_views.audit_log, name="audit"),
    path("team/audit.csv", audit_views.audit_csv, name="audit-csv"),
    path("join/", member_views.join, name="join"),
    path("join/<str:token>/", member_views.join_link, name="join-link"),
    path("keys/", key_views.key_list, name="keys"),
    path("keys/<uuid:pk>/", key_views.key_detail, name="key-detail"),
    path("keys/<uuid:pk>/rotate/", key_views.key_rotate, name="key-rotate"),
    path("keys/<uuid:pk>/revoke/", key_views.key_revoke, name="key-revoke"),
]
