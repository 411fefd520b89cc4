"""Users, the teams that pay, who belongs to which team in what role, and the keys that programs use."""

import uuid
from typing import Any, ClassVar

from django.contrib.auth.models import AbstractUser, BaseUserManager
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models.functions import Lower
from django.utils import timezone


class UserManager(BaseUserManager["User"]):
    """Users are known by their e-mail address; there is no user name."""

    use_in_migrations = True

    def create_user(self, email: str, password: str | None = None, **fields: Any) -> "User":
        user = self.model(email=self.normalize_email(email), **fields)
        user.set_password(password)
        user.save(using=self._db)
        return user

    def create_superuser(self, email: str, password: str | None = None, **fields: Any) -> "User":
        return self.create_user(email, password, is_staff=True, is_superuser=True, **fields)


class User(AbstractUser):
    username = None  # type: ignore[assignment]
    email = models.EmailField(unique=True)

    USERNAME_FIELD = "email"
    REQUIRED_FIELDS: ClassVar[list[str]] = []
    objects: ClassVar[UserManager] = UserManager()  # type: ignore[assignment]

    class Meta:
        constraints = [models.UniqueConstraint(Lower("email"), name="user_email_any_case")]

    def __str__(self) -> str:
        return self.email


class Role(models.TextChoices):
    OWNER = "owner"
    ADMIN = "admin"
    DEVELOPER = "developer"
    BILLING = "billing"
    ACCOUNTANT = "accountant"
    VIEWER = "viewer"


class Team(models.Model):
    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    slug = models.SlugField(max_length=40, unique=True)
    name = models.CharField(max_length=80)
    time_zone = models.CharField(max_length=64, default="UTC", help_text="IANA name; a bill's days begin in it.")
    is_platform = models.BooleanField(default=False, help_text="The portal's own team: what it runs is sold to all.")
    require_two_factor = models.BooleanField(
        default=False, help_text="Its members get in with a second factor only: a code of their phone or a passkey."
    )
    is_sample = models.BooleanField(default=False, help_text="Made up, to be looked at: every page says so.")
    created_at = models.DateTimeField(auto_now_add=True)
    members = models.ManyToManyField(User, through="Membership", related_name="teams")

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["is_platform"], condition=models.Q(is_platform=True), name="one_platform_team"
            )
        ]

    def __str__(self) -> str:
        return self.name


class Membership(models.Model):
    team = models.ForeignKey(Team, on_delete=models.CASCADE, related_name="memberships")
    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="memberships")
    role = models.CharField(max_length=16, choices=Role.choices)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["team", "user"], name="one_membership_per_team")]

    def __str__(self) -> str:
        return f"{self.user} in {self.team} as {self.role}"


class InvitationQuerySet(models.QuerySet["Invitation"]):
    def open(self) -> "InvitationQuerySet":
        """Neither taken nor taken back; it may have expired."""
        return self.filter(accepted_at=None, revoked_at=None)


