from django.urls import path

from catalog import api, measurement_api

urlpatterns = [
    path("models", api.ModelList.as_view(), name="api-models"),
    path("models/<str:slug>/measurements", measurement_api.ModelMeasurements.as_view(), name="api-model-measurements"),
    path("models/<str:slug>", api.ModelDetail.as_view(), name="api-model"),
]
