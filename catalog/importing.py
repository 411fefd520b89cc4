"""From a repository of the Hub to rows. preflight() says what is there and whether it may come, before anything is
downloaded or any hardware is asked for; begin() writes the wish, and fetching.py carries it out.
"""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import Any

from django.db import transaction
from django.db.models import F, Max, Q, Sum
from django.utils import timezone

from accounts import audit
from accounts.models import Team
from catalog import bases, hub_tokens, huggingface, offers, store, variants, versions
from catalog.errors import CatalogError, IllegalMove, OverQuota, Refused
from catalog.huggingface import Hub, Place, Repo
from catalog.lifecycle import WORKED_ON, Reason, Status
from catalog.models import Blob, Hardware, Licence, Model, Weights, WeightsFile
from catalog.uploads import contents, storing
from catalog.uploads.models import Upload
from catalog.variants import Variant

READ_FIRST = ("config.json", "tokenizer_config.json", contents.ADAPTER_CONFIG)
# The Hub's names of licences, where this portal has another for the same.
LICENCES = {"llama3.1": "llama-3.1", "llama3.3": "llama-3.3", "llama4": "llama-4"}
TASKS_WITH_IMAGES = {"image-text-to-text", "image-to-text", "visual-question-answering", "any-to-any"}


@dataclass(frozen=True, slots=True)
class Found:
    """What a repository has, and what of it would come. `licence` is None where this portal does not know it;
    `licence_said` is the Hub's own word for it. `known` are bytes that are on the portal's disk already."""

    repo: str
    revision: str
    commit: str
    page: str
    is_gated: bool
    variant: Variant
    choices: tuple[Variant, ...]
    licence: Licence | None
    licence_said: str
    is_inherited: bool
    licence_warning: str
    base_name: str
    base: Weights | None
    parameters: int | None
    context_tokens: int | None
    modalities: tuple[str, ...]
    architecture: str
    engine: str
    known_bytes: int
    hardware: tuple[Hardware, ...]
    already: Weights | None = None
    notes: tuple[str, ...] = field(default=())

    @property
    def size_bytes(self) -> int:
        return self.variant.size_bytes

    @property
    def format(self) -> str:
        return self.variant.format

    @property
    def name(self) -> str:
        return self.repo.partition("/")[2]

    @property
    def kind(self) -> str:
        return Weights.Kind.ADAPTER if self.variant.is_adapter else Weights.Kind.FULL


def preflight(team: Team, text: str, *, revision: str = "", file: str = "") -> Found:
    """What is there and would come. Raises Refused with what to do, or HubError. Nothing is written."""
    place = _place(text, revision, file)
    hub = Hub(hub_tokens.of(team))
    repo = hub.repo(place.repo, place.revision)
    if not re.fullmatch(r"[0-9a-f]{40}", repo.commit):
        raise Refused(f"The Hub names no commit for {place.repo}: it has no files yet.", code="bad_revision")
    if repo.is_gated or repo.is_private:
        hub.check_access(place.repo)
    choices = variants.of(repo.files)
    said = _read_first(hub, repo)
    formats = offers.ENGINES
    variant = variants.choose(choices, file=place.file, most_bytes=_most_bytes(), formats=formats)
    base_names = _base_names(repo, said)
    base = bases.find(team, base_names, format=variant.format)
    if variant.is_adapter and base is None:
        raise _no_base(base_names)
    known = _known_bytes(variant)
    _check_room(team, variant.size_bytes, known)
    return _found(
        team, place, repo, variant, choices, said=said, base_names=base_names, base=base, known=known, hub=hub
    )


