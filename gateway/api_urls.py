from django.urls import path

from gateway import api, budget_api, licence_api

urlpatterns = [
    path("aliases", api.AliasesView.as_view(), name="api-aliases"),
    path("aliases/<uuid:pk>", api.AliasView.as_view(), name="api-alias"),
    path("budgets", budget_api.BudgetsView.as_view(), name="api-budgets"),
    path("budgets/<int:pk>", budget_api.BudgetView.as_view(), name="api-budget"),
    path("licences", licence_api.LicencesView.as_view(), name="api-licences"),
    path("licences/policy", licence_api.PolicyView.as_view(), name="api-licence-policy"),
    path("licences/agreements", licence_api.AgreementsView.as_view(), name="api-licence-agreements"),
]
