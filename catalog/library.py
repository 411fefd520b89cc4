"""A model as its card, its page and the API show it: with prices and reasons for both paths."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal

from django.db.models import Prefetch, Q, QuerySet

from accounts.models import Team
from billing import pricing
from billing.meters import METERS
from billing.models import Price
from catalog import advisor, offers
from catalog.models import Hardware, Model, Offer


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
    def cheapest(self) -> tuple[Hardware, Quote] | None:
        """Of the hardware that it fits on and that has a price; what this portal offers before what it only knows."""
        weights = self.deployable_offer.weights if self.deployable_offer else None
        fitting = [
            (machine, quote)
            for machine, quote in self.hardware
            if quote and weights and offers.fits(weights.size_bytes, machine)
        ]
        return min(fitting, key=lambda one: (not one[0].backend, one[1].amount), default=None)

    @property
    def cheapest_hour(self) -> Quote | None:
        return self.cheapest[1] if self.cheapest else None


def visible_to(team: Team) -> QuerySet[Model]:
    """The starter catalog's models and the team's own."""
    return of_all_teams().filter(Q(team=None) | Q(team=team))


def of_all_teams() -> QuerySet[Model]:
    """For catalog.shelf, which tells them apart itself."""
    ways = Offer.objects.select_related("provider", "weights").prefetch_related("hardware")
    return Model.objects.select_related("licence").prefetch_related(Prefetch("offers", ways))


def entries(models: Iterable[Model]) -> list[Entry]:
    """All cards with their prices, in one query for all prices."""
    found = list(models)
    hardware = [machine for model in found for offer in model.offers.all() for machine in offer.hardware.all()]
    prices = pricing.in_force({model.sku for model in found} | {machine.sku for machine in hardware})
    return [_entry(model, prices) for model in found]


def facts_of(model: Model, hosted: Offer | None, own: Offer | None, *, hardware_offered: bool) -> advisor.Facts:
    """What decides which paths are open: the model, and its offers, if it has them."""
    return advisor.Facts(
        openness=model.openness,
        publisher=model.publisher,
        provider_name=hosted.provider.name if hosted and hosted.provider else "",
        provider_has_key=bool(hosted and hosted.provider and hosted.provider.can_be_called),
        is_hosted=hosted is not None,
        has_weights=own is not None,
        hardware_offered=hardware_offered,
        weights_coming=bool(own and own.weights and own.weights.is_in_motion),
    )


def _entry(model: Model, prices: Mapping[str, Mapping[str, Price]]) -> Entry:
    ways = {offer.path: offer for offer in model.offers.all()}
    hosted, deployable = ways.get(Offer.Path.HOSTED), ways.get(Offer.Path.DEPLOYABLE)
    machines = tuple(deployable.hardware.all()) if deployable else ()
    facts = facts_of(model, hosted, deployable, hardware_offered=any(machine.backend for machine in machines))
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
