from django.urls import path

from playground import prompt_views, views

urlpatterns = [
    path("", views.playground, name="playground"),
    path("ask", views.ask, name="playground-ask"),
    path("answer", views.answer, name="playground-answer"),
    path("answers/<uuid:pk>", views.answer_again, name="playground-answer-again"),
    path("answers/<uuid:pk>/stop", views.answer_stop, name="playground-answer-stop"),
    path("models", views.model_choices, name="playground-models"),
    path("check", views.schema_check, name="playground-check"),
    path("prompts/", prompt_views.prompt_list, name="prompt-list"),
    path("prompts/save", prompt_views.prompt_save, name="prompt-save"),
    path("prompts/<uuid:pk>/", prompt_views.prompt_detail, name="prompt-detail"),
    path("prompts/<uuid:pk>/save", prompt_views.prompt_save, name="prompt-save-version"),
    path("prompts/<uuid:pk>/change", prompt_views.prompt_change, name="prompt-change"),
    path("prompts/<uuid:pk>/delete", prompt_views.prompt_delete, name="prompt-delete"),
    path("prompts/<uuid:pk>/versions/<int:number>/restore", prompt_views.prompt_restore, name="prompt-restore"),
]
