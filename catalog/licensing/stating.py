"""Under which terms a model can be called and weights be run: rows -> Terms."""

import functools
import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace

from catalog.licensing.models import LicenceText
from catalog.licensing.policy import UNREAD, Kind, Terms
from catalog.models import Licence, Model, Offer, Weights


def of_hosted(model: Model) -> tuple[Terms, ...]:
    """For calling it where somebody else runs it: a provider's own terms for closed weights, else the licence's."""
    if model.openness == Model.Openness.CLOSED:
        return (_terms(_facts(model.licence), Kind.PROVIDER, "", ""),)
    return (_of(model.licence, said="", page=model.homepage or model.source),)


def of_weights(*weights: Weights) -> tuple[Terms, ...]:
    """For running them: of each, and of what an adapter lies upon; each once."""
    found: dict[tuple[str, str], Terms] = {}
    for row in weights:
        for one in (row, row.base) if row.base else (row,):
            terms = _of_one(one)
            found[terms.licence, terms.sha256] = terms
    return tuple(found.values())


def brought_by(adapters: Iterable[Weights], *, to: Iterable[Terms]) -> dict[Terms, str]:
    """Terms that adapters bring to what has `to` already -> the slug of the model that each came with."""
    known = set(to)
    return {terms: row.model.slug for row in adapters for terms in of_weights(row) if terms not in known}


def all_of(model: Model) -> tuple[Terms, ...]:
    """All that anybody could have to agree to for this model, on either path and in any version."""
    found: dict[tuple[str, str], Terms] = {}
    rows = model.weights.exclude(status="removed").select_related("licence", "model__licence", *_BASE)
    hosted = model.offers.filter(path=Offer.Path.HOSTED).exists()
    for terms in (*(of_hosted(model) if hosted else ()), *of_weights(*rows)):
        found[terms.licence, terms.sha256] = terms
    return tuple(found.values())


_BASE = ("base__licence", "base__model__licence")
# What has to be joined so that `of_weights` asks nothing more.
OF_WEIGHTS = ("licence", "model__licence", *_BASE)


def of_licence(licence: Licence, *, is_closed: bool) -> Terms:
    """A licence by itself, as a policy is made of it."""
    return _terms(_facts(licence), Kind.PROVIDER if is_closed else _kind(licence), "", "")


def with_text(terms: Terms) -> Terms:
    """The same, with the whole text where that is what is agreed to: for showing it."""
    if not terms.is_whole:
        return terms
    return replace(terms, text=LicenceText.objects.get(licence=terms.licence).text)


def _of_one(row: Weights) -> Terms:
    licence = row.licence or row.model.licence
    if licence.slug in UNREAD and row.source_kind == Weights.SourceKind.UPLOAD:
        return _terms(_facts(licence), Kind.OWN, "", "")
    return _of(licence, said=str(row.facts.get("licence_said") or ""), page=row.source)


def _of(licence: Licence, *, said: str, page: str) -> Terms:
    kind = _kind(licence)
    # What is not known is told apart by what its publisher calls it and by where that stands.
    return _terms(_facts(licence), kind, said, page) if kind == Kind.UNKNOWN else _terms(_facts(licence), kind, "", "")


def _kind(licence: Licence) -> Kind:
    if licence.slug in UNREAD:
        return Kind.UNKNOWN
    return {True: Kind.PERMISSIVE, None: Kind.CONDITIONS, False: Kind.NONCOMMERCIAL}[licence.commercial_use]


@dataclass(frozen=True, slots=True)
class _Facts:
    licence: str
    spdx_id: str
    name: str
    url: str
    commercial_use: bool | None
    note: str
    text_sha256: str


def _facts(licence: Licence) -> _Facts:
    return _Facts(
        licence.slug,
        licence.spdx_id,
        licence.name,
        licence.url,
        licence.commercial_use,
        licence.note,
        licence.text_sha256,
    )


@functools.lru_cache(maxsize=4096)
def _terms(facts: _Facts, kind: str, said: str, page: str) -> Terms:
    """Made once: a gateway asks for all of them every few seconds."""
    stated = asdict(facts)
    whole = stated.pop("text_sha256")
    if said or page:
        stated |= {"called": said, "read_at": page}
    statement = json.dumps(stated, sort_keys=True, ensure_ascii=False)
    return Terms(
        licence=facts.licence,
        name=f"{facts.name}: {said}" if said else facts.name,
        kind=kind,
        words=facts.note,
        url=facts.url or (page if page.startswith("https://") else ""),
        text="" if whole else statement,
        sha256=whole or hashlib.sha256(statement.encode()).hexdigest(),
        is_whole=bool(whole),
    )
