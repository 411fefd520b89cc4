from django.urls import path

from billing import invoice_views, reconciliation_views, row_views, views

urlpatterns = [
    path("", views.costs_page, name="costs"),
    path("idle/", views.idle, name="costs-idle"),
    path("filters/", views.filters, name="costs-filters"),
    path("chart.csv", row_views.chart_csv, name="costs-chart-csv"),
    path("rows/", row_views.rows_page, name="costs-rows"),
    path("rows.csv", row_views.rows_csv, name="costs-rows-csv"),
    path("invoices/", invoice_views.invoices, name="invoices"),
    path("invoices/settings/", invoice_views.invoice_settings, name="invoice-settings"),
    path("invoices/<str:name>/", invoice_views.invoice, name="invoice"),
    path("invoices/<str:name>.pdf", invoice_views.invoice_as_pdf, name="invoice-pdf"),
    path("reconciliation/", reconciliation_views.imports, name="reconciliation"),
    path("reconciliation/<int:pk>/", reconciliation_views.report, name="reconciliation-report"),
    path("statements/<str:month>.csv", views.statement, {"ending": "csv"}, name="statement-csv"),
    path("statements/<str:month>.parquet", views.statement, {"ending": "parquet"}, name="statement-parquet"),
]