class Invitation(models.Model):
    """A place in a team that is offered to an address. Only its token's HMAC is kept; the token stands in the mail."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    team = models.ForeignKey(Team, on_delete=models.CASCADE, related_name="invitations")
    email = models.EmailField()
    role = models.CharField(max_length=16, choices=Role.choices)
    digest = models.CharField(max_length=64, unique=True)
    invited_by = models.ForeignKey(User, null=True, on_delete=models.SET_NULL, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)
    sent_at = models.DateTimeField(null=True)
    expires_at = models.DateTimeField()
    accepted_at = models.DateTimeField(null=True)
    accepted_by = models.ForeignKey(User, null=True, on_delete=models.SET_NULL, related_name="+")
    revoked_at = models.DateTimeField(null=True)

    objects = InvitationQuerySet.as_manager()

    class Meta:
        ordering = ["-created_at"]
        constraints = [
            models.UniqueConstraint(
                "team",
                Lower("email"),
                condition=models.Q(accepted_at=None, revoked_at=None),
                name="one_open_invitation_an_address",
            )
        ]

    def __str__(self) -> str:
        return f"{self.email} as {self.role}"

    @property
    def is_over(self) -> bool:
        return self.expires_at <= timezone.now()


class Scope(models.TextChoices):
    """What a key may be used for."""

    MODELS = "models"
    DEPLOYMENTS = "deployments"
    MANAGE = "manage"
    BILLING = "billing"


def every_scope() -> list[str]:
    return list(Scope.values)


class ApiKey(models.Model):
    """A program's key. Only its HMAC-SHA256 and its prefix are kept; the key itself is shown once. A rotation gives it
    a new secret: what hangs on the key (limits, budgets, its place on the bill) stays."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    team = models.ForeignKey(Team, on_delete=models.CASCADE, related_name="api_keys")
    name = models.CharField(max_length=80)
    prefix = models.CharField(max_length=16, unique=True)
    digest = models.CharField(max_length=64, unique=True)
    tag = models.CharField(max_length=64, blank=True, help_text="Label of its calls that bring none of their own.")
    scopes = ArrayField(models.CharField(max_length=16, choices=Scope.choices), default=every_scope)
    # The secret before the last rotation, for as long as it still works.
    old_digest = models.CharField(max_length=64, unique=True, null=True, blank=True)
    old_until = models.DateTimeField(null=True, blank=True)
    old_last_used_at = models.DateTimeField(null=True, blank=True)
    created_by = models.ForeignKey(User, null=True, blank=True, on_delete=models.SET_NULL, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)
    last_used_at = models.DateTimeField(null=True, blank=True)
    expires_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)

    by_old_secret = False  # how accounts.keys.look_up found it

    class Meta:
        ordering = ["-created_at"]

    def __str__(self) -> str:
        return f"{self.name} ({self.prefix}...)"

    @property
    def state(self) -> str:
        """live, expired or revoked"""
        if self.revoked_at:
            return "revoked"
        return "expired" if self.expires_at and self.expires_at <= timezone.now() else "live"


class AuditEvent(models.Model):
    """Who did what to which thing, when. Written by accounts.audit.record alone."""

    team = models.ForeignKey(Team, null=True, on_delete=models.SET_NULL, related_name="audit_events")
    actor = models.CharField(max_length=254, help_text="The user's e-mail, the key's prefix, or 'portal'.")
    verb = models.CharField(max_length=64)
    subject = models.CharField(max_length=200)
    before = models.JSONField(default=dict, help_text="What was so before, by name; never a secret.")
    after = models.JSONField(default=dict, help_text="What is so since.")
    ip = models.GenericIPAddressField(null=True, help_text="Where the request came from; empty: no request did it.")
    at = models.DateTimeField(auto_now_add=True, db_index=True)

    class Meta:
        ordering = ["-at", "-pk"]
        indexes = [models.Index(fields=["team", "-at"], name="audit_of_team")]

    def __str__(self) -> str:
        return f"{self.actor} {self.verb} {self.subject}"


class Quota(models.Model):
    """The most that a team may have of something. A row without a team holds for each that has none of its own."""

    class What(models.TextChoices):
        DEPLOYMENTS = "deployments", "deployments that are not stopped"
        REPLICAS = "replicas", "replicas that deployments on one hardware may grow to, together"
        KEYS = "keys", "live API keys"
        MEMBERS = "members", "members and open invitations"
        STORAGE = "storage", "bytes of weights and uploads"

    team = models.ForeignKey(
        Team, null=True, blank=True, on_delete=models.CASCADE, related_name="quotas", help_text="Empty: every team."
    )
    what = models.CharField(max_length=16, choices=What.choices)
    of = models.CharField(
        max_length=64, blank=True, help_text="The hardware's slug, for replicas; empty: each hardware for itself."
    )
    most = models.PositiveBigIntegerField(
        help_text="0: none at all. For storage: bytes. For replicas: the sum of what each deployment may grow to."
    )

    class Meta:
        ordering = ["team", "what", "of"]
        constraints = [
            models.UniqueConstraint(fields=["team", "what", "of"], nulls_distinct=False, name="one_quota_each"),
            models.CheckConstraint(condition=models.Q(of="") | models.Q(what="replicas"), name="only_replicas_have_of"),
        ]

    def __str__(self) -> str:
        return f"{self.most} {self.get_what_display()}" + (f" ({self.of})" if self.of else "")
