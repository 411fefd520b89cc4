"""Making a deployment, stopping it, starting it again."""

from uuid import UUID

from django.contrib import messages
from django.http import Http404, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_http_methods, require_POST

from accounts.http import TeamRequest, team_required
from accounts.models import Role
from catalog import library
from catalog.library import Entry
from catalog.models import Hardware
from deployments import operations, status
from deployments.errors import BadName, BadOption, DeploymentError, NameTaken
from deployments.forms import DeployForm
from deployments.lifecycle import Status
from deployments.models import Deployment

DEPLOYERS = {Role.OWNER, Role.ADMIN, Role.DEVELOPER}
ENGINE_OPTIONS = ("context_tokens", "slots")


@team_required
@require_http_methods(["GET", "POST"])
def deploy_new(request: TeamRequest) -> HttpResponse:
    model = get_object_or_404(library.visible_to(request.team), slug=request.GET.get("model", ""))
    (entry,) = library.entries([model])
    if request.membership.role not in DEPLOYERS:
        return render(request, "403.html", {"reason": "Your role may look at deployments, not make them."}, status=403)
    if not entry.deployable.is_open:
        reason = f"{model.name}: {entry.deployable.reason}."
        return render(request, "403.html", {"reason": reason}, status=409)
    choices = [(hardware.slug, hardware.name) for hardware, _ in entry.hardware if hardware.backend]
    free = operations.free_name(request.team, model)
    first = {"name": free, "hardware": choices[0][0]}
    form = DeployForm(
        request.POST or None,
        initial=first,
        hardware=choices,
        max_context_tokens=operations.most_context(entry.deployable_offer) if entry.deployable_offer else None,
    )
    if request.method == "POST" and form.is_valid():
        found = _deploy(request, entry, form)
        if isinstance(found, Deployment):
            return redirect("deployment-detail", found.pk)
    context = {
        "entry": entry,
        "model": model,
        "form": form,
        "not_offered": Hardware.objects.filter(backend="").exclude(
            pk__in=[machine.pk for machine, _ in entry.hardware]
        ),
        "usual_start_s": status.usual_start_s(hardware_slug=choices[0][0]),
    }
    return render(request, "deployments/new.html", context, status=400 if form.errors else 200)


@require_POST
@team_required
def deployment_stop(request: TeamRequest, pk: UUID) -> HttpResponse:
    deployment = _own(request, pk)
    if request.membership.role not in DEPLOYERS:
        return render(request, "403.html", {"reason": "Your role may look at deployments, not stop them."}, status=403)
    operations.stop(deployment, actor=request.user.email)
    return redirect("deployment-detail", pk)


@require_POST
@team_required
def deployment_retry(request: TeamRequest, pk: UUID) -> HttpResponse:
    deployment = _own(request, pk)
    if request.membership.role not in DEPLOYERS:
        return render(request, "403.html", {"reason": "Your role may look at deployments, not start them."}, status=403)
    if deployment.status == Status.FAILED:
        operations.retry(deployment, actor=request.user.email)
    return redirect("deployment-detail", pk)


def _own(request: TeamRequest, pk: UUID) -> Deployment:
    """The team's own, or 404: another team's does not exist here."""
    return get_object_or_404(Deployment.objects.of(request.team).select_related("team"), pk=pk)


def _deploy(request: TeamRequest, entry: Entry, form: DeployForm) -> Deployment | None:
    asked = form.cleaned_data
    hardware = next((h for h, _ in entry.hardware if h.slug == asked["hardware"]), None)
    if hardware is None:
        raise Http404
    try:
        return operations.deploy(
            request.team,
            model=entry.model,
            hardware=hardware,
            actor=request.user.email,
            name=asked["name"],
            min_replicas=asked["min_replicas"],
            idle_window_s=asked["idle_window_s"],
            hold_s=asked["hold_s"],
            options={name: asked[name] for name in ENGINE_OPTIONS},
        )
    except NameTaken as error:
        # The second of two clicks finds what the first has made.
        running = Deployment.objects.unsettled().of(request.team).filter(name=asked["name"]).first()
        if running and running.model_id == entry.model.pk and running.stop_asked_at is None:
            messages.info(request, f"{running.endpoint_model} was there already; nothing new was started.")
            return running
        form.add_error("name", str(error))
    except BadName as error:
        form.add_error("name", str(error))
    except BadOption as error:
        form.add_error(error.option if error.option in form.fields else None, str(error))
    except DeploymentError as error:
        form.add_error(None, str(error))
    return None