def begin(
    team: Team, text: str, *, revision: str = "", file: str = "", said: str = "", notes: str = "", actor: str
) -> Weights:
    """The wish for these weights, pinned to a commit, after another preflight. What is here or on its way already is
    returned as it is; what failed is tried again. `said` is the branch or tag that led to the commit. Raises Refused
    or HubError; the caller rings for a worker."""
    found = preflight(team, text, revision=revision, file=file)
    if said and huggingface.REVISION.fullmatch(said):
        found = replace(found, revision=said)
    with transaction.atomic():
        Team.objects.select_for_update(no_key=True).get(pk=team.pk)
        if again := _already(team, found.repo, found.commit, found.variant):
            return again
        _check_room(team, found.size_bytes, found.known_bytes)
        if failed := _same(team, found.repo, found.commit, found.variant, status=Status.FAILED):
            retry(failed, actor=actor)
            return failed
        weights = _rows(team, found, notes=notes, actor=actor)
        offers.offer_newest(weights.model)
        audit.record(team, actor=actor, verb="began the import of", subject=f"{found.repo} {weights.revision}")
    return weights


def retry(weights: Weights, *, actor: str) -> None:
    """A failed import goes on with what it has. Asking twice, or for one that has not failed, changes nothing."""
    if not (weights.is_import or weights.was_ready) or weights.status != Status.FAILED or weights.team is None:
        return
    with transaction.atomic():
        Team.objects.select_for_update(no_key=True).get(pk=weights.team.pk)
        _check_room(weights.team, weights.size_bytes - weights.bytes_done, 0)
        try:
            weights.move(Status.DOWNLOADING, since=Status.FAILED, reason=Reason.RETRIED)
        except IllegalMove:
            return
        Weights.objects.filter(pk=weights.pk).update(progress_at=timezone.now())
        offers.offer_newest(weights.model)
        audit.record(weights.team, actor=actor, verb="tried again the import of", subject=str(weights))


def _place(text: str, revision: str, file: str) -> Place:
    """What was pasted; what was said beside it counts more."""
    place = huggingface.parse(text)
    if revision:
        place = huggingface.parse(f"{place.repo}@{revision}") if "://" not in revision else place
    return Place(place.repo, place.revision, file or huggingface.parse(text).file)


def _read_first(hub: Hub, repo: Repo) -> dict[str, Any]:
    """The small files that say what the weights need, as name -> JSON; Refused if that is code of the repository."""
    said = {}
    for file in repo.files:
        if file.name not in READ_FIRST:
            continue
        try:
            read = json.loads(hub.text(repo.id, repo.commit, file))
        except (ValueError, RecursionError) as error:
            raise Refused(f"{file.name} of the repository is not JSON.", code="bad_config") from error
        if not isinstance(read, dict):
            raise Refused(f"{file.name} of the repository is no JSON object.", code="bad_config")
        if "auto_map" in read or read.get("auto_mapping"):
            text = (
                f"{file.name} has an auto_map: the model needs code of its own, which is not run here. Take a version"
                " that the engines know by themselves."
            )
            raise Refused(text, code="has_code")
        said[file.name] = read
    return said


def _most_bytes() -> float:
    """The largest weights that some hardware of this portal has memory for."""
    largest = Hardware.objects.exclude(backend="").aggregate(most=Max("memory_gib"))["most"] or 0
    return float(largest) * offers.GIB / offers.SPARE


def _base_names(repo: Repo, said: dict[str, Any]) -> tuple[str, ...]:
    adapted = said.get(contents.ADAPTER_CONFIG, {}).get("base_model_name_or_path")
    named = [adapted] if huggingface.is_name(adapted) else []
    return tuple(dict.fromkeys(name[:200] for name in [*named, *repo.base_models] if name != repo.id))


def _no_base(names: tuple[str, ...]) -> Refused:
    if not names:
        return Refused("This is a LoRA adapter, and it does not say of which model.", code="no_base")
    text = f"This is a LoRA adapter of {names[0]}, whose weights are not here in the same format. Import those first."
    return Refused(text, code="no_base")


def _known_bytes(variant: Variant) -> int:
    digests = {file.sha256: file.size_bytes for file in variant.files if file.sha256}
    here = Blob.objects.filter(pk__in=digests).values_list("pk", flat=True)
    return sum(digests[digest] for digest in here if store.blob_path(digest).exists())


