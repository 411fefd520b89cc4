from django.urls import path

from deployments import live_views, version_views, views
from deployments.live import COST, LIVE, LOGS, VERSIONS
from deployments.validation import views as validation

urlpatterns = [
    path("", live_views.deployment_list, name="deployment-list"),
    path("stream", live_views.list_stream, name="deployment-list-stream"),
    path("new", views.deploy_new, name="deploy-new"),
    path("<uuid:pk>/", live_views.deployment_detail, {"tab": LIVE}, name="deployment-detail"),
    path("<uuid:pk>/logs/", live_views.deployment_detail, {"tab": LOGS}, name="deployment-logs"),
    path("<uuid:pk>/versions/", live_views.deployment_detail, {"tab": VERSIONS}, name="deployment-versions"),
    path("<uuid:pk>/cost/", live_views.deployment_detail, {"tab": COST}, name="deployment-cost"),
    path("<uuid:pk>/stream", live_views.deployment_stream, name="deployment-stream"),
    path("<uuid:pk>/logs/more", live_views.log_more, name="deployment-log-more"),
    path("<uuid:pk>/logs/engine.log", live_views.log_text, name="deployment-log-text"),
    path("<uuid:pk>/next-step/", live_views.next_step, name="deployment-next-step"),
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
