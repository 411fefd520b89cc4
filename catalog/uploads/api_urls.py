from django.urls import path

from catalog.uploads import api, draft_api

urlpatterns = [
    path("weights/uploads", api.UploadList.as_view(), name="api-uploads"),
    path("weights/uploads/<uuid:pk>", api.UploadDetail.as_view(), name="api-upload"),
    path("weights/drafts", draft_api.DraftList.as_view(), name="api-drafts"),
    path("weights/drafts/<uuid:pk>", draft_api.DraftDetail.as_view(), name="api-draft"),
    path("weights/drafts/<uuid:pk>/finish", draft_api.DraftFinish.as_view(), name="api-draft-finish"),
]
