"""A wish checked: what would run, where, what that needs and costs; or what is wrong with it, by field.

Nothing is written and nothing started here: the deploy form's estimate, a dry run and the deployment itself all ask it.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any
from uuid import UUID

from django.conf import settings

from accounts.models import Team
from billing import pricing
from billing.meters import COMPUTE_SECONDS
from catalog import facts, measurements, offers
from catalog.errors import LicenceRefused
from catalog.licensing import agreements, stating
from catalog.licensing.policy import Terms
from catalog.lifecycle import WORKED_ON
from catalog.lifecycle import Status as WeightsStatus
from catalog.models import Hardware, Measurement, Model, Offer, Weights
from deployments import engines, environment, sizing
from deployments.engines import Adapter, Engine, Job, Load, Place
from deployments.errors import BadOption, NotDeployable, Unlicensed
from deployments.models import Deployment, Replica, Version
from deployments.sizing import Estimate, Fit, Shape

# So many of the last engines are asked for the memory that they took.
MEASURED_ON = 50
HIGHEST_SCALE = 16.0


MILLIONTH = Decimal("0.000001")


@dataclass(frozen=True, slots=True)
class Applied:
    """A LoRA and how much of it is applied."""

    weights: Weights
    scale: float = 1.0


@dataclass(frozen=True, slots=True)
class Loaded:
    """What an engine loads. `chosen` is what was asked for: `base` itself, or an adapter on it, then also the first of
    `adapters`."""

    chosen: Weights
    base: Weights
    adapters: tuple[Applied, ...] = ()

    @property
    def engine_name(self) -> str:
        """KeyError is a defect in the catalog: no other format is ever stored."""
        return offers.ENGINES[self.base.format]

    @property
    def engine(self) -> Engine:
        return engines.choose(self.engine_name)

    @property
    def terms(self) -> tuple[Terms, ...]:
        """Under which licences all of it may be run."""
        return stating.of_weights(self.chosen, self.base, *(one.weights for one in self.adapters))

    @property
    def brought_by(self) -> dict[Terms, str]:
        """Which of these terms came with an adapter beside it -> that adapter's model."""
        return stating.brought_by((one.weights for one in self.extra), to=stating.of_weights(self.chosen, self.base))

    @property
    def extra(self) -> tuple[Applied, ...]:
        """The adapters beside what was chosen."""
        return tuple(one for one in self.adapters if one.weights.pk != self.chosen.pk)


@dataclass(frozen=True, slots=True)
class Site:
    """A hardware for it: whether it fits and, if it can't be taken, why not. A price is per second awake."""

    hardware: Hardware
    estimate: Estimate
    fit: Fit
    why_not: str
    per_second: Decimal | None
    measured: Measurement | None = None

    @property
    def per_hour(self) -> Decimal | None:
        return self.per_second * 3600 if self.per_second is not None else None

    @property
    def needs(self) -> str:
        return sizing.gib(self.estimate.total.likely)

    @property
    def has(self) -> str:
        return f"{self.hardware.memory_gib} GiB"

    @property
    def memory_bytes(self) -> int:
        return self.hardware.memory_gib * sizing.GIB

    @property
    def tokens_price(self) -> Decimal | None:
        """Per million written, by a replica that is busy all the time; None until its speed has been measured."""
        if self.measured is None:
            return None
        found = sizing.per_million_tokens(self.per_second, Decimal(str(self.measured.decode_tokens_per_s)))
        return None if found is None else found.quantize(MILLIONTH)  # an estimate: no bill is made of it


@dataclass(frozen=True, slots=True)
class What:
    """What is to run, checked. `secrets` are in plain text: seal them, or drop them."""

    loaded: Loaded
    hardware: Hardware
    options: dict[str, Any]
    env: dict[str, str]
    secrets: dict[str, str] = field(repr=False)


def what(
    team: Team,
    *,
    model: Model,
    hardware: Hardware,
    weights: Weights,
    options: Mapping[str, Any],
    env: Mapping[str, str],
    secrets: Mapping[str, str],
    adapters: Iterable[str] = (),
) -> What:
    """Raises NotDeployable, or BadOption naming the field that is wrong."""
    loaded = loads(weights, adapters_of(team, adapters))
    if problem := why_not(loaded, hardware, per_second=price_of(hardware)):
        raise NotDeployable(f"{hardware.name}: {problem}")
    checked = loaded.engine.check(options, place_of(model, loaded, hardware))
    environment.check(env, secrets)
    site = site_of(loaded, hardware, checked)
    if site.fit == Fit.NO:
        raise NotDeployable(f"{hardware.name}: {site.why_not}")
    return What(loaded, hardware, checked, dict(env), dict(secrets))


