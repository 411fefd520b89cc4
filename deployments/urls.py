from django.urls import path

from deployments import deploy_views, version_views, views

urlpatterns = [
    path("", views.deployment_list, name="deployment-list"),
    path("new", deploy_views.deploy_new, name="deploy-new"),
    path("<uuid:pk>/", views.deployment_detail, name="deployment-detail"),
    path("<uuid:pk>/settings/", version_views.deployment_settings, name="deployment-settings"),
    path("<uuid:pk>/rollback/", version_views.deployment_rollback, name="deployment-rollback"),
    path("<uuid:pk>/stop/", views.deployment_stop, name="deployment-stop"),
    path("<uuid:pk>/retry/", views.deployment_retry, name="deployment-retry"),
]
