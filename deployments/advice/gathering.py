"""What the portal knows about a model's two paths: prices in force, what fits where, measured speed, past starts."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from statistics import median

from django.conf import settings
from django.utils import timezone

from accounts.models import Team
from billing import pricing, traces
from billing.models import Price
from catalog import advisor, library, measurements
from catalog.advisor import PathState
from catalog.measurements import Pace
from catalog.models import Hardware, Model, Offer
from deployments import preparing, sizing
from deployments.advice.traffic import MOST_CALLS, TRACE_S, Seen
from deployments.errors import DeploymentError
from deployments.models import Replica
from deployments.preparing import Loaded, Peak
from deployments.sizing import Fit

# So many of the last starts say how long one takes.
STARTS = 200


@dataclass(frozen=True, slots=True)
class Ground:
    """A hardware for these weights. `why_not`: they can't run there; `note`: what stands in the way today, or is not
    known. `start_s` is the median of `starts` starts."""

    hardware: Hardware
    prices: Mapping[str, Decimal]
    rows: Sequence[Price]
    why_not: str = ""
    note: str = ""
    needs: str = ""
    pace: Pace | None = None
    start_s: float | None = None
    starts: int = 0

    @property
    def offered(self) -> bool:
        return bool(self.hardware.backend)


@dataclass(frozen=True, slots=True)
class Known:
    """`hosted` and `deployable` say what the weights leave open; the notes, what else there is to say today."""

    model: Model
    offer: Offer | None
    hosted: PathState
    deployable: PathState
    hosted_note: str
    own_note: str
    prices: Mapping[str, Decimal]
    rows: Sequence[Price]
    grounds: Sequence[Ground] = field(default_factory=list)
    hold_s: int = 30


def model_of(team: Team, slug: str) -> Model | None:
    """The team's own or the portal's, with its offers."""
    if not slug.isprintable():
        return None
    offers = Offer.objects.select_related("provider", "weights__base")
    rows = library.visible_to(team).prefetch_related(None).filter(slug=slug)
    found = rows.first()
    if found is not None:
        found._prefetched_objects_cache = {"offers": offers.filter(model=found)}  # type: ignore[attr-defined]
    return found


def known(team: Team, model: Model) -> Known:
    offers = {offer.path: offer for offer in model.offers.all()}
    hosted, own = offers.get(Offer.Path.HOSTED), offers.get(Offer.Path.DEPLOYABLE)
    hardware = list(Hardware.objects.all()) if model.openness != Model.Openness.CLOSED else []
    books = pricing.books_at([model.sku, *(one.sku for one in hardware)], at=timezone.now(), team_id=team.pk)
    loaded, problem = _loaded(own)
    grounds = _grounds(model, own, loaded, hardware, books)
    offered = any(ground.offered and not ground.why_not for ground in grounds)
    facts = library.facts_of(model, hosted, own, hardware_offered=offered)
    calls, runs = advisor.hosted(facts), advisor.deployable(facts)
    never = model.openness == Model.Openness.CLOSED
    return Known(
        model=model,
        offer=hosted,
        hosted=PathState(hosted is not None, calls.reason),
        deployable=PathState(not never, runs.reason),
        hosted_note="" if calls.is_open or hosted is None else calls.reason,
        own_note="" if runs.is_open or never else problem or runs.reason,
        prices=books[model.sku][0],
        rows=books[model.sku][1],
        grounds=grounds,
        hold_s=settings.GATEWAY_HOLD_S,
    )


def trace_of(team: Team, model: Model | None, *, now: datetime) -> list[Seen]:
    """The last 30 days of the ledger: the calls of one model, or all that the team made."""
    begins = now - timedelta(seconds=TRACE_S)
    which = {"sku": model.sku, "model_name": model.name} if model else {}
    found = traces.of(team, begins=begins, ends=now, most=MOST_CALLS, **which)
    spread_s = 3600.0 if found.by_hour else 0.0
    return [Seen((one.at - begins).total_seconds(), one.quantities, one.calls, spread_s) for one in found.moments]


def _loaded(own: Offer | None) -> tuple[Loaded | None, str]:
    """What an engine would load, or why it can't."""
    if own is None or own.weights is None:
        return None, ""
    try:
        return preparing.loads(own.weights), ""
    except DeploymentError as error:
        return None, str(error)


def _grounds(
    model: Model,
    own: Offer | None,
    loaded: Loaded | None,
    hardware: Sequence[Hardware],
    books: Mapping[str, tuple[dict[str, Decimal], list[Price]]],
) -> list[Ground]:
    if loaded is None:
        size = "whether it fits is not known: its weights are not on this portal"
        return [
            Ground(one, *books[one.sku], note="; ".join(filter(None, [_not_offered(one), size]))) for one in hardware
        ]
    options = loaded.engine.check({}, preparing.place_of(model, loaded, Hardware(gpus=0), offer=own))
    paces = measurements.paces(loaded.chosen)
    peaks, took = _past(loaded)
    return [
        _ground(
            loaded, one, books[one.sku], options=options, pace=paces.get(one.slug), peaks=peaks, took=took[one.slug]
        )
        for one in hardware
    ]


def _ground(
    loaded: Loaded,
    hardware: Hardware,
    book: tuple[dict[str, Decimal], list[Price]],
    *,
    options: Mapping[str, object],
    pace: Pace | None,
    peaks: Sequence[Peak],
    took: Sequence[float],
) -> Ground:
    estimate = preparing.estimate_of(loaded, hardware, options, peaks)
    fits = sizing.fit(estimate, hardware.memory_gib)
    needs, why_not = sizing.gib(estimate.total.likely), ""
    if fits == Fit.NO:
        why_not = f"too large: at least {sizing.gib(estimate.total.low)} are needed, it has {hardware.memory_gib} GiB"
    missing = loaded.engine.missing(gpus=hardware.gpus) if hardware.backend else ""
    tight = "tight: at full load it may run out of memory" if fits == Fit.TIGHT else ""
    note = "; ".join(filter(None, [_not_offered(hardware), missing.rstrip("."), tight]))
    start_s = median(took) if took else None
    return Ground(
        hardware, *book, why_not=why_not, note=note, needs=needs, pace=pace, start_s=start_s, starts=len(took)
    )


def _not_offered(hardware: Hardware) -> str:
    return "" if hardware.backend else "no backend of this portal offers it yet"


def _past(loaded: Loaded) -> tuple[list[Peak], dict[str, list[float]]]:
    """Of the last engines of these weights that came to Ready: the memory they took, and how long each start lasted."""
    rows = Replica.objects.filter(
        version__weights=loaded.chosen, version__adapters=None, started_at__isnull=False, ready_at__isnull=False
    ).order_by("-created_at")
    columns = (
        "version__hardware_id",
        "version__hardware__gpus",
        "version__options",
        "peak_bytes",
        "started_at",
        "ready_at",
    )
    peaks: list[Peak] = []
    took: dict[str, list[float]] = defaultdict(list)
    for slug, gpus, options, peak, begun, ready in rows.values_list(*columns)[:STARTS]:
        if begun and ready:
            took[slug].append((ready - begun).total_seconds())
        if peak and not gpus and len(peaks) < preparing.MEASURED_ON:
            peaks.append(Peak(options, peak))
    return peaks, took
