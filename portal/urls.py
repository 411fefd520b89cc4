"""The site: one include() per app, the admin, and the management API under /api/v1/."""

from allauth.account.decorators import secure_admin_login
from django.contrib import admin
from django.urls import include, path
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerSplitView

from portal import health, views

# One door: the admin's own form would ask for no second factor and count no failures.
admin.site.login = secure_admin_login(admin.site.login)  # type: ignore[method-assign]

handler404 = "accounts.problems.not_found"
handler500 = "accounts.problems.broken"

urlpatterns = [
    path("", views.home, name="home"),
    path("healthz", health.healthz, name="healthz"),
    path("readyz", health.readyz, name="readyz"),
    path("", include("accounts.urls")),
    path("accounts/", include("allauth.urls")),
    path("models/", include("catalog.urls")),
    path("weights/", include("catalog.weights_urls")),
    path("weights/", include("catalog.uploads.urls")),
    path("deployments/", include("deployments.urls")),
    path("advisor/", include("deployments.advice.urls")),
    path("playground/", include("playground.urls")),
    path("billing/", include("billing.urls")),
    path("", include("gateway.urls")),
    path("api/v1/", include("accounts.api_urls")),
    path("api/v1/", include("gateway.api_urls")),
    path("api/v1/", include("catalog.api_urls")),
    path("api/v1/", include("catalog.uploads.api_urls")),
    path("api/v1/", include("catalog.weights_api_urls")),
    path("api/v1/", include("deployments.api_urls")),
    path("api/v1/", include("billing.api_urls")),
    path("api/v1/schema", SpectacularAPIView.as_view(), name="schema"),
    path("api/docs", SpectacularSwaggerSplitView.as_view(url_name="schema"), name="docs"),
    path("admin/", admin.site.urls),
]
