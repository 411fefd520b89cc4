"""What people and programs may wish: deploy, stop, wake. Each writes the wish; reconcile carries it out."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.db import IntegrityError, transaction
from django.utils import timezone

from accounts import audit
from accounts.models import Team
from billing import budgets
from billing.budgets import Ask
from catalog.licensing import agreements
from catalog.models import Hardware, Model, Offer, Provider
from deployments import acting, allowance, news, preparing, scaling
from deployments.errors import BadName, BadOption, IllegalTransition, NameTaken, NotDeployable
from deployments.lifecycle import Reason, Status
from deployments.models import Deployment
from deployments.preparing import Site, What
from deployments.tasks import ring

NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,58}[a-z0-9])?")
LONGEST_IDLE_S = 7 * 24 * 3600
MOST_REPLICAS, MOST_CONCURRENCY = scaling.MOST_REPLICAS, 1024
SHORTEST_START_S, LONGEST_START_S = 10, 3600
LONGEST_HOLD_S = 600
# What nobody has said otherwise. No target: as many calls as the engine answers at once.
FIRST_NUMBERS: dict[str, Any] = {
    "min_replicas": 0, "max_replicas": 1, "idle_window_s": 600, "hold_s": None, "target_concurrency": None,
    "start_deadline_s": 120,
}  # fmt: skip


def deploy(
    team: Team,
    *,
    model: Model,
    hardware: Hardware,
    actor: str,
    name: str = "",
    revision: str = "",
    options: Mapping[str, Any] | None = None,
    env: Mapping[str, str] | None = None,
    secrets: Mapping[str, str] | None = None,
    adapters: Iterable[str] = (),
    use: str = "",
    **numbers: Any,
) -> Deployment:
    """Write the wish for an endpoint TEAM/NAME and ring for a worker. `numbers` are those of ELASTIC; `use` is what it
    is for, empty: what the team's licence policy says.

    Raises NotDeployable (Unlicensed: nobody has agreed to its licence, or it is denied), NameTaken, BadName or
    BadOption, each with a text that says what to do.
    """
    given: dict[str, Any] = {"options": options or {}, "env": env or {}, "secrets": secrets or {}}
    wish = check(
        team,
        model=model,
        hardware=hardware,
        name=name,
        revision=revision,
        adapters=tuple(adapters),
        use=use,
        **given,
        **numbers,
    )
    try:
        with transaction.atomic():
            allowance.check_new(team, hardware, max_replicas=wish.numbers["max_replicas"])
            deployment = Deployment.objects.create(
                team=team,
                name=wish.name,
                model=model,
                weights=wish.what.loaded.chosen,
                hardware=hardware,
                engine=wish.what.loaded.engine_name,
                backend=hardware.backend,
                options=wish.what.options,
                created_by=actor,
                **wish.numbers,
            )
            acting.record_birth(deployment, wish.what, actor=actor)
            agreements.set_use(team, deployment.endpoint_model, wish.use, actor=actor)
            said = preparing.described(wish.what) | wish.numbers | {"use": wish.use}
            audit.record(team, actor=actor, verb="deployed", subject=deployment.endpoint_model, after=said)
            ring(deployment.pk)
    except IntegrityError as error:
        raise NameTaken(f"{team.slug}/{wish.name} is running already: stop it first, or choose another name") from error
    return deployment


@dataclass(frozen=True, slots=True)
class Wish:
    """A deployment that could be made: nothing of it is written."""

    name: str
    what: What
    numbers: dict[str, Any]
    use: str
    name_is_taken: bool = False

    @property
    def command(self) -> list[str]:
        return preparing.command_of(self.what)

    @property
    def site(self) -> Site:
        return preparing.site_of(self.what.loaded, self.what.hardware, self.what.options)


def check(
    team: Team,
    *,
    model: Model,
    hardware: Hardware,
    name: str = "",
    revision: str = "",
    options: Mapping[str, Any],
    env: Mapping[str, str],
    secrets: Mapping[str, str],
    adapters: Iterable[str] = (),
    use: str = "",
    **numbers: Any,
) -> Wish:
    """All that `deploy` checks before it writes, and what would then run. Raises what `deploy` raises."""
    _check_model(team, model)
    found = preparing.what(
        team,
        model=model,
        hardware=hardware,
        weights=preparing.weights_of(model, revision),
        options=options,
        env=env,
        secrets=secrets,
        adapters=adapters,
    )
    use = use or agreements.policy_of(team.pk).default_use
    preparing.check_licence(team, found.loaded, use=use)
    numbers = FIRST_NUMBERS | numbers
    numbers["target_concurrency"] = numbers["target_concurrency"] or found.options["slots"]
    check_numbers(**numbers)
    with transaction.atomic():
        allowance.check_new(team, hardware, max_replicas=numbers["max_replicas"])
    chosen = _name_for(team, name, model)
    taken = Deployment.objects.unsettled().of(team).filter(name=chosen).exists()
    return Wish(chosen, found, numbers, use, name_is_taken=taken)


def stop(deployment: Deployment, *, actor: str) -> None:
    """Wish it gone. Asking twice, or for what is gone, changes nothing."""
    with transaction.atomic():
        asked = Deployment.objects.filter(pk=deployment.pk, stop_asked_at=None).exclude(status=Status.STOPPED)
        if asked.update(stop_asked_at=timezone.now()):
            audit.record(deployment.team, actor=actor, verb="stopped", subject=deployment.endpoint_model)
            news.tell(deployment.pk)
        ring(deployment.pk)


def wake(deployment_id: UUID) -> None:
    """A call has come for a sleeper. Whoever asks first wakes it; the others change nothing. Raises BudgetSpent."""
    deployment = Deployment.objects.get(pk=deployment_id)
    if deployment.status != Status.ASLEEP:
        return
    budgets.check(Ask(deployment.team_id, deployment.name), now=timezone.now())
    try:
        deployment.transition(Status.WAKING, since=Status.ASLEEP, reason=Reason.CALLED)
    except IllegalTransition:
        return
    ring(deployment.pk)


def change(deployment: Deployment, *, actor: str, **asked: int | None) -> None:
    """How elastic it is may change while it runs, at once: min_replicas, max_replicas, target_concurrency,
    idle_window_s, hold_s, start_deadline_s. Raises BadOption naming the one that is wrong; what is not named stays."""
    numbers = {name: getattr(deployment, name) for name in ELASTIC} | asked
    check_numbers(**numbers)
    changed = {name: value for name, value in asked.items() if getattr(deployment, name) != value}
    if not changed:
        return
    with transaction.atomic():
        allowance.check_growth(deployment, max_replicas=numbers["max_replicas"])
        Deployment.objects.filter(pk=deployment.pk).update(**changed)
        before = {name: getattr(deployment, name) for name in changed}
        audit.record(
            deployment.team,
            actor=actor,
            verb="changed",
            subject=deployment.endpoint_model,
            before=before,
            after=changed,
        )
        ring(deployment.pk)


def retry(deployment: Deployment, *, actor: str) -> None:
    """Start a failed one again. Asking twice, or for one that has not failed, changes nothing. Raises Unlicensed where
    the team may not run it any more."""
    if deployment.status == Status.FAILED:
        preparing.check_version_licence(deployment, deployment.version)
    with transaction.atomic():
        try:
            deployment.transition(Status.PENDING, since=Status.FAILED, reason=Reason.ASKED)
        except IllegalTransition:
            return
        Deployment.objects.filter(pk=deployment.pk).update(next_try_at=None)
        audit.record(deployment.team, actor=actor, verb="retried", subject=deployment.endpoint_model)
        ring(deployment.pk)


def host_platform_models() -> list[Deployment]:
    """The portal's own deployment for each model that the platform hosts; an upstream like any other, always awake."""
    team = Team.objects.get(is_platform=True)
    made = []
    offers = Offer.objects.filter(path=Offer.Path.HOSTED, provider__wire=Provider.Wire.PLATFORM)
    for offer in offers.select_related("model"):
        live = Deployment.objects.unsettled().of(team).filter(model=offer.model).first()
        if live is None:
            hardware = offer.model.offers.get(path=Offer.Path.DEPLOYABLE).hardware.exclude(backend="").first()
            if hardware is None:
                continue
            live = deploy(
                team, model=offer.model, hardware=hardware, name=offer.model.slug, min_replicas=1, actor="portal"
            )
        elif live.status == Status.FAILED:
            retry(live, actor="portal")
        made.append(live)
    return made


