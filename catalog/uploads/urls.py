from django.urls import path

from catalog.uploads import views

urlpatterns = [
    path("upload", views.upload, name="weights-upload"),
    path("upload/bases", views.bases, name="draft-bases"),
    path("upload/<uuid:pk>", views.draft_detail, name="draft-detail"),
    path("upload/<uuid:pk>/finish", views.draft_finish, name="draft-finish"),
    path("upload/<uuid:pk>/give-up", views.draft_give_up, name="draft-give-up"),
]
