"""The deploy page: three questions, the estimate beside them, a dry run, and the click."""

from dataclasses import dataclass
from typing import Any

from django.contrib import messages
from django.http import HttpResponse, QueryDict
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_http_methods

from accounts.http import TeamRequest, team_required
from accounts.roles import MAKERS
from catalog import library, offers
from catalog.licensing import agreements
from catalog.licensing.policy import Standing, Use
from catalog.models import Hardware, Model, Offer, Weights
from deployments import operations, preparing, rehearsing, status
from deployments.engine_forms import adapter_choices
from deployments.errors import BadName, BadOption, DeploymentError, NameTaken, NotDeployable, Unlicensed
from deployments.forms import DeployForm
from deployments.models import Deployment
from deployments.preparing import Loaded, Site


@team_required
@require_http_methods(["GET", "POST"])
def deploy_new(request: TeamRequest) -> HttpResponse:
    """The page; what of it changes while somebody types (htmx); a dry run; or a deployment."""
    slug = request.GET.get("model", "")
    offer = offers.to_deploy(request.team, slug)
    model = offer.model if offer else get_object_or_404(library.visible_to(request.team), slug=slug)
    if request.membership.role not in MAKERS:
        return render(request, "403.html", {"reason": "Your role may look at deployments, not make them."}, status=403)
    if offer is None or model.openness == Model.Openness.CLOSED:
        (entry,) = library.entries([model])
        return render(request, "403.html", {"reason": f"{model.name}: {entry.deployable.reason}."}, status=409)
    try:
        page = _page(request, offer, request.POST if request.method == "POST" else None)
    except NotDeployable as error:
        return render(request, "403.html", {"reason": str(error)}, status=409)
    if request.htmx:  # type: ignore[attr-defined]
        return render(request, "deployments/new.html#estimate", page.context() | {"is_part": True})
    return _answer(request, page)


def _answer(request: TeamRequest, page: "_Page") -> HttpResponse:
    form, plan = page.form, None
    if request.method == "POST" and form.is_valid():
        hardware = Hardware.objects.get(slug=form.cleaned_data["hardware"])
        if "dry_run" not in request.POST:
            _agree(request, page)
        if "dry_run" in request.POST:
            plan = rehearsing.rehearse(request.team, model=page.model, hardware=hardware, **form.wish)
        elif found := _deploy(request, page.model, hardware, form):
            return redirect("deployment-detail", found.pk)
    status_code = 400 if form.errors else 200
    return render(request, "deployments/new.html", page.context() | {"plan": plan}, status=status_code)


@dataclass(frozen=True, slots=True)
class _Page:
    model: Model
    loaded: Loaded
    form: DeployForm
    sites: list[Site]
    chosen: Site | None
    wrong: str
    use: str
    licences: list[Standing]

    @property
    def is_denied(self) -> bool:
        return any(one.is_denied for one in self.licences)

    def context(self) -> dict[str, Any]:
        form, chosen = self.form, self.chosen
        said = form.elastic if form.is_bound and form.is_valid() else {"min_replicas": 0, "max_replicas": 1}
        per_hour = chosen.per_hour if chosen else None
        return {
            "model": self.model,
            "loaded": self.loaded,
            "form": form,
            "sites": self.sites,
            "site": chosen,
            "wrong": self.wrong,
            "use": self.use,
            "licences": self.licences,
            "ticked": self.form.data.getlist("agree") if self.form.is_bound else [],  # type: ignore[attr-defined]
            "is_denied": self.is_denied,
            "least": per_hour * (said["min_replicas"] or 0) if per_hour is not None else None,
            "most": per_hour * (said["max_replicas"] or 1) if per_hour is not None else None,
            "most_replicas": said["max_replicas"],
            "fewest_replicas": said["min_replicas"],
            "usual_start_s": status.usual_start_s(hardware_slug=chosen.hardware.slug) if chosen else None,
        }