def _check_model(team: Team, model: Model) -> None:
    if model.team_id not in {None, team.pk}:
        raise NotDeployable("No such model")
    if model.openness == Model.Openness.CLOSED:
        raise NotDeployable(f"{model.name} can't be deployed: its weights are closed. It can be called, hosted.")


ELASTIC = ("min_replicas", "max_replicas", "target_concurrency", "idle_window_s", "hold_s", "start_deadline_s")


def check_numbers(
    *,
    min_replicas: int,
    max_replicas: int,
    target_concurrency: int,
    idle_window_s: int,
    hold_s: int | None,
    start_deadline_s: int,
) -> None:
    """Raises BadOption naming the first that is out of its bounds."""
    _within("max_replicas", max_replicas, 1, MOST_REPLICAS)
    if not 0 <= min_replicas <= max_replicas:
        raise BadOption("min_replicas", f"min_replicas takes 0 (sleeps when idle) to max_replicas, {max_replicas}")
    _within("target_concurrency", target_concurrency, 1, MOST_CONCURRENCY)
    _within("idle_window_s", idle_window_s, 30, LONGEST_IDLE_S)
    _within("hold_s", hold_s or 0, 0, LONGEST_HOLD_S)
    _within("start_deadline_s", start_deadline_s, SHORTEST_START_S, LONGEST_START_S)


def _within(name: str, value: int, least: int, most: int) -> None:
    if not least <= value <= most:
        raise BadOption(name, f"{name} takes a whole number from {least} to {most}")


def _name_for(team: Team, name: str, model: Model) -> str:
    """The name asked for, if it can be one, else a free one."""
    if name:
        if not NAME.fullmatch(name):
            raise BadName("A name has 1 to 60 of a-z, 0-9 and '-', and begins and ends with a letter or digit")
        return name
    return free_name(team, model)


def free_name(team: Team, model: Model) -> str:
    """The model's own name, with the first number that no live deployment of the team has taken."""
    base = re.sub(r"[^a-z0-9]+", "-", model.slug)[:56].strip("-")
    taken = set(Deployment.objects.unsettled().of(team).filter(name__startswith=base).values_list("name", flat=True))
    return next(free for n in range(1, len(taken) + 2) if (free := base if n == 1 else f"{base}-{n}") not in taken)
