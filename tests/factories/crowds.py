"""A team that has much of everything: what pages and lists are measured with."""

import uuid
from collections.abc import Iterator
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

from django.conf import settings
from django.db import transaction
from django.urls import get_resolver, reverse
from django.utils import timezone

from accounts import audit, keys
from accounts.models import ApiKey, Invitation, Membership, Team, User
from billing.models import Budget, Invoice, LedgerEntry, ProviderImport
from catalog.licensing import agreements, stating
from catalog.models import Hardware, Licence, Model, Weights
from catalog.uploads.models import Draft, Upload
from deployments.models import Deployment, DeploymentEvent, Replica, Version
from deployments.validation.models import CaseResult, Edition, PromptSet, ThroughputRun, ValidationPlan, ValidationRun
from gateway.models import Alias, AliasTarget, Limits, RequestRecord
from playground.models import PromptVersion, SavedPrompt, SentAnswer
from tests.factories import libraries
from tests.factories.billing import billed

STATES = ("ready", "asleep", "failed", "stopped", "starting")
STREAMS = {"deployment-stream", "deployment-list-stream", "playground-answer-again"}
MODEL = "smollm2-135m-instruct"
# What a page can't be opened without.
NEEDED = {
    **dict.fromkeys(("deploy-new", "licence-agree", "api-licences"), f"?model={MODEL}"),
    "advisor-brief": f"?model={MODEL}",
}
Ids = dict[str, dict[str, Any]]


def fill(team: Team, *, models: int, deployments: int, states: tuple[str, ...] = STATES, calls: int = 60) -> None:
    """The library, the team's deployments in these states by turns, and calls of the last days."""
    settings.SMOLLM2_GGUF = settings.SMOLLM2_GGUF or __file__
    with transaction.atomic():
        libraries.make(models)
    rows = _deployments(team, deployments, states)
    now = timezone.now()
    Replica.objects.bulk_create(
        Replica(deployment=row, version=row.version, started_at=now, ready_at=now)
        for row in rows
        if row.status == "ready"
    )
    DeploymentEvent.objects.bulk_create(
        DeploymentEvent(deployment=row, before=before, after=after, reason="asked")
        for row in rows
        for before, after in (("", "pending"), ("pending", "starting"), ("starting", "ready"), ("ready", "asleep"))
    )
    for number in range(calls):
        name = f"{team.slug}/d{number % 30}"
        through = {"path": "serverless", "source": name, "deployment_name": name} if number % 2 else {}
        moment = now - timedelta(days=number % 25, hours=1)
        billed(team, started_at=moment, api_key_name=f"key {number % 12}", **through)


def _deployments(team: Team, count: int, states: tuple[str, ...]) -> list[Deployment]:
    weighed = list(Weights.objects.filter(team=None).select_related("model")[:40])
    hardware = Hardware.objects.get(slug="cpu-small")
    rows = Deployment.objects.bulk_create(
        Deployment(
            team=team, name=f"d{number}", model=weighed[number % len(weighed)].model,
            weights=weighed[number % len(weighed)], hardware=hardware, engine="llama_cpp", backend="local",
            status=states[number % len(states)], reason="asked", created_by="bench",
        )
        for number in range(count)
    )  # fmt: skip
    versions = Version.objects.bulk_create(
        Version(deployment=row, number=1, weights=row.weights, hardware=hardware, engine="llama_cpp") for row in rows
    )
    for row, version in zip(rows, versions, strict=True):
        row.version = version
    Deployment.objects.bulk_update(rows, ["version"], batch_size=500)
    return rows


def furnish(member: Membership, *, many: int = 30) -> Ids:
    """One of everything that has a page, and `many` of what lists have. Route -> its ids; `*` for most."""
    anything: dict[str, Any] = {
        "slug": MODEL, "month": f"{timezone.now():%Y-%m}", "key": "none", "uidb36": "1", "token": "none", "number": 1,
        "provider_id": "none",
    }  # fmt: skip
    anything |= {"name": _invoices(member.team, many), **_validated(member.team, many)}
    known = _people(member, many) | _gateway(member, many) | _money(member.team, many) | _weights(member, many)
    known |= _prompts(member, many)
    return {"*": anything, "api-throughput": anything | {"run": anything["measured"]}} | {
        route: anything | {"pk": pk} for routes, pk in known.items() for route in routes.split()
    }


