from django.urls import path

from gateway import api, budget_api

urlpatterns = [
    path("aliases", api.AliasesView.as_view(), name="api-aliases"),
    path("aliases/<uuid:pk>", api.AliasView.as_view(), name="api-alias"),
    path("budgets", budget_api.BudgetsView.as_view(), name="api-budgets"),
    path("budgets/<int:pk>", budget_api.BudgetView.as_view(), name="api-budget"),
]