def check_licence(team: Team, loaded: Loaded, *, use: str) -> None:
    """Raises Unlicensed unless the team may run all of it so, by its policy and by what it has agreed to."""
    try:
        agreements.require(team, loaded.terms, use=use, model=loaded.chosen.model.slug, brought_by=loaded.brought_by)
    except LicenceRefused as error:
        raise Unlicensed(error.refusal) from error


def described(found: What) -> dict[str, Any]:
    """For the audit trail. Of the environment the names alone: what stands in it may be a secret."""
    return {
        "model": found.loaded.chosen.model.slug,
        "revision": found.loaded.chosen.revision,
        "hardware": found.hardware.slug,
        "options": _paired(found.options),
        "environment": sorted({*found.env, *found.secrets}),
        "adapters": [f"{one.weights} x {one.scale:g}" for one in found.loaded.extra],
    }


def version_described(version: Version) -> dict[str, Any]:
    """The same of one that was kept."""
    adapters = version.adapters.select_related("weights__model")
    return {
        "version": version.number,
        "revision": version.weights.revision,
        "options": _paired(version.options),
        "environment": sorted({*version.env, *version.sealed_secrets}),
        "adapters": [f"{one.weights} x {one.scale:g}" for one in adapters],
    }


def _paired(options: Mapping[str, Any]) -> list[str]:
    return [f"{name} {value}" for name, value in sorted(options.items())]


def check_version_licence(deployment: Deployment, version: Version | None) -> None:
    """As check_licence, for what is there already and is to start again: by the policy of now, for the use of now."""
    chosen = version.weights if version else deployment.weights
    beside = [row.weights for row in version.adapters.select_related("weights__model")] if version else []
    terms = stating.of_weights(chosen, *beside)
    use = agreements.policy_of(deployment.team_id).use_of(deployment.endpoint_model)
    try:
        agreements.require(
            deployment.team, terms, use=use, model=chosen.model.slug,
            brought_by=stating.brought_by(beside, to=stating.of_weights(chosen)),
        )  # fmt: skip
    except LicenceRefused as error:
        raise Unlicensed(error.refusal) from error


def priced_hardware() -> list[Hardware]:
    """All that the portal knows, each with `per_second`, its price in force, or None; in one query."""
    price = pricing.amount_in_force("compute:", "slug", meter=COMPUTE_SECONDS.name)
    return list(Hardware.objects.annotate(per_second=price))


def weights_of(model: Model, revision: str) -> Weights:
    """The newest ready weights of that revision; of none named, those that the model's offer says."""
    if not revision:
        offer = offers.deployable_offer(model)
        if offer is None or offer.weights is None:
            raise NotDeployable(f"{model.name} can't be deployed here yet: its weights are not on this portal.")
        return offer.weights
    found = revisions(model)
    chosen = next((one for one in found if one.revision == revision), None)
    if chosen is None:
        known = ", ".join(dict.fromkeys(one.revision for one in found))
        raise BadOption("revision", f"{model.name} has no revision {revision!r} here; it has {known or 'none'}")
    return chosen


def revisions(model: Model) -> list[Weights]:
    """All that can be deployed of it, the newest first; what is on its way is waited for. Their terms ask no more."""
    ready = model.weights.filter(status__in={WeightsStatus.READY, *WORKED_ON}, format__in=offers.ENGINES)
    return list(ready.select_related(*stating.OF_WEIGHTS).order_by("-version"))


def adapters_for(team: Team, base: Weights) -> list[Weights]:
    """The team's own LoRAs that were held against these weights."""
    ready = Weights.objects.of(team).filter(kind=Weights.Kind.ADAPTER, status=WeightsStatus.READY, base=base)
    return list(ready.select_related("model").order_by("model__name", "-version"))


def adapters_of(team: Team, asked: Iterable[str]) -> list[Applied]:
    """Of texts `ID` or `MODEL`, with `=SCALE` behind where not all of it is applied; or BadOption."""
    return [_adapter(team, text) for text in asked]


