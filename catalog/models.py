"""The model library: who publishes a model, under which licence, and the offers through which it can be used."""

import uuid

from django.core.validators import RegexValidator
from django.db import models, transaction
from django.db.models import Q
from django.db.models.functions import Now
from django.utils import timezone

from accounts.models import Team
from catalog.errors import IllegalMove
from catalog.licensing.models import (  # noqa: F401 - tables of this app, kept beside their work
    LicenceAgreement,
    LicencePolicy,
    LicenceRule,
    LicenceText,
    LicensedUse,
)
from catalog.lifecycle import IN_MOTION, MOVES, Reason, Status
from catalog.uploads.models import Draft, Upload  # noqa: F401 - tables of this app, kept beside their work


class Licence(models.Model):
    """A licence by its SPDX id where it has one, else by its own name."""

    slug = models.CharField(max_length=60, primary_key=True)
    spdx_id = models.CharField(max_length=60, blank=True)
    name = models.CharField(max_length=120)
    url = models.URLField(blank=True)
    commercial_use = models.BooleanField(null=True, help_text="None: the text sets conditions; read it.")
    note = models.CharField(max_length=300, blank=True, help_text="The conditions in plain words.")
    text_sha256 = models.CharField(
        max_length=64, blank=True, editable=False, help_text="Of its whole text, where that is at hand (LicenceText)."
    )

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
    capacity = models.PositiveIntegerField(
        null=True, blank=True, help_text="How many replicas there is room for at once; empty: no bound is kept."
    )

    class Meta:
        verbose_name_plural = "hardware"
        ordering = ["gpus", "memory_gib"]

    def __str__(self) -> str:
        return self.name

    @property
    def sku(self) -> str:
        return f"compute:{self.slug}"


