"""The team's licence policy, what its names are used for, and agreeing to a licence. They stand here because a use may
be of what any floor names: a model, a deployment, an alias."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from django.contrib import messages
from django.db import transaction
from django.db.models import Exists, OuterRef, Q
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_http_methods

from accounts.http import TeamRequest, team_required
from accounts.models import Team
from accounts.roles import MAKERS, MANAGERS
from catalog import library
from catalog.errors import BadPolicy
from catalog.licensing import agreements, stating
from catalog.licensing.models import LicenceAgreement
from catalog.licensing.policy import DEFAULTS, KINDS, USES, VERDICTS, Kind, Policy, Terms, Use, Verdict, of_kind
from catalog.models import Licence, Model, Weights
from deployments.models import Deployment
from gateway.models import Alias

SHOWN_AGREEMENTS, SHOWN_NAMES = 100, 50


@dataclass(frozen=True, slots=True)
class Cell:
    """One verdict of the table: what was said, and what counts where nothing was."""

    field: str
    use: str
    said: str
    otherwise: str

    @property
    def counts(self) -> str:
        return self.said or self.otherwise


@dataclass(frozen=True, slots=True)
class Row:
    name: str
    words: str
    cells: list[Cell]
    url: str = ""
    kind: str = ""


@team_required
@require_http_methods(["GET", "POST"])
def policy(request: TeamRequest) -> HttpResponse:
    if request.method != "POST":
        return _page(request)
    if request.membership.role not in MANAGERS:
        reason = "Your role in this team may look at the licence policy. An owner or admin can change it."
        return render(request, "403.html", {"reason": reason}, status=403)
    try:
        changed = _save(request)
    except BadPolicy as error:
        messages.error(request, f"Nothing was changed: {error}")
        return _page(request, status=400)
    text = "Saved. Gateways follow within 5 seconds." if changed else "Nothing was different."
    messages.success(request, text)
    return redirect("licences")


@team_required
@require_http_methods(["GET", "POST"])
def agree(request: TeamRequest) -> HttpResponse:
    """What a model's licences ask of the team for a use; a POST agrees to what was ticked, if it still stands so."""
    model = get_object_or_404(library.visible_to(request.team), slug=request.GET.get("model", "").replace("\0", ""))
    found = agreements.policy_of(request.team.pk)
    use = request.GET.get("use", "")
    use = use if use in Use.values else found.default_use
    may_agree = request.membership.role in MAKERS
    if request.method == "POST":
        if not may_agree:
            reason = "Your role in this team may look at licences, not agree to them."
            return render(request, "403.html", {"reason": reason}, status=403)
        _agree(request, model, found, use)
        found = agreements.policy_of(request.team.pk)
    licences = agreements.standings(found, stating.all_of(model), use)
    context = {
        "model": model,
        "use": use,
        "uses": [(one, USES[one]) for one in Use],
        "licences": licences,
        "asks": any(one.asks for one in licences),
        "may_agree": may_agree,
        "required": True,
    }
    return render(request, "gateway/licence_agree.html", context)


def names_of(team: Team) -> list[str]:
    """What a use can be said of beside the models: the team's aliases and live deployments."""
    aliases = [f"{team.slug}/{name}" for name in Alias.objects.filter(team=team).values_list("name", flat=True)]
    live = Deployment.objects.unsettled().of(team).order_by("name").values_list("name", flat=True)
    return aliases + [f"{team.slug}/{name}" for name in live]


def _agree(request: TeamRequest, model: Model, found: Policy, use: str) -> None:
    ticked = set(request.POST.getlist("agree"))
    open_ = [one for one in agreements.standings(found, stating.all_of(model), use) if one.asks]
    for one in open_:
        if one.key in ticked:
            agreements.agree(request.team, one.terms, use=use, model=model.slug, actor=request.user.email)
            messages.success(request, f"Agreed to {one.terms.name} for {use} use. {model.name} can be used now.")
    if ticked - {one.key for one in open_}:
        messages.error(request, "What you agreed to is not what stands here now: look at it again.")


