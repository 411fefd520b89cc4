"""What a team's home page says: what runs, what it costs, what needs attention, what was called, what to do first.

Eleven queries at most for the whole page, whatever the rows; three of them say who looks at it. Deployments are read in
groups of the same weights, hardware and use, and only those that are shown one by one.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from django.db.models import Case, CharField, Count, DateTimeField, Exists, F, Min, OuterRef, Q, QuerySet, Value, When
from django.db.models.functions import Cast
from django.urls import reverse
from django.utils import timezone

from accounts.models import Membership, Role, Team
from accounts.roles import KEEPERS, MAKERS, MANAGERS
from billing import budgets, periods, pricing, sources, usage
from billing.budgets import Standing
from billing.meters import COMPUTE_SECONDS
from billing.models import Budget, Reservation
from billing.sources import Mark
from catalog.licensing import agreements, stating
from catalog.licensing.policy import Policy
from catalog.lifecycle import Status as WeightsStatus
from catalog.models import Provider, Weights
from catalog.uploads.models import Draft
from deployments.lifecycle import IN_MOTION, NEXT_STEPS, Reason, Status
from deployments.models import Deployment, Replica
from gateway.models import RequestRecord

SOON = timedelta(days=14)
NEAR = 80.0
"""Percent of a budget that are near enough to be told of."""
MOST_CALLS, MOST_OF_EACH, MOST_RUNNING = 6, 5, 8


@dataclass(frozen=True, slots=True)
class Running:
    """A deployment that is not over: `ready` and `starting` replicas of `row.max_replicas`, USD an hour for each."""

    row: Deployment
    ready: int
    starting: int
    per_hour: Decimal | None

    @property
    def shown_status(self) -> str:
        return Status.STOPPING if self.row.stop_asked_at else self.row.status

    @property
    def now_per_hour(self) -> Decimal | None:
        return None if self.per_hour is None else self.per_hour * (self.ready + self.starting)

    @property
    def dots(self) -> list[str]:
        """One for each replica that there may be."""
        resting = max(0, self.row.max_replicas - self.ready - self.starting)
        return ["ready"] * self.ready + ["starting"] * self.starting + [""] * resting

    @property
    def is_in_motion(self) -> bool:
        return self.shown_status in IN_MOTION


@dataclass(frozen=True, slots=True)
class Spent:
    """USD by path since midnight and since the month began, by the team's clock, and the team's monthly budget."""

    hosted_today: Decimal
    serverless_today: Decimal
    hosted: Decimal
    serverless: Decimal
    budget: Standing | None
    days_left: int

    @property
    def today(self) -> Decimal:
        return self.hosted_today + self.serverless_today

    @property
    def month(self) -> Decimal:
        return self.hosted + self.serverless

    @property
    def shares(self) -> tuple[float, float, float]:
        """Percent of the bar for hosted, serverless and what open calls hold: of the budget, or where there is none of
        today's own sum. A drawing, not money."""
        if self.budget is None:
            return (*_shares(self.hosted_today, self.serverless_today, self.today), 0.0)
        whole = max(self.budget.limit, self.month)
        hosted, serverless = _shares(self.hosted, self.serverless, whole)
        return (hosted, serverless, min(100 - hosted - serverless, float(100 * self.budget.held / whole)))

    @property
    def a_day(self) -> Decimal | None:
        """What may still be spent on each day that is left, today included."""
        return None if self.budget is None else (self.budget.left / self.days_left)


@dataclass(frozen=True, slots=True)
class Concern:
    """Something to be mended: what it is, and the one action that mends it. Graver ones have a lower `grade`."""

    grade: int
    title: str
    text: str
    action: str
    where: str
    is_bad: bool = False


@dataclass(frozen=True, slots=True)
class Step:
    """One of a new team's first steps; `done` is looked up, never remembered. `for_roles`: who can take it."""

    text: str
    why: str
    where: str
    done: bool
    for_roles: frozenset[Role] = MAKERS


@dataclass(frozen=True, slots=True)
class Signal:
    """A row of what is asked about in one query: `what` it is about."""

    what: str
    key: str
    name: str
    at: datetime | None


@dataclass(frozen=True, slots=True)
class Group:
    """Deployments that are not over, of the same weights, on the same hardware, for the same use: `many`, of which
    `moving` are on their way and `failed` have failed, with so many replicas. `first`: the name of one of them."""

    weights: UUID
    hardware: str
    use: str
    first: str
    many: int
    moving: int
    failed: int
    ready: int
    starting: int