def _people(member: Membership, many: int) -> dict[str, Any]:
    """Members, invitations, what they did, and what they agreed to."""
    team, now = member.team, timezone.now()
    users = User.objects.bulk_create(User(email=f"person{number}@{team.slug}.example.com") for number in range(many))
    others = Membership.objects.bulk_create(Membership(team=team, user=user, role="developer") for user in users)
    invitations = Invitation.objects.bulk_create(
        Invitation(
            team=team, email=f"new{number}@{team.slug}.example.com", role="viewer", digest=f"{team.slug} {number}",
            invited_by=users[number], sent_at=now, expires_at=now + timedelta(days=7),
        )
        for number in range(many)
    )  # fmt: skip
    for number in range(many):
        audit.record(team, actor=users[number].email, verb="made a thing", subject=f"thing {number}")
    for licence in Licence.objects.order_by("pk")[:many]:
        terms = stating.of_licence(licence, is_closed=False)
        agreements.agree(team, terms, use="internal", model=MODEL, actor=member.user.email)
    return {
        "member-role member-remove api-member": others[0].pk,
        "mfa_remove_webauthn mfa_edit_webauthn": 1,
        "invitation-resend invitation-revoke": invitations[0].pk,
    }


def _gateway(member: Membership, many: int) -> dict[str, Any]:
    """Keys with limits, aliases, and the log of requests."""
    team, now = member.team, timezone.now()
    issued = [keys.issue(team, name=f"key {number}", created_by=member.user)[0] for number in range(many)]
    Limits.objects.bulk_create(Limits(team=team, api_key=key, requests_per_minute=60) for key in issued)
    aliases = Alias.objects.bulk_create(Alias(team=team, name=f"alias-{number}") for number in range(many))
    AliasTarget.objects.bulk_create(
        AliasTarget(alias=one, model=MODEL, position=place) for one in aliases for place in range(3)
    )
    records = RequestRecord.objects.bulk_create(
        RequestRecord(
            team=team, at=now - timedelta(minutes=number), request_id=uuid.uuid4().hex, api_key_name="key 1",
            surface="chat", asked=MODEL, status=200, total_ms=100, cost=Decimal("0.0001"),
        )
        for number in range(many * 10)
    )  # fmt: skip
    return {
        "key-detail key-rotate key-revoke": issued[0].pk,
        "alias-edit alias-delete api-alias": aliases[0].pk,
        "request-detail": records[0].pk,
    }


def _money(team: Team, many: int) -> dict[str, Any]:
    """Budgets of the team and of its keys, and what a provider has reported."""
    Budget.objects.create(team=team, usd=Decimal(100))
    budgets = [
        Budget.objects.create(team=team, scope="key", subject=str(key.pk), label=key.name, usd=Decimal(5))
        for key in ApiKey.objects.filter(team=team)[:many]
    ]
    today = timezone.now().date()
    imported = ProviderImport.objects.bulk_create(
        ProviderImport(
            provider="openai", filename=f"usage {number}.csv", sha256=f"{number:064}",
            first_day=today - timedelta(days=3), last_day=today, rows=1, imported_by="bench",
        )
        for number in range(many)
    )  # fmt: skip
    return {"budget-edit budget-delete api-budget": budgets[0].pk, "reconciliation-report": imported[0].pk}