def loads(weights: Weights, adapters: Iterable[Applied] = ()) -> Loaded:
    """Or BadOption: an adapter without its base, one that belongs to another, more than the engine takes."""
    base = weights.base if weights.kind == Weights.Kind.ADAPTER else weights
    if not (weights.is_ready or weights.is_in_motion):
        raise NotDeployable(f"{weights}: these weights are not here ({weights.get_status_display().lower()}).")
    if base is None or not (base.is_ready or base == weights):
        raise NotDeployable(f"{weights} is an adapter, and its base is not here any more.")
    applied = ((Applied(weights),) if base != weights else ()) + tuple(adapters)
    found = Loaded(weights, base, applied)
    _check_adapters(found)
    return found


def place_of(model: Model, loaded: Loaded, hardware: Hardware, *, offer: Offer | None = None) -> Place:
    """What bounds the options there. `offer` is the model's deployable one, if it is at hand."""
    said = facts.known(loaded.base)
    ranks = [rank for one in loaded.adapters if (rank := facts.known(one.weights).get("lora_rank"))]
    return Place(
        max_context_tokens=most_context(model, loaded.base, offer=offer),
        key_width=said.get("key_width"),
        value_width=said.get("value_width"),
        gpus=hardware.gpus,
        adapters=len(loaded.adapters),
        lora_rank=max(ranks, default=None),
    )


def most_context(model: Model, base: Weights, *, offer: Offer | None = None) -> int | None:
    """How many tokens of context it takes; None: no source and no file says it."""
    offer = offer or offers.deployable_offer(model)
    listed = (offer.max_context_tokens if offer else None) or model.context_tokens
    return listed or facts.known(base).get("context_tokens")


def sites(loaded: Loaded, options: Mapping[str, Any], rows: Iterable[Hardware]) -> list[Site]:
    """All of `priced_hardware`, with these checked options, those that can be taken first."""
    peaks, rates = measured(loaded), measurements.rates(loaded.chosen)
    found = [_site(loaded, row, options, per_second=price_of(row), peaks=peaks, rates=rates) for row in rows]
    return sorted(found, key=lambda site: bool(site.why_not))


def site_of(loaded: Loaded, hardware: Hardware, options: Mapping[str, Any]) -> Site:
    peaks, rates = measured(loaded), measurements.rates(loaded.chosen)
    return _site(loaded, hardware, options, per_second=price_of(hardware), peaks=peaks, rates=rates)


def price_of(hardware: Hardware) -> Decimal | None:
    """USD a second awake; asked for unless the row brings it."""
    if hasattr(hardware, "per_second"):
        found: Decimal | None = hardware.per_second
        return found
    price = pricing.in_force({hardware.sku}).get(hardware.sku, {}).get(COMPUTE_SECONDS.name)
    return price.amount if price else None


def why_not(loaded: Loaded, hardware: Hardware, *, per_second: Decimal | None) -> str:
    """Why it can't run there whatever its size; empty if it can."""
    if not hardware.backend:
        return "No backend of this portal offers it."
    if missing := loaded.engine.missing(gpus=hardware.gpus):
        return missing
    if per_second is None:
        return "It has no price yet, so nothing can run on it."
    return ""


def estimate_of(
    loaded: Loaded, hardware: Hardware, options: Mapping[str, Any], peaks: Iterable["Peak"] = ()
) -> Estimate:
    """The formula's, corrected by what engines of these weights were seen to take. A GPU's memory is not seen."""
    found = _formula(loaded, hardware, options)
    seen = [] if hardware.gpus else list(peaks)
    same = [peak.peak_bytes for peak in seen if peak.options == dict(options)]
    if same:
        return sizing.corrected(found, peak=max(same), of=found)
    if seen:
        last = seen[0]
        return sizing.corrected(found, peak=last.peak_bytes, of=_formula(loaded, hardware, last.options))
    return found


@dataclass(frozen=True, slots=True)
class Peak:
    options: dict[str, Any]
    peak_bytes: int


def measured(loaded: Loaded) -> list[Peak]:
    """What the last engines of these weights took that got ready, the last first. Those with adapters of their own
    choice are left out."""
    rows = Replica.objects.filter(
        version__weights=loaded.chosen, version__engine=loaded.engine_name, version__hardware__gpus=0,
        version__adapters=None, ready_at__isnull=False, peak_bytes__isnull=False,
    )  # fmt: skip
    latest = rows.order_by("-created_at").values_list("version__options", "peak_bytes")[:MEASURED_ON]
    return [Peak(options, peak) for options, peak in latest if peak is not None]