class Model(models.Model):
    """What people start from. The table has two columns more, which PostgreSQL fills in and catalog.finding reads:
    `search`, its words, and `trigrams`, the threes of letters in its names."""

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
    listed_at = models.DateTimeField(default=timezone.now, help_text="When it came into this library.")
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        ordering = ["name"]
        constraints = [
            models.CheckConstraint(
                condition=Q(openness="open-weight")
                | Q(team__isnull=False, openness="own-weights")
                | Q(team=None, openness="closed"),
                name="own_weights_belong_to_a_team",
            )
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def sku(self) -> str:
        """Under which the hosted path's tokens are priced."""
        return f"hosted:{self.slug}"


class WeightsQuerySet(models.QuerySet["Weights"]):
    def of(self, team: Team) -> "WeightsQuerySet":
        """The team's own; the portal's are nobody's."""
        return self.filter(team=team)

    def kept(self) -> "WeightsQuerySet":
        return self.exclude(status=Status.REMOVED)


class Weights(models.Model):
    """A set of files that an engine can load, once `status` is ready: until then it is on its way here.

    `path` is what the engine is given: the file, the first of a split GGUF, or the folder of a safetensors set.
    `sha256` is the file's own, or for several files that of their list (catalog.store.digest_of).
    """

    class Kind(models.TextChoices):
        FULL = "full", "Model weights"
        ADAPTER = "adapter", "LoRA adapter"

    class SourceKind(models.TextChoices):
        STARTER = "starter", "Came with the portal"
        HUB = "hub", "Hugging Face"
        UPLOAD = "upload", "Uploaded"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    team = models.ForeignKey(Team, null=True, blank=True, on_delete=models.PROTECT, related_name="weights")
    model = models.ForeignKey(Model, on_delete=models.PROTECT, related_name="weights")
    version = models.PositiveIntegerField(default=1, help_text="Counts up for each model.")
    kind = models.CharField(max_length=10, choices=Kind.choices, default=Kind.FULL)
    source_kind = models.CharField(max_length=10, choices=SourceKind.choices, default=SourceKind.STARTER)
    source = models.CharField(max_length=200)
    repo = models.CharField(max_length=200, blank=True, help_text="org/name on the Hub.")
    commit = models.CharField(max_length=40, blank=True, help_text="The Hub's commit that was pinned.")
    revision = models.CharField(max_length=100, help_text="As people know it: a branch or tag, a file's variant.")
    format = models.CharField(max_length=20, help_text="gguf or safetensors")
    path = models.CharField(max_length=500, blank=True, help_text="The file or folder on the portal's disk.")
    sha256 = models.CharField(max_length=64, blank=True)
    size_bytes = models.BigIntegerField(default=0)
    base = models.ForeignKey(
        "self", null=True, blank=True, on_delete=models.PROTECT, related_name="adapters",
        help_text="An adapter's weights underneath, or what these were tuned from, if they are here.",
    )  # fmt: skip
    base_name = models.CharField(max_length=200, blank=True, help_text="What they were tuned from, as the card says.")
    licence = models.ForeignKey(Licence, null=True, blank=True, on_delete=models.PROTECT, related_name="weights")
    licence_warning = models.CharField(max_length=300, blank=True)
    notes = models.TextField(blank=True)
    facts = models.JSONField(default=dict, blank=True, help_text="Read from the files: parameters, context_tokens ...")
    status = models.CharField(max_length=12, choices=Status.choices, default=Status.READY)
    reason = models.CharField(max_length=16, choices=Reason.choices, blank=True, default=Reason.NONE)
    detail = models.TextField(blank=True, help_text="The evidence for the reason.")
    status_since = models.DateTimeField(default=timezone.now)
    bytes_done = models.BigIntegerField(default=0)
    bytes_per_s = models.BigIntegerField(default=0)
    progress_at = models.DateTimeField(null=True, blank=True, help_text="When the last byte came.")
    created_by = models.CharField(max_length=254, blank=True)
    created_at = models.DateTimeField(default=timezone.now)

    objects = WeightsQuerySet.as_manager()

    class Meta:
        verbose_name_plural = "weights"
        ordering = ["-created_at"]
        constraints = [
            models.UniqueConstraint(fields=["model", "version"], name="one_weights_per_version"),
            models.UniqueConstraint(
                fields=["model", "revision"], condition=Q(source_kind="starter"), name="one_starter_per_revision"
            ),
            models.CheckConstraint(
                condition=~Q(status="ready") | (~Q(path="") & ~Q(sha256="")), name="ready_weights_are_somewhere"
            ),
        ]
        indexes = [
            models.Index(
                fields=["status"],
                condition=Q(status__in=["checking", "uploading", "downloading", "verifying"]),
                name="weights_in_motion",
            )
        ]

    def __str__(self) -> str:
        return f"{self.model} {self.revision}"

    @property
    def is_in_motion(self) -> bool:
        return self.status in IN_MOTION

    @property
    def is_import(self) -> bool:
        return self.source_kind == self.SourceKind.HUB

    @property
    def was_ready(self) -> bool:
        """Its files have been verified before: what is on its way comes back from the bucket."""
        return bool(self.path)

    @property
    def is_ready(self) -> bool:
        return self.status == Status.READY

    @property
    def seconds_left(self) -> int | None:
        """At the rate of the last seconds; None while there is none."""
        return (self.size_bytes - self.bytes_done) // self.bytes_per_s if self.bytes_per_s else None

    def move(self, to: Status, *, since: str, reason: Reason, detail: str = "") -> None:
        """Move from `since` to `to`, or raise IllegalMove: somebody else was first, or there is no such move."""
        with transaction.atomic():
            row = Weights.objects.select_for_update().get(pk=self.pk)
            if row.status != since or to not in MOVES[Status(since)]:
                raise IllegalMove(f"{row.status} -> {to}, asked since {since}")
            Weights.objects.filter(pk=row.pk).update(
                status=to, reason=reason, detail=detail, status_since=timezone.now(), bytes_per_s=0
            )
        self.refresh_from_db()


class Blob(models.Model):
    """Content that is on the disk, once, whoever uses it. Written by catalog.store alone."""

    sha256 = models.CharField(max_length=64, primary_key=True)
    size_bytes = models.BigIntegerField()
    created_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return self.sha256


class WeightsFile(models.Model):
    """A file of a set of weights. `sha256` is what was promised, if it was; `blob` is set once the content is here."""

    weights = models.ForeignKey(Weights, on_delete=models.CASCADE, related_name="files")
    name = models.CharField(max_length=300, help_text="Its path inside the set: config.json, model.safetensors.")
    source_name = models.CharField(max_length=300, blank=True, help_text="Its path in the Hub's repository.")
    size_bytes = models.BigIntegerField()
    sha256 = models.CharField(max_length=64, blank=True)
    git_sha1 = models.CharField(max_length=40, blank=True, help_text="Git's own hash, for what is not in LFS.")
    blob = models.ForeignKey(Blob, null=True, blank=True, on_delete=models.PROTECT, related_name="files")

    class Meta:
        ordering = ["name"]
        constraints = [models.UniqueConstraint(fields=["weights", "name"], name="one_file_per_name")]

    def __str__(self) -> str:
        return self.name


class HubToken(models.Model):
    """A team's token for the Hub: encrypted, write-only."""

    team = models.OneToOneField(Team, on_delete=models.CASCADE, primary_key=True, related_name="hub_token")
    sealed_token = models.TextField()
    account = models.CharField(max_length=100, blank=True, help_text="Whose token the Hub says it is.")
    set_by = models.CharField(max_length=254)
    set_at = models.DateTimeField(auto_now=True)

    def __str__(self) -> str:
        return f"the Hub token of {self.team_id}"


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


class Measurement(models.Model):
    """How fast weights were on hardware, for so many callers at once. Written by catalog.measurements alone."""

    run = models.UUIDField(help_text="Rows of one measuring share it.")
    model = models.ForeignKey(Model, on_delete=models.CASCADE, related_name="measurements")
    weights = models.ForeignKey(Weights, on_delete=models.CASCADE, related_name="measurements")
    hardware = models.ForeignKey(Hardware, on_delete=models.CASCADE, related_name="measurements")
    engine = models.CharField(max_length=40)
    engine_version = models.CharField(max_length=80, blank=True, help_text="As it said; empty: it did not.")
    options = models.JSONField(default=dict, blank=True)
    callers = models.PositiveSmallIntegerField(help_text="How many called at once.")
    samples = models.PositiveSmallIntegerField(help_text="How many calls that were.")
    prompt_tokens = models.PositiveIntegerField()
    output_tokens = models.PositiveIntegerField()
    first_token_ms = models.FloatField(help_text="The median of what one caller waits.")
    prefill_tokens_per_s = models.FloatField(null=True, help_text="All callers together; None: they had to queue.")
    decode_tokens_per_s = models.FloatField(help_text="All callers together.")
    disturbed = models.BooleanField(default=False, help_text="Other calls were in flight meanwhile.")
    measured_at = models.DateTimeField()

    class Meta:
        ordering = ["-measured_at", "callers"]
        constraints = [models.UniqueConstraint(fields=["run", "callers"], name="one_measurement_per_callers")]
        indexes = [models.Index(fields=["weights", "hardware", "-measured_at"], name="measurements_by_weights")]

    def __str__(self) -> str:
        return f"{self.model} on {self.hardware_id}, {self.callers} callers"


class Change(models.Model):
    """A row for each statement that changed what the library shows, written by the database's own triggers, so that a
    process that keeps the library in memory (catalog.shelf) learns of every change with the commit that made it."""

    at = models.DateTimeField(db_default=Now())

    def __str__(self) -> str:
        return f"{self.at:%Y-%m-%d %H:%M:%S}"
