from django.urls import path

from deployments import version_views, views
from deployments.validation import views as validation

urlpatterns = [
    path("", views.deployment_list, name="deployment-list"),
    path("new", views.deploy_new, name="deploy-new"),
    path("<uuid:pk>/", views.deployment_detail, name="deployment-detail"),
    path("<uuid:pk>/settings/", version_views.deployment_settings, name="deployment-settings"),
    path("<uuid:pk>/rollback/", version_views.deployment_rollback, name="deployment-rollback"),
    path("<uuid:pk>/stop/", views.deployment_stop, name="deployment-stop"),
    path("<uuid:pk>/retry/", views.deployment_retry, name="deployment-retry"),
    path("prompt-sets/", validation.set_list, name="prompt-set-list"),
    path("prompt-sets/new/", validation.set_edit, name="prompt-set-new"),
    path("prompt-sets/<uuid:pk>/", validation.set_edit, name="prompt-set"),
    path("prompt-sets/<uuid:pk>/remove/", validation.set_remove, name="prompt-set-remove"),
    path("measure/<str:slug>/", validation.platform_measure, name="platform-measure"),
    path("<uuid:pk>/validation/", validation.deployment_validation, name="deployment-validation"),
    path("<uuid:pk>/validation/run/", validation.deployment_validate, name="deployment-validate"),
    path("<uuid:pk>/validation/measure/", validation.deployment_measure, name="deployment-measure"),
    path("<uuid:pk>/validation/<uuid:run>/", validation.validation_report, name="validation-report"),
    path("<uuid:pk>/validation/<uuid:run>/call-off/", validation.validation_call_off, name="validation-call-off"),
]
