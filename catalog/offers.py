"""What upper apps ask the library: where a hosted name leads, and what can be deployed."""

from dataclasses import dataclass, field

from django.db.models import Q, QuerySet

from accounts import sealing
from accounts.models import Team
from catalog.licensing import stating
from catalog.licensing.policy import Terms
from catalog.lifecycle import WORKED_ON, Status
from catalog.models import Hardware, Model, Offer, Provider, Weights

GIB = 1024**3
# Which engine takes which format, and those that want a GPU. What fits where is decided when it is deployed.
ENGINES = {"gguf": "llama_cpp", "safetensors": "vllm"}
ON_GPUS = frozenset({"vllm"})
SPARE = 1.2
"""What an engine needs over the weights themselves, as a factor, to be shown as fitting before they are here."""


@dataclass(frozen=True, slots=True)
class HostedRoute:
    """A hosted offer as the gateway needs it. `api_key` is the provider's own, unsealed; never log it."""

    model_slug: str
    model_name: str
    sku: str
    wire: str
    base_url: str
    api_key: str = field(repr=False)
    upstream_model: str
    provider_name: str
    callable_now: bool
    why_not: str
    context_tokens: int | None
    terms: tuple[Terms, ...] = ()


def hosted_routes() -> list[HostedRoute]:
    """Every hosted offer, callable or not, in one query."""
    rows = Offer.objects.filter(path=Offer.Path.HOSTED, model__team=None).select_related("model__licence", "provider")
    return [_route(row) for row in rows]


def callable_slugs() -> list[str]:
    """The hosted models that can be called now, by their names; in one query."""
    can_be_called = Q(provider__wire=Provider.Wire.PLATFORM) | ~Q(provider__sealed_key="")
    rows = Offer.objects.filter(can_be_called, path=Offer.Path.HOSTED, model__team=None)
    return list(rows.order_by("model__slug").values_list("model__slug", flat=True))


def deployable_offer(model: Model) -> Offer | None:
    """The offer with weights that are on this portal, if there is one."""
    if "offers" in getattr(model, "_prefetched_objects_cache", {}):
        return next((one for one in model.offers.all() if one.path == Offer.Path.DEPLOYABLE), None)
    return model.offers.filter(path=Offer.Path.DEPLOYABLE).select_related("weights").first()


def to_deploy(team: Team, slug: str) -> Offer | None:
    """A deployable offer of a model that the team may see, with all that its terms say: in one query."""
    rows = Offer.objects.filter(Q(model__team=None) | Q(model__team=team), path=Offer.Path.DEPLOYABLE, model__slug=slug)
    return rows.select_related("model__licence", *(f"weights__{one}" for one in stating.OF_WEIGHTS)).first()


def offer_newest(model: Model) -> None:
    """The newest version that is ready, and that an engine here loads, is what Deploy starts; while there is none, the
    newest that is on its way: what is deployed then waits for it. None: no offer."""
    loadable = model.weights.filter(format__in=ENGINES).order_by("-version")
    coming = loadable.filter(kind=Weights.Kind.FULL, status__in=WORKED_ON)
    newest = loadable.filter(status=Status.READY).first() or coming.first()
    if newest is None:
        model.offers.filter(path=Offer.Path.DEPLOYABLE).delete()
        return
    offer(newest)


def fitting(size_bytes: int) -> QuerySet[Hardware]:
    """The hardware whose memory such weights fit into, with what an engine needs beside them."""
    return Hardware.objects.filter(memory_gib__gte=size_bytes * SPARE / GIB)


def fits(size_bytes: int, hardware: Hardware) -> bool:
    """The same for one; weights whose size is not known yet fit wherever they are offered."""
    return hardware.memory_gib >= size_bytes * SPARE / GIB


def offer(weights: Weights) -> Offer | None:
    """From now on deploying the model starts these weights, an adapter's on its base; None if no engine takes them."""
    engine = ENGINES.get(weights.format)
    if engine is None:
        return None
    row, _ = Offer.objects.update_or_create(
        model=weights.model, path=Offer.Path.DEPLOYABLE, defaults={"weights": weights, "engine": engine}
    )
    row.hardware.set(Hardware.objects.filter(gpus__gt=0) if engine in ON_GPUS else Hardware.objects.all())
    return row


def _route(row: Offer) -> HostedRoute:
    provider = row.provider
    assert provider is not None  # noqa: S101 - the database's own constraint
    why_not = (
        ""
        if provider.can_be_called
        else f"{provider.name} has no key set on this portal, so {row.model.slug} can be seen but not called. "
        "An administrator can set it."
    )
    return HostedRoute(
        model_slug=row.model.slug,
        model_name=row.model.name,
        sku=row.model.sku,
        wire=provider.wire,
        base_url=provider.base_url,
        api_key=sealing.unseal(provider.sealed_key),
        upstream_model=row.upstream_model,
        provider_name=provider.name,
        callable_now=provider.can_be_called,
        why_not=why_not,
        context_tokens=row.model.context_tokens,
        terms=stating.of_hosted(row.model),
    )