def _page(request: TeamRequest, offer: Offer, data: QueryDict | None) -> _Page:
    """The form, and what its options, as far as they are right, would need on each hardware."""
    model = offer.model
    revisions = preparing.revisions(model)
    loaded = _loaded(offer, revisions, str(data.get("revision", "")) if data else "")
    policy = agreements.policy_of(request.team.pk)
    known = preparing.priced_hardware()
    here = [one for one in known if not preparing.why_not(loaded, one, per_second=preparing.price_of(one))]
    first = here[0].slug if here else ""  # the smallest
    form = DeployForm(
        data,
        engine=loaded.engine,
        max_context_tokens=preparing.most_context(model, loaded.base, offer=offer),
        hardware=[(one.slug, one.name) for one in here],
        revisions=[(one.revision, one.revision) for one in revisions],
        adapters=_adapters(request, loaded),
        initial={
            "name": operations.free_name(request.team, model),
            "hardware": first,
            "revision": loaded.chosen.revision,
            "use": policy.default_use,
        },
    )
    options, wrong = _options(offer, loaded, form)
    sites = preparing.sites(loaded, options, known)
    slug = (data.get("hardware") if data else None) or first
    chosen = next((site for site in sites if site.hardware.slug == slug), None)
    asked = data.get("use", "") if data else ""
    use = asked if asked in Use.values else policy.default_use
    licences = agreements.standings(policy, _chosen(request, loaded, form).terms, use)
    return _Page(model, loaded, form, sites, chosen, wrong, use, licences)


def _loaded(offer: Offer, revisions: list[Weights], asked: str) -> Loaded:
    """What was asked for; what the offer says where nothing was, or what can't be: the form says so."""
    assert offer.weights is not None  # noqa: S101 - the database's own constraint
    chosen = next((one for one in revisions if one.revision == asked), offer.weights)
    try:
        return preparing.loads(chosen)
    except BadOption:
        return preparing.loads(offer.weights)


def _chosen(request: TeamRequest, loaded: Loaded, form: DeployForm) -> Loaded:
    """With the adapters that were ticked: they have licences, too."""
    if not (form.is_bound and form.is_valid()):
        return loaded
    try:
        return preparing.loads(loaded.chosen, preparing.adapters_of(request.team, form.chosen_adapters))
    except DeploymentError:  # the deployment itself says so
        return loaded


def _agree(request: TeamRequest, page: "_Page") -> None:
    """What was ticked is agreed to, if it is what stands there now."""
    ticked = set(request.POST.getlist("agree"))
    for one in page.licences:
        if one.asks and one.key in ticked:
            agreements.agree(request.team, one.terms, use=one.use, model=page.model.slug, actor=request.user.email)


def _adapters(request: TeamRequest, loaded: Loaded) -> list[tuple[str, str]]:
    rows = preparing.adapters_for(request.team, loaded.base)
    return adapter_choices([row for row in rows if row.pk != loaded.chosen.pk], {})


def _options(offer: Offer, loaded: Loaded, form: DeployForm) -> tuple[dict[str, Any], str]:
    """Those that were filled in, checked; the defaults where one of them is wrong, and which."""
    place = preparing.place_of(offer.model, loaded, Hardware(gpus=0), offer=offer)
    if form.is_bound:
        form.is_valid()
        try:
            return loaded.engine.check(form.options, place), ""
        except BadOption as error:
            return loaded.engine.check({}, place), str(error)
    return loaded.engine.check({}, place), ""


def _deploy(request: TeamRequest, model: Model, hardware: Hardware, form: DeployForm) -> Deployment | None:
    wish = form.wish
    try:
        return operations.deploy(request.team, model=model, hardware=hardware, actor=request.user.email, **wish)
    except NameTaken as error:
        # The second of two clicks finds what the first has made.
        running = Deployment.objects.unsettled().of(request.team).filter(name=wish["name"]).first()
        if running and running.model_id == model.pk and running.stop_asked_at is None:
            messages.info(request, f"{running.endpoint_model} was there already; nothing new was started.")
            return running
        form.add_error("name", str(error))
    except Unlicensed as error:
        form.add_error("use", "Agree to the licence first." if not error.refusal.standing.is_denied else str(error))
    except BadName as error:
        form.add_error("name", str(error))
    except BadOption as error:
        form.add_error(error.option if error.option in form.fields else None, str(error))
    except DeploymentError as error:
        form.add_error(None, str(error))
    return None
