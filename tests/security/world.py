"""Two teams that have one of each thing, and somebody in each role: what every route is tried with."""

import re
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver
from django.utils import timezone

from accounts import keys
from accounts.models import Invitation, Membership, Role, Team, User
from billing.models import Budget, Invoice
from catalog.uploads.models import Draft, Upload
from deployments.models import Deployment, PromptSet, Replica, ValidationRun
from deployments.validation import wishes
from gateway.models import Alias, AliasTarget, RequestRecord
from playground.models import PromptVersion, SavedPrompt, SentAnswer
from tests.factories.accounts import TeamFactory, UserFactory
from tests.factories.billing import billed
from tests.factories.deployments import own_weights, smollm2


@dataclass
class TeamWorld:
    """A team with one of each thing. `ids` answers what a route's argument is called by."""

    team: Team
    people: dict[str, User]
    key: str
    ids: dict[str, Any] = field(default_factory=dict)

    def client(self, role: str) -> Client:
        client = Client(raise_request_exception=False)
        client.force_login(self.people[role])
        return client


def team_world(slug: str, folder: Path) -> TeamWorld:
    team = TeamFactory(slug=slug, name=slug.title())
    people = {role: UserFactory(email=f"{role}@{slug}.example.com") for role in Role.values}
    for role, user in people.items():
        Membership.objects.create(team=team, user=user, role=role)
    key, text = keys.issue(team, name=f"{slug}-key", created_by=people["developer"])
    world = TeamWorld(team, people, text)
    _fill(world, key, folder)
    return world


def _fill(world: TeamWorld, key: Any, folder: Path) -> None:
    team, now = world.team, timezone.now()
    model, hardware = smollm2()
    weights = own_weights(team, folder / team.slug, {"model.gguf": b"GGUF"})
    deployment = Deployment.objects.create(
        team=team, name="small", model=model, weights=model.weights.get(), hardware=hardware, engine="llama_cpp",
        backend="local", options={}, status="ready",
    )  # fmt: skip
    Replica.objects.create(
        deployment=deployment, started_at=now, ready_at=now, address="http://127.0.0.1:9", billed_until=now
    )
    raw = [{"prompt": "Say hello.", "checks": [{"kind": "contains", "value": "hello"}]}]
    prompts = wishes.save_set(team, name="smoke", note="", raw_cases=raw, actor="test")
    alias = Alias.objects.create(team=team, name="chat-main")
    AliasTarget.objects.create(alias=alias, model=deployment.endpoint_model)
    draft = Draft.objects.create(team=team, name="draft", created_by=world.people["owner"].email)
    upload = Upload.objects.create(draft=draft, filename="model.gguf", length=4, expires_at=now + timedelta(days=1))
    record = RequestRecord.objects.create(
        team=team, at=now, request_id=f"req-{team.slug}", api_key_name="k", surface="chat", asked="m",
        status=200, total_ms=3,
    )  # fmt: skip
    budget = Budget.objects.create(team=team, usd=5)
    billed(team, {"tokens.input": 5}, started_at=datetime(2026, 10, 10, 12, tzinfo=UTC))
    invitation = Invitation.objects.create(
        team=team, email="new@example.com", role="viewer", digest=team.slug, expires_at=now + timedelta(days=7)
    )
    prompt = SavedPrompt.objects.create(team=team, author=None, name="hello", is_shared=True)
    PromptVersion.objects.create(prompt=prompt, number=1, message="Hello.")
    answer = SentAnswer.objects.create(
        team=team, user=world.people["owner"], send_id=uuid.uuid4(), body_digest="-", state="done", heard_at=now
    )
    world.ids = {
        "member": Membership.objects.get(team=team, role="viewer").pk,
        "invitation": invitation.pk,
        "prompt": prompt.pk,
        "number": 1,
        "answer": answer.send_id,
        "token": "a-token",
        "key": key.pk,
        "weights": weights.pk,
        "model": weights.model.slug,
        "deployment": deployment.pk,
        "prompt_set": prompts.pk,
        "run": _run(deployment, prompts).pk,
        "alias": alias.pk,
        "draft": draft.pk,
        "upload": upload.pk,
        "request": record.pk,
        "budget": budget.pk,
        "invoice": _invoice(team).name,
        "month": "2026-10",
        "reconciliation": 1,
    }


