"""The models that a team can talk to: its deployments and aliases first, then what is hosted, found by name."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from decimal import Decimal
from typing import Any

from django.db.models import Case, Q, QuerySet, Value, When
from django.urls import reverse

from accounts.models import Team
from billing import pricing, rating
from billing.meters import COMPUTE_STARTING, TOKENS_INPUT, TOKENS_OUTPUT
from catalog.models import Offer, Provider
from catalog.templatetags.money import usd
from deployments import endpoints, engines
from deployments.lifecycle import Status
from deployments.models import Deployment
from gateway.models import Alias, AliasTarget

MOST_SHOWN = 40
MILLION = 1_000_000
ORDER = {"serverless": 0, "alias": 1, "hosted": 2}
# What a wire refuses: gateway.translation.to_anthropic says so too, to programs.
REFUSED_BY = {
    Provider.Wire.ANTHROPIC: ("seed", "presence_penalty", "frequency_penalty", "reasoning_effort"),
}
NOT_NOW = {Status.FAILED: "has failed", Status.STOPPING: "is being stopped"}


@dataclass(frozen=True, slots=True)
class Choice:
    """`name` is what a caller writes as `model`; `why_not` is empty if it can be called. `start` is what waking it
    takes and costs, where that is known; `awake_usd` a second of it awake."""

    name: str
    label: str
    path: str
    by: str
    price: str = ""
    why_not: str = ""
    state: str = ""
    sees_images: bool = False
    refuses: tuple[str, ...] = ()
    start_s: float | None = None
    start_usd: str = ""
    awake_usd: str = ""
    href: str = ""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def find(team: Team, *, query: str = "", most: int = MOST_SHOWN) -> list[Choice]:
    """Those whose name, label or maker has the text in it; what can't be called comes last, with its reason."""
    text = query.strip().lower()
    offers = Offer.objects.filter(path=Offer.Path.HOSTED, model__team=None)
    for word in text.split():
        named = Q(model__name__icontains=word) | Q(model__slug__icontains=word)
        offers = offers.filter(named | Q(model__publisher__icontains=word) | Q(provider__name__icontains=word))
    found = _choices(_deployments(team), _hosted(offers, most=most)) + _aliases(team)
    fitting = [one for one in found if one.path == "hosted" or text in f"{one.name} {one.label} {one.by}".lower()]
    return sorted(fitting, key=lambda one: (bool(one.why_not), ORDER[one.path]))[:most]


def named(team: Team, names: Iterable[str]) -> list[Choice]:
    """Those of exactly these names, in their order; one that is not there is left out."""
    wanted = [name for name in names if name]
    has_own = any("/" in name for name in wanted)
    slugs = Offer.objects.filter(path=Offer.Path.HOSTED, model__team=None, model__slug__in=wanted)
    hosted = _hosted(slugs, most=len(wanted))
    rows = _choices(_deployments(team) if has_own else [], hosted) + (_aliases(team) if has_own else [])
    found = {one.name: one for one in rows}
    return [found[name] for name in wanted if name in found]


def _choices(deployments: list[Deployment], offers: list[Offer]) -> list[Choice]:
    """With their prices, in one query for all."""
    skus = {row.hardware.sku for row in deployments} | {row.model.sku for row in offers}
    prices = pricing.in_force(skus)
    own = [_deployment(row, prices.get(row.hardware.sku, {})) for row in deployments]
    return own + [_offer(row, prices.get(row.model.sku, {})) for row in offers]


def _deployments(team: Team) -> list[Deployment]:
    rows = Deployment.objects.unsettled().of(team).select_related("team", "model", "hardware").order_by("name")
    return list(endpoints.with_last_start(rows))


def _deployment(row: Deployment, prices: dict[str, Any]) -> Choice:
    listed = {meter: price.amount for meter, price in prices.items()}
    took = row.last_start  # type: ignore[attr-defined]
    start_s = took.total_seconds() if took else None
    starting = rating.price_of(COMPUTE_STARTING.name, listed)
    awake = listed.get("compute.seconds")
    why_not = "" if row.status not in NOT_NOW else f"It {NOT_NOW[Status(row.status)]}; its page says more."
    return Choice(
        name=row.endpoint_model,
        label=row.name,
        path="serverless",
        by=row.model.name,
        price=f"{usd(awake * 3600)}/h awake" if awake is not None else "",
        why_not=why_not,
        state=row.status,
        sees_images="image" in row.model.modalities and engines.choose(row.engine).reads_media,
        start_s=start_s,
        start_usd=f"{starting * Decimal(str(start_s)):f}" if starting is not None and start_s is not None else "",
        awake_usd=f"{awake:f}" if awake is not None else "",
        href=reverse("deployment-detail", args=[row.pk]),
    )


def _aliases(team: Team) -> list[Choice]:
    """Those that have a target: a name without one leads nowhere."""
    rows = AliasTarget.objects.filter(alias__team=team, shadow_percent=None).select_related("alias__team")
    targets: dict[Alias, list[str]] = {}
    for row in rows.order_by("alias__name", "position", "pk"):
        targets.setdefault(row.alias, []).append(row.model)
    return [
        Choice(
            name=str(alias), label=alias.name, path="alias", by=", ".join(models), sees_images=True,
            href=reverse("alias-list"),
        )
        for alias, models in targets.items()
    ]  # fmt: skip


def _hosted(offers: QuerySet[Offer], *, most: int) -> list[Offer]:
    """What can be called first, then by name."""
    can_be_called = Q(provider__wire=Provider.Wire.PLATFORM) | ~Q(provider__sealed_key="")
    first = Case(When(can_be_called, then=Value(0)), default=Value(1))
    return list(offers.select_related("model", "provider").order_by(first, "model__name")[:most])


def _offer(row: Offer, prices: dict[str, Any]) -> Choice:
    provider = row.provider
    assert provider is not None  # noqa: S101 - the database's own constraint
    given, made = prices.get(TOKENS_INPUT.name), prices.get(TOKENS_OUTPUT.name)
    why_not = "" if provider.can_be_called else f"No key for {provider.name} is set. An administrator can set one."
    if not why_not and not prices:
        why_not = "It has no price yet, so it is not called."
    return Choice(
        name=row.model.slug,
        label=row.model.name,
        path="hosted",
        by=provider.name,
        price=f"{usd(given.amount * MILLION)} in, {usd(made.amount * MILLION)} out per 1 M" if given and made else "",
        why_not=why_not,
        sees_images="image" in row.model.modalities,
        refuses=REFUSED_BY.get(Provider.Wire(provider.wire), ()),
        href=reverse("model-detail", args=[row.model.slug]),
    )