def _check_room(team: Team, size_bytes: int, known_bytes: int) -> None:
    """The team may store so much more, and the disk has room for it beside what is on its way; or Refused."""
    held = Upload.objects.of(team).held_bytes() + storing.stored_bytes(team)
    quota = storing.most_bytes(team)
    if quota is not None and held + size_bytes > quota:
        text = (
            f"These weights have {size_bytes:,} bytes. The team stores {held:,} of the {quota:,} that it may:"
            " remove weights that are no longer needed, or ask the portal's administrators for more."
        )
        raise OverQuota(text, code="over_quota")
    coming = Weights.objects.filter(status=Status.DOWNLOADING).aggregate(left=Sum(F("size_bytes") - F("bytes_done")))
    free = store.free_bytes() - int(coming["left"] or 0)
    if size_bytes - known_bytes > free:
        text = (
            f"The portal's disk has room for {max(0, free):,} more bytes, and these weights take"
            f" {size_bytes - known_bytes:,}. Ask the operator for room."
        )
        raise Refused(text, code="disk_full")


def _found(
    team: Team,
    place: Place,
    repo: Repo,
    variant: Variant,
    choices: tuple[Variant, ...],
    *,
    said: dict[str, Any],
    base_names: tuple[str, ...],
    base: Weights | None,
    known: int,
    hub: Hub,
) -> Found:
    licence = _licence(repo.licence, repo.licence_name)
    base_name = base_names[0] if base_names else ""
    base_licence = _base_licence(base, base_name, hub)
    is_inherited = licence is None and not repo.licence and base_licence is not None
    config = said.get("config.json", {})
    context = repo.context_tokens or contents_context(config)
    engine = offers.ENGINES.get(variant.format, "")
    hardware = tuple(offers.fitting(variant.size_bytes).exclude(backend=""))
    return Found(
        repo=repo.id,
        revision=place.revision or "main",
        commit=repo.commit,
        page=huggingface.page_of(repo.id, repo.commit),
        is_gated=repo.is_gated,
        variant=variant,
        choices=choices,
        licence=base_licence if is_inherited else licence,
        licence_said=repo.licence_name or repo.licence,
        is_inherited=is_inherited,
        licence_warning=storing.licence_conflict(base_name, base_licence, licence)[:300] if base_licence else "",
        base_name=base_name,
        base=base,
        parameters=repo.parameters,
        context_tokens=context,
        modalities=("text", "image") if repo.task in TASKS_WITH_IMAGES else ("text",),
        architecture=repo.architecture,
        engine=engine,
        known_bytes=known,
        hardware=hardware,
        already=_already(team, repo.id, repo.commit, variant),
        notes=tuple(_notes(variant, engine, hardware)),
    )


def _notes(variant: Variant, engine: str, hardware: tuple[Hardware, ...]) -> Iterable[str]:
    """What a person should know before they confirm."""
    if not engine and not variant.is_adapter:
        yield f"No engine of this portal loads {variant.format}: these weights can be kept here, not deployed."
    elif not hardware and not variant.is_adapter:
        yield "They fit on no hardware that this portal offers: they can be kept here, not deployed."
    if variant.is_adapter:
        yield "A LoRA adapter runs on its base: it can't be deployed by itself."


def contents_context(config: dict[str, Any]) -> int | None:
    inner = config.get("text_config")
    said = config.get("max_position_embeddings") or (inner if isinstance(inner, dict) else {}).get(
        "max_position_embeddings"
    )
    return said if isinstance(said, int) and 0 < said < 2**31 else None


def _licence(said: str, name: str) -> Licence | None:
    """The portal's own row for what the Hub calls it, if there is one."""
    known = [LICENCES.get(word, word) for word in (said.lower(), name.lower()) if word]
    return Licence.objects.filter(Q(slug__in=known) | Q(spdx_id__in=[said or "-", name or "-"])).first()


def _base_licence(base: Weights | None, base_name: str, hub: Hub) -> Licence | None:
    """Under which the base is: as this portal knows it, else as the Hub says; None if neither does."""
    if base:
        return base.licence or base.model.licence
    if not huggingface.NAME.fullmatch(base_name):
        return None
    try:
        said = hub.repo(base_name)
    except CatalogError:
        return None  # a base that can't be looked at is no reason against what was tuned from it
    return _licence(said.licence, said.licence_name)