def of_version(version: Version) -> Loaded:
    applied = [Applied(row.weights, row.scale) for row in version.adapters.select_related("weights")]
    return loads(version.weights, applied)


def command_of(found: What) -> list[str]:
    """The command line that an engine would be started with: no folder of this machine and no secret in it."""
    spec = found.loaded.engine.spec(
        job_of(found.loaded, found.hardware, name="r-NEW", served_name="TEAM/NAME", key=""), found.options
    )
    return [_bare(part) for part in spec.argv]


def job_of(
    loaded: Loaded,
    hardware: Hardware,
    *,
    name: str,
    served_name: str,
    key: str,
    env: tuple[tuple[str, str], ...] = (),
) -> Job:
    adapters = tuple(
        Adapter(one.weights.path, one.scale, facts.known(one.weights).get("lora_rank")) for one in loaded.adapters
    )
    return Job(
        name=name,
        weights_path=loaded.base.path,
        served_name=served_name,
        key=key,
        threads=settings.ENGINE_THREADS,
        gpus=hardware.gpus,
        adapters=adapters,
        env=env,
    )


def _bare(part: str) -> str:
    return re.sub(r"(?<![\w.])/[^\s\"]*/(?=[^/\s\"]+)", "", part) if "/" in part and "TEAM/NAME" not in part else part


def _site(
    loaded: Loaded,
    hardware: Hardware,
    options: Mapping[str, Any],
    *,
    per_second: Decimal | None,
    peaks: Iterable[Peak],
    rates: Mapping[str, Measurement],
) -> Site:
    estimate = estimate_of(loaded, hardware, options, peaks)
    fits = sizing.fit(estimate, hardware.memory_gib)
    reason = why_not(loaded, hardware, per_second=per_second)
    if not reason and fits == Fit.NO:
        part = "" if estimate.part_of_memory == 1 else f", of which {estimate.part_of_memory:.0%} may be taken"
        needs = sizing.gib(estimate.total.low)
        reason = f"Too large: at least {needs} are needed, and it has {hardware.memory_gib} GiB{part}."
    return Site(hardware, estimate, fits, reason, per_second, rates.get(hardware.slug))


def _formula(loaded: Loaded, hardware: Hardware, options: Mapping[str, Any]) -> Estimate:
    said = facts.known(loaded.base)
    shape = Shape.of(said)
    load = Load(
        size_bytes=loaded.base.size_bytes,
        facts=said,
        shape=shape,
        gpus=hardware.gpus,
        adapter_bytes=sum(one.weights.size_bytes for one in loaded.adapters),
    )
    return sizing.estimate(loaded.engine.demand(load, options), shape)


def _adapter(team: Team, text: str) -> Applied:
    name, _, scale_text = text.partition("=")
    try:
        scale = float(scale_text or 1)
    except ValueError:
        scale = 0.0
    if not 0 < scale <= HIGHEST_SCALE:
        raise BadOption("adapters", f"An adapter's scale is a number above 0, up to {HIGHEST_SCALE:g}")
    rows = Weights.objects.of(team).filter(kind=Weights.Kind.ADAPTER, status=WeightsStatus.READY)
    rows = rows.select_related("model", "base").order_by("-version")
    found = rows.filter(pk=name).first() if _is_uuid(name) else rows.filter(model__slug=name).first()
    if found is None:
        raise BadOption("adapters", f"The team has no LoRA adapter {name[:100]!r} that is ready")
    return Applied(found, scale)


def _check_adapters(loaded: Loaded) -> None:
    engine = loaded.engine
    for one in loaded.adapters:
        if one.weights.base_id != loaded.base.pk:
            raise BadOption("adapters", f"{one.weights} is an adapter for {one.weights.base}, not for {loaded.base}")
        if one.scale != 1 and not engine.scales_adapters:
            raise BadOption("adapters", f"{engine.label} applies all of an adapter: leave its scale away")
    if len({one.weights.pk for one in loaded.adapters}) < len(loaded.adapters):
        raise BadOption("adapters", "An adapter stands there twice")
    if len(loaded.adapters) > engine.most_adapters:
        raise BadOption("adapters", f"{engine.label} takes {engine.most_adapters} adapter(s) at once")


def _is_uuid(text: str) -> bool:
    try:
        UUID(text)
    except ValueError:
        return False
    return True
