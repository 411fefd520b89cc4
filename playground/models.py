"""What the chat page keeps: prompts with their versions, and for a day the answers that it asked for."""

import uuid

from django.db import models
from django.db.models import Q

from accounts.models import Team, User


class PromptQuerySet(models.QuerySet["SavedPrompt"]):
    def seen_by(self, team: Team, user: User) -> "PromptQuerySet":
        """The team's shared ones, and this member's own."""
        return self.filter(Q(is_shared=True) | Q(author=user), team=team)


class SavedPrompt(models.Model):
    """A prompt by name. Private to its author until it is shared; then all of the team see it."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    team = models.ForeignKey(Team, on_delete=models.CASCADE, related_name="saved_prompts")
    author = models.ForeignKey(User, null=True, on_delete=models.SET_NULL, related_name="+")
    name = models.CharField(max_length=80)
    is_shared = models.BooleanField(default=False)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    objects = PromptQuerySet.as_manager()

    class Meta:
        ordering = ["-updated_at"]
        indexes = [models.Index(fields=["team", "-updated_at"], name="prompts_by_team")]

    def __str__(self) -> str:
        return self.name


class PromptVersion(models.Model):
    """What a prompt said from then on: never edited, only followed by a later one."""

    prompt = models.ForeignKey(SavedPrompt, on_delete=models.CASCADE, related_name="versions")
    number = models.PositiveIntegerField(help_text="Counts up for each prompt.")
    system = models.TextField(blank=True)
    message = models.TextField(blank=True, help_text="What is asked; empty: whoever opens it asks.")
    parameters = models.JSONField(default=dict, blank=True, help_text="By the names of chat/completions.")
    tried_with = models.JSONField(default=list, blank=True, help_text="The models it was tried with.")
    note = models.CharField(max_length=200, blank=True, help_text="What has changed, in its author's words.")
    created_by = models.CharField(max_length=254, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-number"]
        constraints = [models.UniqueConstraint(fields=["prompt", "number"], name="one_prompt_version_per_number")]

    def __str__(self) -> str:
        return f"{self.prompt} {self.number}"


class SentAnswer(models.Model):
    """One answer that a page asked for, under an id that the page made: asking twice answers, and costs, once.

    It is written while it comes, so that a page which is loaded again finds it. Kept for a day, sealed."""

    class State(models.TextChoices):
        RUNNING = "running", "Being answered"
        DONE = "done", "Answered"
        STOPPED = "stopped", "Stopped by its reader"
        FAILED = "failed", "Failed"

    team = models.ForeignKey(Team, on_delete=models.CASCADE, related_name="+")
    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="+")
    send_id = models.UUIDField()
    body_digest = models.CharField(max_length=64)
    state = models.CharField(max_length=8, choices=State.choices, default=State.RUNNING)
    sealed_said = models.TextField(blank=True, help_text="What has come so far, as JSON.")
    stop_asked_at = models.DateTimeField(null=True)
    heard_at = models.DateTimeField(help_text="When the process that answers it last said so.")
    created_at = models.DateTimeField(auto_now_add=True, db_index=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["team", "user", "send_id"], name="one_answer_per_send")]

    def __str__(self) -> str:
        return f"{self.send_id} {self.state}"