def _save(request: TeamRequest) -> bool:
    """Whether anything was different."""
    data, team, actor = request.POST, request.team, request.user.email
    if any("\0" in name or "\0" in data[name] for name in data):
        raise BadPolicy("rules", "There are characters in it that no text has.")
    before = agreements.policy_of(team.pk)
    wished = {}
    for name in data:
        what, _, rest = name.partition("|")
        if what == "rule":
            subject, _, use = rest.rpartition("|")
            wished[subject, _one_of(use, Use.values)] = _one_of(data[name], ["", *Verdict.values])
    with transaction.atomic():
        agreements.set_rules(team, wished, actor=actor)
        agreements.set_default_use(team, _one_of(data.get("default_use", ""), Use.values), actor=actor)
        for name in data:
            if name.startswith("use|"):
                agreements.set_use(team, name[4:], _one_of(data[name], ["", *Use.values]), actor=actor)
        if other := data.get("other_name", "").strip():
            _check_name(team, other)
            agreements.set_use(team, other, _one_of(data.get("other_use", ""), Use.values), actor=actor)
    return before != agreements.policy_of(team.pk)


def _check_name(team: Team, name: str) -> None:
    if name not in names_of(team) and not library.visible_to(team).filter(slug=name).exists():
        raise BadPolicy("other_name", f"There is no model, deployment or alias {name[:100]!r}.")


def _one_of(text: str, choices: Iterable[str]) -> str:
    if text not in choices:
        raise BadPolicy("verdict", f"{text[:40]!r} is none of the choices.")
    return text


def _page(request: TeamRequest, *, status: int = 200) -> HttpResponse:
    team = request.team
    found = agreements.policy_of(team.pk)
    said = sorted(found.uses, key=lambda name: (found.uses[name] == found.default_use, name))
    names = list(dict.fromkeys([*said, *names_of(team)]))  # what differs from everything else comes first
    context = {
        "uses": [(use, USES[use]) for use in Use],
        "verdicts": [(verdict, VERDICTS[verdict]) for verdict in Verdict],
        "default_use": found.default_use,
        "kinds": [_kind_row(kind, found) for kind in Kind],
        "licences": [_licence_row(terms, found) for terms in _terms_of(team)],
        "names": [(name, found.uses.get(name, "")) for name in names[:SHOWN_NAMES]],
        "more": len(names[SHOWN_NAMES:]),
        "agreements": LicenceAgreement.objects.filter(team=team)[:SHOWN_AGREEMENTS],
        "may_edit": request.membership.role in MANAGERS,
    }
    return render(request, "gateway/licences.html", context, status=status)


def _terms_of(team: Team) -> list[Terms]:
    """The licences of all that the team can see."""
    seen = Model.objects.filter(Q(team=None) | Q(team=team), licence=OuterRef("pk"))
    rows: Any = Licence.objects.annotate(
        is_seen=Exists(seen),
        is_open=Exists(seen.exclude(openness=Model.Openness.CLOSED)),
        is_had=Exists(Weights.objects.of(team).kept().filter(licence=OuterRef("pk"))),
    )
    rows = rows.filter(Q(is_seen=True) | Q(is_had=True)).order_by("name")
    found = [stating.of_licence(row, is_closed=not (row.is_open or row.is_had)) for row in rows]
    return sorted(found, key=lambda terms: Kind.values.index(terms.kind))


def _kind_row(kind: Kind, found: Policy) -> Row:
    subject = of_kind(kind)
    cells = [_cell(subject, use, found, otherwise=DEFAULTS[kind][use]) for use in Use]
    return Row(kind.label, KINDS[kind], cells)


def _licence_row(terms: Terms, found: Policy) -> Row:
    def as_its_kind(use: Use) -> str:
        return found.rules.get((of_kind(terms.kind), use)) or DEFAULTS[terms.kind][use]

    cells = [_cell(terms.licence, use, found, otherwise=as_its_kind(use)) for use in Use]
    return Row(terms.name, terms.words, cells, terms.url, terms.kind_label)


def _cell(subject: str, use: Use, found: Policy, *, otherwise: str) -> Cell:
    return Cell(f"rule|{subject}|{use}", use.label, found.rules.get((subject, use), ""), otherwise)
