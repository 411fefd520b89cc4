"""Saved prompts: named, versioned, private until they are shared with the team."""

import difflib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from django.db import transaction
from django.db.models import Max

from accounts import audit
from accounts.models import Membership
from accounts.roles import MAKERS, MANAGERS
from playground.models import PromptVersion, SavedPrompt


@dataclass(frozen=True, slots=True)
class Content:
    """What one version says. `parameters` has the names of chat/completions."""

    system: str = ""
    message: str = ""
    parameters: dict[str, Any] = field(default_factory=dict)
    tried_with: list[str] = field(default_factory=list)
    note: str = ""


def may_make(membership: Membership) -> bool:
    return membership.role in MAKERS


def may_manage(prompt: SavedPrompt, membership: Membership) -> bool:
    """Share it, rename it, delete it: its author, or who keeps the team."""
    return may_make(membership) and (prompt.author_id == membership.user_id or membership.role in MANAGERS)


def create(membership: Membership, *, name: str, is_shared: bool, content: Content) -> SavedPrompt:
    with transaction.atomic():
        prompt = SavedPrompt.objects.create(
            team=membership.team, author=membership.user, name=name, is_shared=is_shared
        )
        _append(prompt, content, by=membership.user.email)
        _tell(prompt, membership, "shared the prompt" if is_shared else "", after={"shared": True})
    return prompt


def add_version(prompt: SavedPrompt, membership: Membership, content: Content) -> PromptVersion:
    """The next version; the newest as it is when it says the same."""
    with transaction.atomic():
        locked = SavedPrompt.objects.select_for_update().get(pk=prompt.pk)
        newest = locked.versions.first()
        if newest and _same(newest, content):
            return newest
        version = _append(locked, content, by=membership.user.email)
        locked.save(update_fields=["updated_at"])
        before = {"version": newest.number} if newest else {}
        verb = f"saved version {version.number} of the prompt" if locked.is_shared else ""
        _tell(locked, membership, verb, before=before, after={"version": version.number})
    return version


def share(prompt: SavedPrompt, membership: Membership, *, is_shared: bool) -> None:
    with transaction.atomic():
        SavedPrompt.objects.filter(pk=prompt.pk).update(is_shared=is_shared)
        verb = "shared the prompt" if is_shared else "made private the prompt"
        _tell(prompt, membership, verb, before={"shared": prompt.is_shared}, after={"shared": is_shared})


def rename(prompt: SavedPrompt, membership: Membership, name: str) -> None:
    with transaction.atomic():
        SavedPrompt.objects.filter(pk=prompt.pk).update(name=name)
        verb = "renamed the prompt" if prompt.is_shared and name != prompt.name else ""
        _tell(prompt, membership, verb, before={"name": prompt.name}, after={"name": name})


def delete(prompt: SavedPrompt, membership: Membership) -> None:
    with transaction.atomic():
        before = {"shared": True, "versions": prompt.versions.count()}
        _tell(prompt, membership, "deleted the prompt" if prompt.is_shared else "", before=before)
        prompt.delete()


def lines(version: PromptVersion) -> list[str]:
    """The version as text, for people and for a comparison."""
    parameters = json.dumps(version.parameters, indent=2, ensure_ascii=False, sort_keys=True)
    parts = [("System prompt", version.system), ("Message", version.message)]
    parts += [("Parameters", parameters)] if version.parameters else []
    return [line for title, text in parts if text for line in (f"{title}:", *text.splitlines(), "")]


def compared(before: PromptVersion, after: PromptVersion) -> Iterator[tuple[str, str]]:
    """(kind, line): kind is "+", "-" or " "."""
    for line in difflib.ndiff(lines(before), lines(after)):
        if not line.startswith("?"):
            yield line[0], line[2:]


def _append(prompt: SavedPrompt, content: Content, *, by: str) -> PromptVersion:
    number = (prompt.versions.aggregate(most=Max("number"))["most"] or 0) + 1
    return PromptVersion.objects.create(
        prompt=prompt, number=number, system=content.system, message=content.message, parameters=content.parameters,
        tried_with=content.tried_with, note=content.note, created_by=by,
    )  # fmt: skip


def _same(version: PromptVersion, content: Content) -> bool:
    return (version.system, version.message, version.parameters) == (
        content.system, content.message, content.parameters
    )  # fmt: skip


def _tell(prompt: SavedPrompt, membership: Membership, verb: str, **changes: dict[str, Any]) -> None:
    """What the team can see of a change goes into its trail; what is private to its author does not."""
    if verb:
        audit.record(prompt.team, actor=membership.user.email, verb=verb, subject=prompt.name, **changes)
