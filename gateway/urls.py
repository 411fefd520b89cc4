from django.urls import path

from gateway import views

urlpatterns = [
    path("aliases/", views.alias_list, name="alias-list"),
    path("aliases/new/", views.alias_edit, name="alias-new"),
    path("aliases/<uuid:pk>/", views.alias_edit, name="alias-edit"),
    path("aliases/<uuid:pk>/delete/", views.alias_delete, name="alias-delete"),
    path("limits/", views.limits, name="limits"),
    path("requests/", views.request_list, name="request-list"),
    path("requests/<int:pk>/", views.request_detail, name="request-detail"),
    path("requests/prompts/", views.prompt_logging, name="prompt-logging"),
    path("requests/requests.csv", views.request_csv, name="request-csv"),
]
