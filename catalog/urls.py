from django.urls import path

from catalog import views

urlpatterns = [
    path("", views.model_list, name="model-list"),
    path("compare", views.model_compare, name="model-compare"),
    path("<str:slug>/", views.model_detail, name="model-detail"),
]
