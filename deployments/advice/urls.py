from django.urls import path

from deployments.advice import views

urlpatterns = [
    path("", views.advisor, name="advisor"),
    path("brief", views.brief, name="advisor-brief"),
]