def _invoices(team: Team, many: int) -> str:
    """The name of the last of `many` closed months."""
    month = timezone.now().replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    name = ""
    for number in range(many, 0, -1):
        first = date(month.year - (number + 12 - month.month) // 12, (month.month - number - 1) % 12 + 1, 1)
        begins = month.replace(year=first.year, month=first.month)
        name = Invoice.objects.create(
            number=Invoice.objects.count() + 1, team=team, month=first, team_slug=team.slug, team_name=team.name,
            time_zone="UTC", issuer="Modelport", begins=begins, ends=begins + timedelta(days=28),
            upto=LedgerEntry.objects.count(), total=0, due=0, entries=0, events=0, estimated=0, lines=[], checks=[],
            issued_at=begins + timedelta(days=32),
        ).name  # fmt: skip
    return name


def _weights(member: Membership, many: int) -> dict[str, Any]:
    """Own weights of a model that all know, and drafts with their files."""
    team, now = member.team, timezone.now()
    model = Model.objects.get(slug=MODEL)
    own = Weights.objects.bulk_create(
        Weights(
            model=model, team=team, version=100 + number, source="made for this", source_kind="upload",
            revision=f"own {number}", format="gguf", path="/none", sha256="1" * 64, size_bytes=10**9,
        )
        for number in range(many)
    )  # fmt: skip
    drafts = Draft.objects.bulk_create(
        Draft(team=team, name=f"draft {number}", created_by=member.user.email) for number in range(many)
    )
    uploads = Upload.objects.bulk_create(
        Upload(draft=draft, filename=f"part {place}.gguf", length=10, expires_at=now + timedelta(days=1))
        for draft in drafts
        for place in range(3)
    )
    return {
        "weights-detail weights-notes weights-retry weights-remove api-weights-detail api-weights-retry": own[0].pk,
        "draft-detail draft-finish draft-give-up api-draft api-draft-finish": drafts[0].pk,
        "api-upload": uploads[0].pk,
    }


def _validated(team: Team, many: int) -> dict[str, Any]:
    """A deployment that has been validated and measured: its pk, and that of a run."""
    now = timezone.now()
    sets = PromptSet.objects.bulk_create(PromptSet(team=team, name=f"set {number}") for number in range(many))
    cases = [{"name": f"case {one}", "prompt": "Hello", "checks": [{"kind": "contains", "value": "x"}]} for one in "ab"]
    editions = Edition.objects.bulk_create(Edition(prompt_set=one, number=1, cases=cases) for one in sets)
    deployment = Deployment.objects.filter(team=team, status="ready").select_related("version")[0]
    ValidationPlan.objects.create(deployment=deployment, prompt_set=sets[0])
    ended: dict[str, Any] = {
        "team": team, "deployment": deployment, "version": deployment.version, "deadline_at": now, "started_at": now,
        "finished_at": now,
    }  # fmt: skip
    runs = ValidationRun.objects.bulk_create(
        ValidationRun(edition=editions[number], trigger="demand", status="passed", **ended) for number in range(many)
    )
    CaseResult.objects.bulk_create(
        CaseResult(run=run, position=place, name="case", verdict="passed", answer="x")
        for run in runs
        for place in (0, 1)
    )
    measured = ThroughputRun.objects.bulk_create(ThroughputRun(status="done", **ended) for _ in range(many))
    states = {row.status: row.pk for row in Deployment.objects.filter(team=team)}
    return {"pk": deployment.pk, "run": runs[0].pk, "each_state": [*states.values()], "measured": measured[0].pk}


def _prompts(member: Membership, many: int) -> dict[str, Any]:
    team = member.team
    saved = SavedPrompt.objects.bulk_create(
        SavedPrompt(team=team, author=member.user, name=f"prompt {number}", is_shared=True) for number in range(many)
    )
    PromptVersion.objects.bulk_create(
        PromptVersion(prompt=prompt, number=number, message="Hello.") for prompt in saved for number in (1, 2)
    )
    asked = PromptSet.objects.filter(team=team)[0].pk
    answer = SentAnswer.objects.create(
        team=team, user=member.user, send_id=uuid.uuid4(), body_digest="-", state="done", heard_at=timezone.now()
    )
    return {
        "playground-answer-again playground-answer-stop": answer.send_id,
        "prompt-detail prompt-save-version prompt-change prompt-delete prompt-restore": saved[0].pk,
        "prompt-set prompt-set-remove api-prompt-set": asked,
    }


def addresses(ids: Ids) -> Iterator[str]:
    """One of each route, and the busiest forms of some. A route whose ids nobody gave is an error, never left out."""
    for name, kwargs in _routes(get_resolver()):
        if name in STREAMS:
            continue
        asks = NEEDED.get(name, "")
        missing = set(kwargs) - set(ids.get(name, ids["*"]))
        assert not missing, f"nobody gave {missing} for the route {name}"
        yield reverse(name, kwargs={key: ids.get(name, ids["*"])[key] for key in kwargs}) + asks
    model = reverse("model-detail", args=[MODEL])
    yield from (f"{model}?tab={tab}" for tab in ("use", "versions", "licence", "usage"))
    yield reverse("model-compare") + "?m=" + MODEL + "&m=claude-opus-4.7&m=deepseek-v4-pro&m=glm-5"
    yield reverse("model-list") + "?view=list&q=claude"
    yield reverse("deployment-list") + "?over=all"
    yield from (reverse("deployment-detail", args=[pk]) for pk in ids["*"]["each_state"])
    yield from (f"{reverse(name)}?model={MODEL}" for name in ("advisor", "playground"))
    yield from (f"{reverse('costs')}?split={split}" for split in ("deployment", "key"))


def _routes(resolver: Any, above: tuple[str, ...] = ()) -> Iterator[tuple[str, tuple[str, ...]]]:
    """(name, names of its arguments) of all but the admin's."""
    for pattern in resolver.url_patterns:
        named = (*above, *pattern.pattern.regex.groupindex)
        if hasattr(pattern, "url_patterns"):
            if getattr(pattern, "namespace", None) != "admin":
                yield from _routes(pattern, named)
        elif pattern.name:
            yield pattern.name, named