def _already(team: Team, repo: str, commit: str, variant: Variant) -> Weights | None:
    """The same files of the same commit, if the team has them or they are on their way."""
    found = _same(team, repo, commit, variant, status=Status.READY)
    moving = (_same(team, repo, commit, variant, status=status) for status in WORKED_ON)
    return found or next(filter(None, moving), None)


def _same(team: Team, repo: str, commit: str, variant: Variant, *, status: Status) -> Weights | None:
    same = Weights.objects.of(team).filter(repo=repo, commit=commit, status=status)
    wanted = {PurePosixPath(file.name).name for file in variant.files}
    for weights in same.prefetch_related("files"):
        if {file.name for file in weights.files.all()} == wanted:
            return weights
    return None


def _rows(team: Team, found: Found, *, notes: str, actor: str) -> Weights:
    model = _model(team, found)
    now = timezone.now()
    label = f" {found.variant.label}" if found.format == "gguf" else ""
    weights = Weights.objects.create(
        team=team, model=model, version=versions.next_number(model), kind=found.kind,
        source_kind=Weights.SourceKind.HUB, source=huggingface.page_of(found.repo)[:200], repo=found.repo,
        commit=found.commit, revision=f"{found.revision[:40]}@{found.commit[:7]}{label[:50]}", format=found.format,
        size_bytes=found.size_bytes, base=found.base, base_name=found.base_name[:200], licence=found.licence,
        licence_warning=found.licence_warning, notes=notes,
        facts={
            "parameters": found.parameters, "context_tokens": found.context_tokens,
            "architecture": found.architecture, "variant": found.variant.label, "licence_said": found.licence_said,
            "licence_inherited": found.is_inherited, "gated": found.is_gated,
        },
        status=Status.DOWNLOADING, reason=Reason.ASKED, progress_at=now, created_by=actor,
    )  # fmt: skip
    WeightsFile.objects.bulk_create(
        WeightsFile(
            weights=weights, name=PurePosixPath(file.name).name, source_name=file.name, size_bytes=file.size_bytes,
            sha256=file.sha256, git_sha1=file.git_sha1,
        )
        for file in found.variant.files
    )  # fmt: skip
    return weights


def _model(team: Team, found: Found) -> Model:
    """The team's own row for the repository: a further import of it is the next version."""
    own = Model.objects.filter(team=team, weights__repo=found.repo).first()
    facts: dict[str, Any] = {
        "name": found.name[:120], "publisher": found.repo.partition("/")[0][:80],
        "licence": found.licence or _unknown(found), "modalities": list(found.modalities),
        "context_tokens": found.context_tokens, "source": huggingface.page_of(found.repo)[:200],
        "source_date": datetime.now(UTC).date(), "homepage": huggingface.page_of(found.repo),
        "openness": Model.Openness.OPEN_WEIGHT,
    }  # fmt: skip
    if own:
        Model.objects.filter(pk=own.pk).update(**facts)
        return own
    return Model.objects.create(slug=_slug(team, found.repo), team=team, **facts)


def _slug(team: Team, repo: str) -> str:
    """The repository's name, or with its owner's where another model of the team has that."""
    owner, _, name = (re.sub(r"[^a-z0-9.]+", "-", part.lower()).strip("-.") for part in repo.partition("/"))
    room = 99 - len(team.slug)
    names = [name[:room], f"{owner}-{name}"[:room], *(f"{name[: room - 4]}-{number}" for number in range(2, 100))]
    slugs = [storing.slug_of(team, one) for one in names]
    taken = set(Model.objects.filter(slug__in=slugs).values_list("slug", flat=True))
    return next(slug for slug in slugs if slug not in taken)


def _unknown(found: Found) -> Licence:
    """The card states none, or one that this portal has no row for: people's words make no rows that others see."""
    if not found.licence_said:
        return storing.not_stated()
    note = "This portal does not know the licence: read it on the model's page there."
    row, _ = Licence.objects.get_or_create(
        slug="see-its-page", defaults={"name": "As its page on the Hub says", "note": note}
    )
    return row
