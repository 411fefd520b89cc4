from django.urls import path

from catalog import weights_views

urlpatterns = [
    path("", weights_views.weights_list, name="weights-list"),
    path("import", weights_views.weights_import, name="weights-import"),
    path("token", weights_views.token_set, name="hub-token"),
    path("token/remove", weights_views.token_remove, name="hub-token-remove"),
    path("<uuid:pk>", weights_views.weights_detail, name="weights-detail"),
    path("<uuid:pk>/notes", weights_views.weights_notes, name="weights-notes"),
    path("<uuid:pk>/terms", weights_views.weights_terms, name="weights-terms"),
    path("<uuid:pk>/retry", weights_views.weights_retry, name="weights-retry"),
    path("<uuid:pk>/remove", weights_views.weights_remove, name="weights-remove"),
]
