from django.urls import path

from billing import views

urlpatterns = [
    path("", views.costs, name="costs"),
    path("budget/", views.budget_set, name="budget-set"),
    path("statements/<str:month>.csv", views.statement, {"ending": "csv"}, name="statement-csv"),
    path("statements/<str:month>.parquet", views.statement, {"ending": "parquet"}, name="statement-parquet"),
]
