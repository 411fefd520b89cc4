from django.urls import path

from billing import views

urlpatterns = [
    path("", views.costs, name="costs"),
    path("budget/", views.budget_set, name="budget-set"),
    path("statements/<str:month>.csv", views.statement_csv, name="statement-csv"),
]
