from django.urls import path

from gateway import api

urlpatterns = [
    path("aliases", api.AliasesView.as_view(), name="api-aliases"),
    path("aliases/<uuid:pk>", api.AliasView.as_view(), name="api-alias"),
]
