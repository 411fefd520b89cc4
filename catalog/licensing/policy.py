"""Licence x use -> allow, ask or deny, as a team has decided it; and whether what is asked for was agreed to. Pure.

Where a team has said nothing, the kind of the licence decides: DEFAULTS.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from urllib.parse import urlencode

from django.db import models

AGREE_AT = "/licences/agree/"
# Rows that stand for licences that this portal does not know.
UNREAD = frozenset({"not-stated", "see-its-page"})


class Use(models.TextChoices):
    INTERNAL = "internal", "Internal"
    PRODUCT = "product", "Product"
    RESALE = "resale", "Resale"


class Verdict(models.TextChoices):
    ALLOW = "allow", "Allow"
    ASK = "ask", "Ask"
    DENY = "deny", "Deny"


class Kind(models.TextChoices):
    """What a licence is like, as far as a policy is made of it."""

    PERMISSIVE = "permissive", "Permissive"
    PROVIDER = "provider", "Provider terms"
    CONDITIONS = "conditions", "With conditions"
    NONCOMMERCIAL = "noncommercial", "Non-commercial"
    UNKNOWN = "unknown", "Not known"
    OWN = "own", "The team's own"


USES = MappingProxyType(
    {
        Use.INTERNAL: "by the team's own people: research, tests, tools for colleagues",
        Use.PRODUCT: "inside something that customers use",
        Use.RESALE: "passed on as a model or an API that others build on",
    }
)
VERDICTS = MappingProxyType(
    {
        Verdict.ALLOW: "used at once, and nobody is asked",
        Verdict.ASK: "refused until somebody of the team has agreed to the text, once; who and when is kept",
        Verdict.DENY: "refused, in the browser and to programs, and nothing is called or started",
    }
)
KINDS = MappingProxyType(
    {
        Kind.PERMISSIVE: "MIT, Apache-2.0 and the like: commercial use is allowed",
        Kind.PROVIDER: "closed weights, used through their provider's API",
        Kind.CONDITIONS: "community and custom licences: commercial use depends on their text",
        Kind.NONCOMMERCIAL: "the text forbids commercial use",
        Kind.UNKNOWN: "nobody has said, or this portal has not read it",
        Kind.OWN: "uploaded by the team, with no licence of anybody else",
    }
)
_ALLOW, _ASK, _DENY = Verdict.ALLOW, Verdict.ASK, Verdict.DENY
DEFAULTS: Mapping[str, Mapping[str, Verdict]] = MappingProxyType(
    {
        Kind.PERMISSIVE: {Use.INTERNAL: _ALLOW, Use.PRODUCT: _ALLOW, Use.RESALE: _ALLOW},
        Kind.PROVIDER: {Use.INTERNAL: _ALLOW, Use.PRODUCT: _ALLOW, Use.RESALE: _ALLOW},
        Kind.CONDITIONS: {Use.INTERNAL: _ASK, Use.PRODUCT: _ASK, Use.RESALE: _ASK},
        Kind.NONCOMMERCIAL: {Use.INTERNAL: _ASK, Use.PRODUCT: _DENY, Use.RESALE: _DENY},
        Kind.UNKNOWN: {Use.INTERNAL: _ASK, Use.PRODUCT: _ASK, Use.RESALE: _ASK},
        Kind.OWN: {Use.INTERNAL: _ALLOW, Use.PRODUCT: _ALLOW, Use.RESALE: _ALLOW},
    }
)


@dataclass(frozen=True, slots=True)
class Terms:
    """What would be agreed to. `sha256` is of the whole text where it is at hand (`is_whole`), else of the statement:
    another text is other terms, even under the same name. `text` is that statement; stating.with_text adds a whole."""

    licence: str
    name: str
    kind: str
    words: str
    url: str
    text: str
    sha256: str
    is_whole: bool = False

    @property
    def kind_label(self) -> str:
        return Kind(self.kind).label


@dataclass(frozen=True, slots=True)
class Standing:
    """How terms stand with a team for a use. `changed`: it has agreed to an earlier text of the same licence."""

    terms: Terms
    use: str
    verdict: Verdict
    agreed: bool
    changed: bool

    @property
    def is_open(self) -> bool:
        return self.verdict == Verdict.ALLOW or (self.verdict == Verdict.ASK and self.agreed)

    @property
    def is_denied(self) -> bool:
        return self.verdict == Verdict.DENY

    @property
    def asks(self) -> bool:
        return self.verdict == Verdict.ASK and not self.agreed

    @property
    def key(self) -> str:
        """Names just what was shown: an agreement to it is to nothing else."""
        return f"{self.terms.licence}:{self.use}:{self.terms.sha256}"


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a model may not be used so, and what to do about it."""

    standing: Standing
    model: str

    @property
    def code(self) -> str:
        return "licence_denied" if self.standing.is_denied else "licence_not_agreed"

    @property
    def place(self) -> str:
        """Where it can be agreed to, or the policy be read: a path of this portal."""
        if self.standing.is_denied:
            return "/licences/"
        return f"{AGREE_AT}?{urlencode({'model': self.model, 'use': self.standing.use})}"

    def text(self, base_url: str = "") -> str:
        name, use = self.standing.terms.name, self.standing.use
        if self.standing.is_denied:
            return (
                f"{self.model} is under {name}, and your team's licence policy denies that for {use} use. An owner or "
                f"admin can change the policy: {base_url}{self.place}"
            )
        why = "has changed since your team agreed to it" if self.standing.changed else "asks for agreement first"
        return f"{self.model} is under {name}, which {why} (policy: ask, {use} use). Agree here: {base_url}{self.place}"


