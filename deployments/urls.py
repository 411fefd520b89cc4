from django.urls import path

from deployments import views

urlpatterns = [
    path("", views.deployment_list, name="deployment-list"),
    path("new", views.deploy_new, name="deploy-new"),
    path("<uuid:pk>/", views.deployment_detail, name="deployment-detail"),
    path("<uuid:pk>/stop/", views.deployment_stop, name="deployment-stop"),
    path("<uuid:pk>/retry/", views.deployment_retry, name="deployment-retry"),
]
