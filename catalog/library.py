"""The library's questions: which models fit a search and its facets, with prices and reasons for both paths."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal

from django.db.models import Exists, OuterRef, Prefetch, Q, QuerySet

from accounts.models import Team
from billing import pricing
from billing.meters import METERS
from billing.models import Price
from catalog import advisor
from catalog.models import Hardware, Model, Offer

LONG_CONTEXT = 128_000


@dataclass(frozen=True, slots=True)
class Quote:
    """A price as people quote it: USD for `per` (a million tokens, an hour), with the exact amount and its source."""

    meter: str
    label: str
    amount: Decimal
    exact: str
    quoted: str
    source: str
    source_date: str


@dataclass(frozen=True, slots=True)
class Entry:
    """A model as its card and its page show it."""

    model: Model
    hosted_offer: Offer | None
    deployable_offer: Offer | None
    hosted: advisor.PathState
    deployable: advisor.PathState
    sentence: str
    token_prices: tuple[Quote, ...]
    hardware: tuple[tuple[Hardware, Quote | None], ...]

    @property
    def input(self) -> Quote | None:
        return next((quote for quote in self.token_prices if quote.meter == "tokens.input"), None)

    @property
    def output(self) -> Quote | None:
        return next((quote for quote in self.token_prices if quote.meter == "tokens.output"), None)

    @property
    def cheapest_hour(self) -> Quote | None:
        return min((quote for _, quote in self.hardware if quote), key=lambda quote: quote.amount, default=None)


def visible_to(team: Team) -> QuerySet[Model]:
    """The starter catalog's models and the team's own."""
    offers = Offer.objects.select_related("provider", "weights").prefetch_related("hardware")
    return (
        Model.objects.filter(Q(team=None) | Q(team=team))
        .select_related("licence")
        .prefetch_related(Prefetch("offers", offers))
    )


def search(models: QuerySet[Model], asked: Mapping[str, list[str]]) -> QuerySet[Model]:
    """Narrow by `q` and by the facets; within a facet any value fits, across facets all must."""
    for word in " ".join(asked.get("q", [])).split()[:8]:
        models = models.filter(
            Q(name__icontains=word)
            | Q(slug__icontains=word)
            | Q(publisher__icontains=word)
            | Q(licence__name__icontains=word)
            | Q(licence__spdx_id__icontains=word)
        )
    if paths := asked.get("path"):
        wanted = Q()
        if "hosted" in paths:
            wanted |= Q(offers__path=Offer.Path.HOSTED)
        if "deployable" in paths:
            wanted |= ~Q(openness=Model.Openness.CLOSED)
        if "here" in paths:
            wanted |= Q(offers__path=Offer.Path.DEPLOYABLE)
        models = models.filter(wanted)
    if values := asked.get("openness"):
        models = models.filter(openness__in=values)
    if values := asked.get("licence"):
        models = models.filter(licence__in=values)
    if "yes" in asked.get("commercial", []):
        models = models.filter(licence__commercial_use=True)
    if values := asked.get("publisher"):
        models = models.filter(publisher__in=values)
    if values := asked.get("modality"):
        models = models.filter(modalities__contains=values)
    if "long" in asked.get("context", []):
        models = models.filter(context_tokens__gte=LONG_CONTEXT)
    here = Exists(Offer.objects.filter(model=OuterRef("pk"), path=Offer.Path.DEPLOYABLE))
    return models.distinct().annotate(here=here).order_by("-here", "name")


def entries(models: Iterable[Model]) -> list[Entry]:
    """All cards with their prices, in one query for all prices."""
    found = list(models)
    hardware = [machine for model in found for offer in model.offers.all() for machine in offer.hardware.all()]
    prices = pricing.in_force({model.sku for model in found} | {machine.sku for machine in hardware})
    return [_entry(model, prices) for model in found]


def facets(models: QuerySet[Model]) -> dict[str, list[tuple[str, str, int]]]:
    """facet -> (value, label, how many), over what the team can see."""
    rows = list(models)
    licences = Counter((row.licence_id, str(row.licence)) for row in rows if row.openness != Model.Openness.CLOSED)
    publishers = Counter(row.publisher for row in rows)
    hosted = sum(any(offer.path == Offer.Path.HOSTED for offer in row.offers.all()) for row in rows)
    here = sum(any(offer.path == Offer.Path.DEPLOYABLE for offer in row.offers.all()) for row in rows)
    opened = sum(row.openness != Model.Openness.CLOSED for row in rows)
    return {
        "path": [
            ("hosted", "Hosted API", hosted),
            ("deployable", "Open to deploy", opened),
            ("here", "Ready to deploy here", here),
        ],
        "openness": [
            (value, label, count)
            for value, label in Model.Openness.choices
            if (count := sum(row.openness == value for row in rows))
        ],
        "commercial": [("yes", "Commercial use", sum(row.licence.commercial_use is True for row in rows))],
        "licence": [(slug, name, count) for (slug, name), count in licences.most_common()],
        "publisher": [(name, name, count) for name, count in publishers.most_common()],
        "modality": [("image", "Reads images", sum("image" in row.modalities for row in rows))],
        "context": [("long", "128 k and more", sum((row.context_tokens or 0) >= LONG_CONTEXT for row in rows))],
    }  # fmt: skip


def _entry(model: Model, prices: Mapping[str, Mapping[str, Price]]) -> Entry:
    offers = {offer.path: offer for offer in model.offers.all()}
    hosted, deployable = offers.get(Offer.Path.HOSTED), offers.get(Offer.Path.DEPLOYABLE)
    machines = tuple(deployable.hardware.all()) if deployable else ()
    facts = advisor.Facts(
        openness=model.openness,
        publisher=model.publisher,
        provider_name=hosted.provider.name if hosted and hosted.provider else "",
        provider_has_key=bool(hosted and hosted.provider and hosted.provider.can_be_called),
        is_hosted=hosted is not None,
        has_weights=deployable is not None,
        hardware_offered=any(machine.backend for machine in machines),
        weights_coming=bool(deployable and deployable.weights and deployable.weights.is_in_motion),
    )
    rows = prices.get(model.sku, {})
    return Entry(
        model=model,
        hosted_offer=hosted,
        deployable_offer=deployable,
        hosted=advisor.hosted(facts),
        deployable=advisor.deployable(facts),
        sentence=advisor.sentence(facts, model.name),
        token_prices=tuple(quote_of(rows[meter]) for meter in METERS if meter in rows),
        hardware=tuple((machine, _hourly(machine, prices)) for machine in machines),
    )


def _hourly(machine: Hardware, prices: Mapping[str, Mapping[str, Price]]) -> Quote | None:
    price = prices.get(machine.sku, {}).get("compute.seconds")
    return quote_of(price) if price else None


def quote_of(price: Price) -> Quote:
    meter = METERS[price.meter]
    amount = (price.amount * meter.per).normalize()
    return Quote(
        meter=price.meter,
        label=meter.label,
        amount=amount,
        exact=f"{price.amount.normalize():f}",
        quoted=meter.quoted,
        source=price.source,
        source_date=price.source_date.isoformat(),
    )