@dataclass(frozen=True, slots=True)
class Policy:
    """A team's answers. `rules`: (licence or "kind:KIND", use) -> verdict; `uses`: what a callable name is used for;
    `agreed`: (licence, use, sha256)."""

    default_use: str = Use.INTERNAL
    rules: Mapping[tuple[str, str], str] = field(default_factory=dict)
    uses: Mapping[str, str] = field(default_factory=dict)
    agreed: frozenset[tuple[str, str, str]] = frozenset()

    def use_of(self, *names: str) -> str:
        """What the first of these names that was given a use is used for; else the team's default."""
        if not self.uses:
            return self.default_use
        return next((self.uses[name] for name in names if name in self.uses), self.default_use)

    def verdict(self, terms: Terms, use: str) -> Verdict:
        """The licence's own rule, else its kind's, else the default of its kind."""
        rules = self.rules
        said = rules and (rules.get((terms.licence, use)) or rules.get((of_kind(terms.kind), use)))
        return Verdict(said) if said else DEFAULTS[terms.kind][use]

    def is_open(self, terms: Iterable[Terms], use: str) -> bool:
        """Whether all of them may be used so: what a call asks."""
        for one in terms:
            verdict = self.verdict(one, use)
            if verdict == Verdict.DENY:
                return False
            if verdict == Verdict.ASK and (one.licence, use, one.sha256) not in self.agreed:
                return False
        return True

    def standing(self, terms: Terms, use: str) -> Standing:
        agreed = (terms.licence, use, terms.sha256) in self.agreed
        before = any((licence, for_) == (terms.licence, use) for licence, for_, _ in self.agreed)
        # Rows for what is not known stand for many licences: an agreement to one of them is to no other.
        changed = before and not agreed and terms.licence not in UNREAD
        return Standing(terms, use, self.verdict(terms, use), agreed, changed)

    def refusal(
        self, terms: Iterable[Terms], use: str, *, model: str, brought_by: Mapping[Terms, str] = MappingProxyType({})
    ) -> Refusal | None:
        """The gravest reason against it: what is denied before what is to be agreed to. It names `model`, or the one
        that brought these terms with it (an adapter's, say): that one's page is where they can be agreed to."""
        found = [self.standing(one, use) for one in terms]
        worst = next((one for one in found if one.is_denied), None) or next((one for one in found if one.asks), None)
        return Refusal(worst, brought_by.get(worst.terms, model)) if worst else None


def of_kind(kind: str) -> str:
    """As a rule names all licences of a kind."""
    return f"kind:{kind}"
