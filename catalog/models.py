"""The model library: who publishes a model, under which licence, and the offers through which it can be used."""

import uuid

from django.core.validators import RegexValidator
from django.db import models
from django.db.models import Q

from accounts.models import Team
from catalog.uploads.models import Draft, Upload

__all__ = [
    "Draft", "Hardware", "Licence", "Model", "Offer", "Provider", "Upload", "Weights",
]  # fmt: skip


class Licence(models.Model):
    """A licence by its SPDX id where it has one, else by its own name."""

    slug = models.CharField(max_length=60, primary_key=True)
    spdx_id = models.CharField(max_length=60, blank=True)
    name = models.CharField(max_length=120)
    url = models.URLField(blank=True)
    commercial_use = models.BooleanField(null=True, help_text="None: the text sets conditions; read it.")
    note = models.CharField(max_length=300, blank=True, help_text="The conditions in plain words.")

    def __str__(self) -> str:
        return self.spdx_id or self.name


class Provider(models.Model):
    """Somebody who serves models behind an address that speaks one of the wires, or the portal (`platform`)."""

    class Wire(models.TextChoices):
        OPENAI = "openai", "OpenAI's API"
        ANTHROPIC = "anthropic", "Anthropic's API"
        PLATFORM = "platform", "This portal's own deployments"

    slug = models.SlugField(max_length=60, primary_key=True)
    name = models.CharField(max_length=120)
    wire = models.CharField(max_length=10, choices=Wire.choices, default=Wire.OPENAI)
    base_url = models.URLField(
        blank=True, help_text="Ends before /chat/completions or /messages: https://api.example.com/v1"
    )
    sealed_key = models.TextField(blank=True, editable=False, help_text="Encrypted; set with set_provider_key.")

    def __str__(self) -> str:
        return self.name

    @property
    def can_be_called(self) -> bool:
        """The portal's own deployments need no key; everyone else's do."""
        return self.wire == self.Wire.PLATFORM or bool(self.sealed_key)


class Hardware(models.Model):
    """Something a replica can run on. Its price is billing's, under `sku`; no backend: known, not offered here."""

    slug = models.SlugField(max_length=60, primary_key=True)
    name = models.CharField(max_length=120)
    memory_gib = models.PositiveIntegerField(help_text="Memory a model may take: GPU memory, or RAM on a CPU.")
    gpus = models.PositiveSmallIntegerField(default=0)
    backend = models.CharField(max_length=40, blank=True, help_text="A key of DEPLOYMENT_BACKENDS; empty: none here.")
    note = models.CharField(max_length=200, blank=True)

    class Meta:
        verbose_name_plural = "hardware"
        ordering = ["gpus", "memory_gib"]

    def __str__(self) -> str:
        return self.name

    @property
    def sku(self) -> str:
        return f"compute:{self.slug}"


class Model(models.Model):
    class Openness(models.TextChoices):
        CLOSED = "closed", "Closed weights"
        OPEN_WEIGHT = "open-weight", "Open weights"
        OWN_WEIGHTS = "own-weights", "Own weights"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    slug = models.CharField(max_length=100, unique=True, validators=[RegexValidator(r"^[a-z0-9][a-z0-9.-]*$")])
    name = models.CharField(max_length=120)
    publisher = models.CharField(max_length=80)
    team = models.ForeignKey(Team, null=True, blank=True, on_delete=models.PROTECT, related_name="own_models")
    openness = models.CharField(max_length=12, choices=Openness.choices)
    licence = models.ForeignKey(Licence, on_delete=models.PROTECT, related_name="models")
    modalities = models.JSONField(default=list, help_text='What goes in: ["text", "image"].')
    context_tokens = models.PositiveIntegerField(null=True, help_text="None: no source lists it.")
    description = models.TextField(blank=True)
    homepage = models.URLField(blank=True)
    source = models.CharField(max_length=200, help_text="Where this row was read.")
    source_date = models.DateField()
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        ordering = ["name"]
        constraints = [
            models.CheckConstraint(
                condition=Q(openness="own-weights", team__isnull=False) | (~Q(openness="own-weights") & Q(team=None)),
                name="own_weights_belong_to_a_team",
            )
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def sku(self) -> str:
        """Under which the hosted path's tokens are priced."""
        return f"hosted:{self.slug}"


class Weights(models.Model):
    """A verified set of files that an engine can load."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    model = models.ForeignKey(Model, on_delete=models.PROTECT, related_name="weights")
    revision = models.CharField(max_length=100)
    format = models.CharField(max_length=20, help_text="gguf or safetensors")
    path = models.CharField(max_length=500, help_text="The file or folder on the portal's disk.")
    sha256 = models.CharField(max_length=64)
    size_bytes = models.BigIntegerField()
    source = models.CharField(max_length=200)

    class Meta:
        verbose_name_plural = "weights"
        constraints = [models.UniqueConstraint(fields=["model", "revision"], name="one_weights_per_revision")]

    def __str__(self) -> str:
        return f"{self.model} {self.revision}"


class Offer(models.Model):
    """One way to use a model: hosted by a provider, or deployable on hardware that fits."""

    class Path(models.TextChoices):
        HOSTED = "hosted"
        DEPLOYABLE = "deployable"

    model = models.ForeignKey(Model, on_delete=models.CASCADE, related_name="offers")
    path = models.CharField(max_length=10, choices=Path.choices)
    provider = models.ForeignKey(Provider, null=True, blank=True, on_delete=models.PROTECT, related_name="offers")
    upstream_model = models.CharField(max_length=160, blank=True, help_text="The provider's own id for it.")
    weights = models.ForeignKey(Weights, null=True, blank=True, on_delete=models.PROTECT, related_name="offers")
    engine = models.CharField(max_length=40, blank=True)
    hardware = models.ManyToManyField(Hardware, blank=True, related_name="offers")
    note = models.CharField(max_length=200, blank=True, help_text="What the listed price leaves out.")
    max_context_tokens = models.PositiveIntegerField(null=True, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["model", "path"], name="one_offer_per_path"),
            models.CheckConstraint(
                condition=Q(path="hosted", provider__isnull=False) | Q(path="deployable", weights__isnull=False),
                name="an_offer_says_where_it_runs",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.model} {self.path}"
