from django.urls import path

from catalog.uploads import api

urlpatterns = [
    path("weights/uploads", api.UploadList.as_view(), name="api-uploads"),
    path("weights/uploads/<uuid:pk>", api.UploadDetail.as_view(), name="api-upload"),
]