def _run(deployment: Deployment, prompts: PromptSet) -> ValidationRun:
    return ValidationRun.objects.create(
        team=deployment.team, deployment=deployment, edition=prompts.edition, trigger="demand", status="passed",
        deadline_at=timezone.now(),
    )  # fmt: skip


def _invoice(team: Team) -> Invoice:
    begins, ends = datetime(2026, 9, 1, tzinfo=UTC), datetime(2026, 10, 1, tzinfo=UTC)
    return Invoice.objects.create(
        number=Invoice.objects.count() + 1, team=team, month=date(2026, 9, 1), team_slug=team.slug, team_name=team.name,
        time_zone="UTC", issuer="Modelport", begins=begins, ends=ends, upto=0, total=0, due=0, entries=0, events=0,
        estimated=0, lines=[], checks=[], issued_at=timezone.now(),
    )  # fmt: skip


@dataclass(frozen=True)
class Route:
    """A route of the site: its name, its pattern as Django has it, and what its arguments are."""

    name: str
    pattern: str

    view: Any

    @property
    def is_api(self) -> bool:
        return self.pattern.startswith("api/")

    @property
    def kinds(self) -> set[str]:
        """What its arguments are called by."""
        parts = self.pattern.split("/")
        return {
            _kind(found[1], parts[place - 1]) for place, part in enumerate(parts) if (found := ARGUMENT.search(part))
        }

    @property
    def has_ids(self) -> bool:
        return "<" in self.pattern

    def path(self, ids: dict[str, Any]) -> str:
        """Filled with the ids of a team."""
        done, parts = [], self.pattern.split("/")
        for place, part in enumerate(parts):
            found = ARGUMENT.search(part)
            before = parts[place - 1] if place else ""
            done.append(ARGUMENT.sub(str(ids[_kind(found[1], before)]), part) if found else part)
        return "/" + "/".join(done) + QUERIES.get(self.name, "")


# What a page can't be opened without.
QUERIES = dict.fromkeys(("deploy-new", "licence-agree"), "?model=smollm2-135m-instruct")
ARGUMENT = re.compile(r"<(?:\w+:)?(\w+)>")
# What <pk> is, by the part before it.
KINDS = {
    "keys": "key",
    "weights": "weights",
    "upload": "draft",
    "uploads": "upload",
    "drafts": "draft",
    "deployments": "deployment",
    "prompt-sets": "prompt_set",
    "aliases": "alias",
    "budgets": "budget",
    "requests": "request",
    "invoices": "invoice",
    "models": "model",
    "measure": "model",
    "reconciliation": "reconciliation",
    "members": "member",
    "invitations": "invitation",
    "prompts": "prompt",
    "answers": "answer",
}


def _kind(argument: str, before: str) -> str:
    return argument if argument in {"run", "month", "number", "token"} else KINDS[before]


def methods(route: Route) -> list[str]:
    """Those that it answers."""
    made = getattr(route.view, "cls", None) or getattr(route.view, "view_class", None)
    if made is not None:
        return [name for name in ("get", "post", "put", "patch", "delete") if hasattr(made, name)]
    allowed = _allowed(route.view)
    return [name for name in ("get", "post") if name in allowed]


def _allowed(view: Any) -> set[str]:
    """What @require_safe, @require_POST and their like let through."""
    while True:
        for cell in view.__closure__ or ():
            found = cell.cell_contents
            if isinstance(found, list) and found and all(isinstance(one, str) and one.isupper() for one in found):
                return {one.lower() for one in found}
        if not hasattr(view, "__wrapped__"):
            return {"get", "post"}
        view = view.__wrapped__


def routes() -> list[Route]:
    """All but the admin's and allauth's own, which keep their own doors."""
    return [
        Route(name, pattern, view) for name, pattern, view in _walk(get_resolver()) if not pattern.startswith(NOT_OURS)
    ]


NOT_OURS = ("admin/", "accounts/")


def _walk(resolver: URLResolver, prefix: str = "") -> Iterator[tuple[str, str, Any]]:
    for found in resolver.url_patterns:
        path = f"{prefix}{found.pattern}"
        if isinstance(found, URLPattern):
            yield found.name or "", path, found.callback
        else:
            yield from _walk(found, path)
