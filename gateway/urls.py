from django.urls import path

from gateway import budget_views, licence_views, views

urlpatterns = [
    path("aliases/", views.alias_list, name="alias-list"),
    path("aliases/new/", views.alias_edit, name="alias-new"),
    path("aliases/<uuid:pk>/", views.alias_edit, name="alias-edit"),
    path("aliases/<uuid:pk>/delete/", views.alias_delete, name="alias-delete"),
    path("limits/", views.limits, name="limits"),
    path("budgets/", budget_views.budget_list, name="budget-list"),
    path("budgets/new/", budget_views.budget_edit, name="budget-new"),
    path("budgets/<int:pk>/", budget_views.budget_edit, name="budget-edit"),
    path("budgets/<int:pk>/delete/", budget_views.budget_delete, name="budget-delete"),
    path("budgets/alerts/", budget_views.alerts_set, name="alerts-set"),
    path("budgets/alerts/test/", budget_views.alerts_test, name="alerts-test"),
    path("budgets/alerts/secret/", budget_views.alerts_secret, name="alerts-secret"),
    path("licences/", licence_views.policy, name="licences"),
    path("licences/agree/", licence_views.agree, name="licence-agree"),
    path("requests/", views.request_list, name="request-list"),
    path("requests/<int:pk>/", views.request_detail, name="request-detail"),
    path("requests/prompts/", views.prompt_logging, name="prompt-logging"),
    path("requests/requests.csv", views.request_csv, name="request-csv"),
]