@dataclass(frozen=True, slots=True)
class Fleet:
    """All that is not over, and of it those that are read one by one: by their names."""

    groups: list[Group]
    by_name: dict[str, Running]
    mark: Mark | None

    @property
    def count(self) -> int:
        return sum(one.many for one in self.groups)

    @property
    def shown(self) -> list[Running]:
        """Those that cost something, change or have failed before those that rest."""
        quiet = {Status.ASLEEP}
        found = sorted(self.by_name.values(), key=lambda one: one.row.created_at, reverse=True)
        return sorted(found, key=lambda one: (not one.ready, not one.starting, one.shown_status in quiet))[
            :MOST_RUNNING
        ]

    @property
    def failed(self) -> list[Running]:
        return [one for one in self.by_name.values() if one.row.status == Status.FAILED][:MOST_OF_EACH]

    @property
    def awake(self) -> int:
        return sum(one.ready + one.starting for one in self.groups)

    @property
    def per_hour(self) -> Decimal:
        costs = ((self.by_name[one.first].per_hour, one.ready + one.starting) for one in self.groups)
        return sum((per_hour * replicas for per_hour, replicas in costs if per_hour is not None), Decimal(0))


@dataclass(frozen=True, slots=True)
class Home:
    """`running` are shown; `count` there are, with `awake` replicas for `per_hour` USD."""

    running: list[Running]
    count: int
    awake: int
    per_hour: Decimal
    is_in_motion: bool
    spent: Spent
    concerns: list[Concern]
    calls: list[RequestRecord]
    steps: list[Step]

    @property
    def more(self) -> int:
        return self.count - len(self.running)

    @property
    def done(self) -> int:
        return sum(step.done for step in self.steps)

    @property
    def is_new(self) -> bool:
        return self.done < len(self.steps)


def of(team: Team, *, is_staff: bool, looked: bool, now: datetime | None = None) -> Home:
    now = now or timezone.now()
    policy = agreements.policy_of(team.pk)
    fleet = _fleet(team, policy, now)
    standings = budgets.standings(team, now=now)
    signals = _signals(team, now, is_staff=is_staff)
    calls = list(RequestRecord.objects.filter(team=team).order_by("-at", "-pk")[:MOST_CALLS])
    concerns = [*_failed(fleet), *_spending(standings), *_licences(team, policy, fleet), *_signalled(signals)]
    return Home(
        running=fleet.shown,
        count=fleet.count,
        awake=fleet.awake,
        per_hour=fleet.per_hour,
        is_in_motion=any(one.moving for one in fleet.groups),
        spent=_spent(team, now, standings, fleet.mark),
        concerns=sorted(concerns, key=lambda one: one.grade),
        calls=calls,
        steps=_steps(team, signals, has_budget=bool(standings), looked=looked or bool(calls) or bool(fleet.count)),
    )


_LIVE = Q(replicas__exited_at=None, replicas__remove_asked_at=None, replicas__pk__isnull=False)
_READY = Count("replicas", filter=_LIVE & Q(replicas__ready_at__isnull=False), distinct=True)
_STARTING = Count("replicas", filter=_LIVE & Q(replicas__ready_at=None), distinct=True)


def _fleet(team: Team, policy: Policy, now: datetime) -> Fleet:
    """In two queries: the groups, and those that are shown with one of each group."""
    unsettled = Deployment.objects.unsettled().of(team)
    asked = unsettled.annotate(use=_use(team, policy), **sources.WITH_MARK).order_by()
    rows = asked.values("weights_id", "hardware_id", "use", *sources.WITH_MARK).annotate(
        first=Min("name"),
        many=Count("pk", distinct=True),
        moving=Count("pk", filter=Q(status__in=IN_MOTION) | Q(stop_asked_at__isnull=False), distinct=True),
        failed=Count("pk", filter=Q(status=Status.FAILED), distinct=True),
        ready=_READY,
        starting=_STARTING,
    )
    found = list(rows)
    if not found:
        return Fleet([], {}, None)
    through, turn, zone = (found[0][name] for name in sources.WITH_MARK)
    groups = [
        Group(
            row["weights_id"], row["hardware_id"], row["use"], row["first"], row["many"], row["moving"], row["failed"],
            row["ready"], row["starting"],
        )
        for row in found
    ]  # fmt: skip
    running = _running(unsettled, [one.first for one in groups], now)
    return Fleet(groups, running, sources.mark_with(team.pk, through=through, turn=turn, zone=zone))


def _use(team: Team, policy: Policy) -> Any:
    """What each deployment is used for, as the policy says."""
    names: dict[str, list[str]] = {}
    for endpoint, use in policy.uses.items():
        slug, _, name = endpoint.partition("/")
        if slug == team.slug:
            names.setdefault(use, []).append(name)
    cases = [When(name__in=those, then=Value(use)) for use, those in names.items()]
    return Case(*cases, default=Value(str(policy.default_use)), output_field=CharField())


