from django.urls import path

from deployments import api
from deployments.advice import api as advice
from deployments.validation import api as validation

urlpatterns = [
    path("advice", advice.Advice.as_view(), name="api-advice"),
    path("deployments", api.DeploymentList.as_view(), name="api-deployments"),
    path("deployments/<uuid:pk>", api.DeploymentDetail.as_view(), name="api-deployment"),
    path("deployments/<uuid:pk>/rollback", api.DeploymentRollback.as_view(), name="api-deployment-rollback"),
    path("deployments/<uuid:pk>/versions", api.DeploymentVersions.as_view(), name="api-deployment-versions"),
    path("deployments/<uuid:pk>/events", api.DeploymentEvents.as_view(), name="api-deployment-events"),
    path("deployments/<uuid:pk>/logs", api.DeploymentLogs.as_view(), name="api-deployment-logs"),
    path("prompt-sets", validation.PromptSetList.as_view(), name="api-prompt-sets"),
    path("prompt-sets/<uuid:pk>", validation.PromptSetDetail.as_view(), name="api-prompt-set"),
    path("deployments/<uuid:pk>/validation", validation.DeploymentValidation.as_view(), name="api-validation-plan"),
    path("deployments/<uuid:pk>/validations", validation.ValidationList.as_view(), name="api-validations"),
    path(
        "deployments/<uuid:pk>/validations/<uuid:run>",
        validation.ValidationDetail.as_view(),
        name="api-validation",
    ),
    path("deployments/<uuid:pk>/throughput", validation.ThroughputList.as_view(), name="api-throughputs"),
    path("deployments/<uuid:pk>/throughput/<uuid:run>", validation.ThroughputDetail.as_view(), name="api-throughput"),
]
