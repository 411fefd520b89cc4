from django.urls import path

from deployments import api

urlpatterns = [
    path("deployments", api.DeploymentList.as_view(), name="api-deployments"),
    path("deployments/<uuid:pk>", api.DeploymentDetail.as_view(), name="api-deployment"),
    path("deployments/<uuid:pk>/rollback", api.DeploymentRollback.as_view(), name="api-deployment-rollback"),
    path("deployments/<uuid:pk>/versions", api.DeploymentVersions.as_view(), name="api-deployment-versions"),
    path("deployments/<uuid:pk>/events", api.DeploymentEvents.as_view(), name="api-deployment-events"),
    path("deployments/<uuid:pk>/logs", api.DeploymentLogs.as_view(), name="api-deployment-logs"),
]