def _running(unsettled: "QuerySet[Deployment]", firsts: list[str], now: datetime) -> dict[str, Running]:
    """Those to be shown, the last that failed, and these, each with what an hour awake costs."""
    live = Replica.objects.filter(deployment=OuterRef("pk"), exited_at=None, remove_asked_at=None)
    rest = Case(When(status=Status.ASLEEP, stop_asked_at=None, then=1), default=0)
    first_of_all = unsettled.order_by(
        Exists(live.filter(ready_at__isnull=False)).desc(),
        Exists(live.filter(ready_at=None)).desc(),
        rest,
        "-created_at",
    )
    failed = unsettled.filter(status=Status.FAILED).order_by("-created_at")
    wanted = (
        Q(name__in=firsts)
        | Q(pk__in=first_of_all.values("pk")[:MOST_RUNNING])
        | Q(pk__in=failed.values("pk")[:MOST_OF_EACH])
    )
    rows: QuerySet[Any] = (
        unsettled.filter(wanted)
        .select_related(
            "team", "model", "hardware", "weights__model", *(f"weights__{one}" for one in stating.OF_WEIGHTS)
        )
        .annotate(
            ready=_READY,
            starting=_STARTING,
            per_second=pricing.amount_in_force("compute:", "hardware_id", meter=COMPUTE_SECONDS.name, at=now),
        )
        .order_by("-created_at")
    )
    return {
        row.name: Running(row, row.ready, row.starting, row.per_second * 3600 if row.per_second is not None else None)
        for row in rows
    }


def _spent(team: Team, now: datetime, standings: list[Standing], mark: Mark | None) -> Spent:
    month = periods.month_at(now, team.time_zone)
    day = now.astimezone(periods.zone_of(team.time_zone)).date()
    spent = usage.lately(team, now=now, mark=mark)
    own = (one for one in standings if one.budget.scope == Budget.Scope.TEAM)
    monthly = next((one for one in own if one.budget.period == Budget.Period.MONTHLY), None)
    left = len(month.days) - day.day + 1
    today, whole = spent.today, spent.month
    return Spent(today.hosted, today.serverless, whole.hosted, whole.serverless, monthly, left)


def _signals(team: Team, now: datetime, *, is_staff: bool) -> list[Signal]:
    """Everything small that the page asks, in one query: rows of (what, key, name, when)."""
    live = team.api_keys.filter(revoked_at=None).filter(Q(expires_at=None) | Q(expires_at__gt=now))
    parts = [
        _part("key", live, name="name", most=1),
        _part("expiring", live.filter(expires_at__lt=now + SOON), name="name", at="expires_at"),
        _part("member", Membership.objects.filter(team=team), name="role", most=2),
        _part("deployed", Deployment.objects.of(team), name="name", most=1),
        _part("called", Reservation.objects.filter(team=team, state=Reservation.State.SETTLED), name="source", most=1),
        _part(
            "weights",
            Weights.objects.of(team).filter(status=WeightsStatus.FAILED),
            name="model__name",
            at="status_since",
        ),
        _part("draft", Draft.objects.of(team).filter(status=Draft.Status.REFUSED), name="name", at="created_at"),
        _part("unfinished", Draft.objects.of(team).filter(status=Draft.Status.OPEN), name="name", at="created_at"),
    ]
    if is_staff:
        keyless = Provider.objects.filter(sealed_key="", offers__isnull=False).exclude(wire=Provider.Wire.PLATFORM)
        parts.append(_part("provider", keyless.distinct(), name="name", most=1000))
    first, *others = parts
    return [Signal(*row) for row in first.union(*others, all=True)]


def _part(what: str, rows: "QuerySet[Any]", *, name: str, at: str = "", most: int = MOST_OF_EACH) -> "QuerySet[Any]":
    moment: Any = F(at) if at else Cast(Value(None), DateTimeField())
    found = rows.annotate(
        signal=Value(what, output_field=CharField()),
        signal_key=Cast("pk", CharField()),
        signal_name=Cast(name, CharField()),
        signal_at=moment,
    )
    return found.order_by().values_list("signal", "signal_key", "signal_name", "signal_at")[:most]


def _failed(fleet: Fleet) -> Iterator[Concern]:
    for one in fleet.failed:
        _, advice = NEXT_STEPS.get(Reason(one.row.reason), (None, "Look at the evidence; then start it again."))
        text = f"{one.row.get_reason_display()}. {advice}"
        where = reverse("deployment-detail", args=[one.row.pk])
        yield Concern(0, f"{one.row.endpoint_model} has failed", text, "Look at it", where, is_bad=True)
    if more := sum(one.failed for one in fleet.groups) - len(fleet.failed):
        title = f"{more} more deployment{'s have' if more > 1 else ' has'} failed"
        where = reverse("deployment-list")
        yield Concern(0, title, "Their pages say why.", "See all", where, is_bad=True)


