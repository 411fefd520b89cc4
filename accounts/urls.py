from django.urls import path

from accounts import views

urlpatterns = [
    path("team/", views.team, name="team"),
    path("team/edit/", views.team_edit, name="team-edit"),
    path("team/new/", views.team_new, name="team-new"),
    path("team/switch/", views.team_switch, name="team-switch"),
    path("keys/", views.key_list, name="keys"),
    path("keys/<uuid:pk>/revoke/", views.key_revoke, name="key-revoke"),
]
