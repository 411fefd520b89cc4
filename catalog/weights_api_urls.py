from django.urls import path

from catalog import weights_api

urlpatterns = [
    path("weights", weights_api.WeightsList.as_view(), name="api-weights"),
    path("weights/imports", weights_api.ImportList.as_view(), name="api-imports"),
    path("weights/imports/preflight", weights_api.ImportPreflight.as_view(), name="api-import-preflight"),
    path("weights/hub-token", weights_api.HubTokenDetail.as_view(), name="api-hub-token"),
    path("weights/<uuid:pk>", weights_api.WeightsDetail.as_view(), name="api-weights-detail"),
    path("weights/<uuid:pk>/retry", weights_api.WeightsRetry.as_view(), name="api-weights-retry"),
]