def _spending(standings: list[Standing]) -> Iterator[Concern]:
    for one in standings:
        if one.share < NEAR:
            continue
        budget, where = one.budget, reverse("budget-edit", args=[one.budget.pk])
        spent = f"${one.settled:,.2f} of ${one.limit:,.2f}"
        if one.is_spent:
            then = "Calls are refused and deployments sleep." if budget.hard else "It is soft: nothing is refused."
            yield Concern(
                0, f"The budget for {budget.whose} is spent", f"{spent}. {then}", "Raise it", where, is_bad=True
            )
        else:
            title = f"{one.percent:.0f} % of the budget for {budget.whose} is spent"
            yield Concern(2, title, f"{spent}, ${one.left:,.2f} left.", "Change it", where)


def _licences(team: Team, policy: Policy, fleet: Fleet) -> Iterator[Concern]:
    """Deployments whose calls the licence policy refuses now: one concern for all of the same weights and use."""
    if team.is_platform:
        return
    alike: dict[tuple[UUID, str], list[Group]] = {}
    for one in fleet.groups:
        alike.setdefault((one.weights, one.use), []).append(one)
    for (_, use), groups in alike.items():
        row = fleet.by_name[groups[0].first].row
        refusal = policy.refusal(stating.of_weights(row.weights), use, model=row.model.slug)
        if refusal is None:
            continue
        name, others = refusal.standing.terms.name, sum(one.many for one in groups) - 1
        those = f"{row.endpoint_model} and {others} more" if others else row.endpoint_model
        if refusal.standing.is_denied:
            text = f"{name} is denied for {use} use, so {'their' if others else 'its'} calls are refused."
            yield Concern(1, f"{those} may not be used", text, "See the policy", refusal.place, True)
        else:
            why = "has changed" if refusal.standing.changed else "has not been agreed to"
            text = f"{name} {why}, so {'their' if others else 'its'} calls are refused until somebody agrees."
            yield Concern(1, f"The licence of {those} {why}", text, "Read and agree", refusal.place)


def _signalled(signals: list[Signal]) -> Iterator[Concern]:
    for one in signals:
        match one.what:
            case "expiring":
                text = f"It works until {one.at:%-d %B}. Programs that use it need another by then."
                yield Concern(3, f"The key {one.name} expires soon", text, "Make another", reverse("keys"))
            case "weights":
                where = reverse("weights-detail", args=[one.key])
                yield Concern(2, f"The weights of {one.name} failed", "Their page says why.", "Look at them", where)
            case "draft":
                where = reverse("draft-detail", args=[one.key])
                yield Concern(2, f"The upload {one.name} was refused", "It can't be deployed.", "See why", where)
            case "unfinished":
                where = reverse("draft-detail", args=[one.key])
                text = "Its files are not all here and verified, so it can't be deployed yet."
                yield Concern(4, f"The upload {one.name} is not finished", text, "Go on", where)
    providers = [one for one in signals if one.what == "provider"]
    if providers:
        names = ", ".join(sorted(one.name for one in providers)[:4])
        more = f" and {len(providers) - 4} more" if len(providers) > 4 else ""
        where = reverse("admin:catalog_provider_changelist")
        many = "provider has" if len(providers) == 1 else "providers have"
        text = f"{names}{more}: their models can be seen, not called."
        yield Concern(5, f"{len(providers)} {many} no key", text, "Set one", where)


def _steps(team: Team, signals: list[Signal], *, has_budget: bool, looked: bool) -> list[Step]:
    found = {one.what for one in signals}
    others = sum(one.what == "member" for one in signals) > 1
    small = reverse("deploy-new") + "?model=smollm2-135m-instruct"
    return [
        Step("Look at a model", "Its page says which path is open, and what each costs.", reverse("model-list"), looked,
             frozenset(Role)),
        Step("Make an API key", "Programs call every model with it.", reverse("keys"), "key" in found),
        Step("Make the first call", "In the playground, or from a program.", reverse("playground"), "called" in found),
        Step("Deploy open weights", "SmolLM2 takes seconds, and costs nothing asleep.", small, "deployed" in found),
        Step("Set a budget", "It caps tokens and compute together.", reverse("budget-new"), has_budget, KEEPERS),
        Step("Invite a colleague", "With a role that fits.", reverse("team"), others, MANAGERS),
    ]  # fmt: skip


def _shares(hosted: Decimal, serverless: Decimal, whole: Decimal) -> tuple[float, float]:
    if whole <= 0:
        return (0.0, 0.0)
    return (max(0.0, min(100.0, float(100 * hosted / whole))), max(0.0, min(100.0, float(100 * serverless / whole))))
