"""Finding models: words, facets, counts. Each facet's counts respect all other facets, so no choice leads to nothing.

Words are looked up by PostgreSQL's full text, each as the beginning of one; what has no such word is looked up by the
threes of letters that it shares with names, so that "smolm2" finds SmolLM2. Both in columns of the model's own table.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.db import connection

from accounts.models import Team
from catalog import shelf
from catalog.models import Model
from catalog.shelf import Item, Shelf

LONGEST_QUERY = 200
MOST_WORDS = 8
MOST_VALUES = 50
# The share of a query's trigrams that a name has: to be found, and to be named where nothing was found.
NEAR, NEAREST = 0.6, 0.25
NEARLY_AS_NEAR = 0.8
MOST_NEAR = 60

FACETS = (
    "path", "available", "openness", "commercial", "licence", "context", "price", "hardware", "modality", "publisher",
)  # fmt: skip
PARAMETERS = ("q", *FACETS, "sort")
TITLES = {
    "path": "Path", "available": "Available now", "openness": "Weights", "commercial": "Commercial use",
    "licence": "Licence", "context": "Context", "price": "Input, per M tokens", "hardware": "Fits on",
    "modality": "Reads", "publisher": "Publisher",
}  # fmt: skip
LABELS: dict[str, dict[str, str]] = {
    "path": {"hosted": "Hosted API", "deployable": "Open to deploy", "both": "Both"},
    "available": {"call": "Call it now", "deploy": "Deploy it now"},
    "openness": dict(Model.Openness.choices),
    "commercial": {"yes": "Allowed", "conditions": "With conditions", "no": "Not allowed"},
    "context": {"32k": "32 k and more", "128k": "128 k and more", "200k": "200 k and more", "1m": "1 M and more"},
    "price": {
        "under-0.5": "under $0.50", "0.5-2": "$0.50 to $2", "2-10": "$2 to $10", "10-up": "$10 and more",
        "unlisted": "not listed",
    },
    "modality": {"text": "Text", "image": "Images", "audio": "Audio", "video": "Video", "file": "Files"},
}  # fmt: skip
# Names of values that were once given to people, and what they are now.
OLDER = {("path", "here"): ("available", "deploy"), ("context", "long"): ("context", "128k")}
# A model that is to read images and audio has to read both; elsewhere any of the values will do.
ALL_OF = frozenset({"modality"})


@dataclass(frozen=True, slots=True)
class Asked:
    """A search as its address says it. `sort` is one of shelf.SORTS."""

    q: str
    facets: dict[str, tuple[str, ...]]
    sort: str

    @property
    def is_all(self) -> bool:
        return not self.q and not self.facets


@dataclass(frozen=True, slots=True)
class Choice:
    """`count`: how many there would be with this alone in its facet, and the other facets as they are."""

    value: str
    label: str
    count: int
    chosen: bool


@dataclass(frozen=True, slots=True)
class Facet:
    name: str
    title: str
    choices: tuple[Choice, ...]


@dataclass(frozen=True, slots=True)
class Found:
    """`numbers` are those of `shelf`, in order. `is_near`: nothing has these words, they are the nearest names.
    `nearest` are names to try, and `without` how many there are without one facet, where nothing was found."""

    shelf: Shelf
    numbers: list[int]
    facets: tuple[Facet, ...]
    is_near: bool
    nearest: tuple[Item, ...]
    without: dict[str, int]


def asked(query: Mapping[str, list[str]]) -> Asked:
    """From a query string's lists. What is no facet is left out; a value that does not exist finds nothing."""
    facets: dict[str, list[str]] = {}
    for name in FACETS:
        for value in query.get(name, [])[:MOST_VALUES]:
            if value:
                facet, known = OLDER.get((name, value), (name, value))
                facets.setdefault(facet, []).append(known)
    q = " ".join(query.get("q", [])).replace("\0", "").strip()[:LONGEST_QUERY]
    sort = next(iter(query.get("sort", [])), "")
    return Asked(
        q=q,
        facets={name: tuple(dict.fromkeys(values)) for name, values in facets.items()},
        sort=sort if sort in shelf.SORTS else "relevance",
    )


def find(team: Team, search: Asked) -> Found:
    """What the team may see of it. Three queries at most: what has changed, the words, the nearest names."""
    here = shelf.current()
    visible = here.visible_to(team)
    ranks, is_near, nearest = _ranked(here, team, search.q)
    worded = _set_of(ranks) if ranks is not None else visible
    passing = {name: _passing(here, name, values) for name, values in search.facets.items()}
    base = visible & worded
    found = base
    for some in passing.values():
        found &= some
    return Found(
        shelf=here,
        numbers=_ordered(here, found, ranks, search),
        facets=tuple(_facet(here, name, base, passing, search) for name in FACETS),
        is_near=is_near,
        nearest=tuple(here.items[number] for number in nearest if visible >> number & 1),
        without={name: (base & _but(passing, name)).bit_count() for name in passing} if not found else {},
    )


def _passing(here: Shelf, facet: str, values: tuple[str, ...]) -> int:
    sets = [here.bits.get(facet, {}).get(value, 0) for value in values]
    together = sets[0]
    for some in sets[1:]:
        together = together & some if facet in ALL_OF else together | some
    return together


def _but(passing: Mapping[str, int], facet: str) -> int:
    """Those that pass all facets but this one."""
    some = -1
    for name, passes in passing.items():
        some &= passes if name != facet else -1
    return some


def _facet(here: Shelf, name: str, base: int, passing: Mapping[str, int], search: Asked) -> Facet:
    others = base & _but(passing, name)
    chosen = search.facets.get(name, ())
    if name in ALL_OF and name in passing:
        others &= passing[name]
    sets = here.bits.get(name, {})
    counts = {value: (others & some).bit_count() for value, some in sets.items()}
    fixed = LABELS.get(name)
    values = [*fixed, *(value for value in sets if value not in fixed)] if fixed else _by_count(here, name, counts)
    values += [value for value in chosen if value not in values]
    return Facet(
        name,
        TITLES[name],
        tuple(
            Choice(value, _label(here, name, value), counts.get(value, 0), value in chosen)
            for value in values
            if counts.get(value) or value in chosen
        ),
    )


def _by_count(here: Shelf, name: str, counts: Mapping[str, int]) -> list[str]:
    return sorted(counts, key=lambda value: (-counts[value], _label(here, name, value).lower()))


def _label(here: Shelf, facet: str, value: str) -> str:
    if facet == "publisher":
        return value
    return LABELS.get(facet, here.labels).get(value, value)


def _ordered(here: Shelf, found: int, ranks: Mapping[int, float] | None, search: Asked) -> list[int]:
    numbers = here.numbers(found, sort=search.sort)
    if ranks is None or search.sort != "relevance":
        return numbers
    sought = shelf.words(search.q)

    def worth(number: int) -> tuple[bool, bool, float]:
        """The name itself, then what begins so, then as PostgreSQL ranks them; `numbers` decides between equals."""
        names = here.names[number]
        return sought not in names, not any(name.startswith(sought) for name in names), -round(ranks[number], 3)

    return sorted(numbers, key=worth)


def _set_of(numbers: Mapping[int, float]) -> int:
    flags = bytearray(max(numbers, default=-1) // 8 + 1)
    for number in numbers:
        flags[number >> 3] |= 1 << (number & 7)
    return int.from_bytes(flags, "little")


def _ranked(here: Shelf, team: Team, q: str) -> tuple[dict[int, float] | None, bool, list[int]]:
    """Number -> rank of what has the words, else of what is near to them, and whether it is only near; None: no word
    was asked for. Last the nearest of all, where nothing is near enough."""
    words = shelf.words(q).split()[:MOST_WORDS]
    if not words:
        return (None if not q else {}), False, []
    if exact := _numbered(here, _with_words(here, team, words)):
        return exact, False, []
    near = _numbered(here, _near(team, words))
    best = max(near.values(), default=0.0)
    if best < NEAR:
        return {}, False, sorted(near, key=lambda number: -near[number])[:3]
    return {number: share for number, share in near.items() if share >= max(NEAR, best * NEARLY_AS_NEAR)}, True, []


def _numbered(here: Shelf, rows: list[tuple[str, float]]) -> dict[int, float]:
    return {here.places[pk]: float(rank) for pk, rank in rows if pk in here.places}


def _with_words(here: Shelf, team: Team, words: list[str]) -> list[tuple[str, float]]:
    """(id, rank) of the models that have all of the words, or whose licence has them."""
    sought = " & ".join(f"'{word}':*" for word in words)
    conditions: list[str] = []
    values: list[str | list[str]] = []
    for word in words:
        conditions.append("(search @@ to_tsquery('simple', %s) OR licence_id = ANY(%s))")
        values += [f"'{word}':*", _licences(here, word)]
    sql = f"""SELECT id::text, ts_rank(search, to_tsquery('simple', %s)) FROM catalog_model
        WHERE {" AND ".join(conditions)} AND (team_id IS NULL OR team_id = %s)"""  # noqa: S608 - of constants
    with connection.cursor() as cursor:
        cursor.execute(sql, (sought, *values, team.pk))
        return cursor.fetchall()


def _licences(here: Shelf, word: str) -> list[str]:
    """Slugs of the licences that have a word that begins so."""
    return [
        slug
        for slug in here.bits.get("licence", {})
        if any(one.startswith(word) for one in shelf.words(f"{slug} {here.labels[slug]}").split())
    ]


NEAR_TO = """
SELECT id::text, shared::real / %(all)s FROM (
    SELECT id, (SELECT count(*) FROM unnest(%(trigrams)s::text[]) AS one WHERE one = ANY(trigrams)) AS shared
    FROM catalog_model WHERE trigrams && %(trigrams)s::text[] AND (team_id IS NULL OR team_id = %(team)s)
) AS near WHERE shared >= %(least)s ORDER BY shared DESC, id LIMIT %(most)s
"""


def _near(team: Team, words: list[str]) -> list[tuple[str, float]]:
    """(id, share of the query's trigrams that its names have), the nearest first."""
    trigrams = sorted({f"  {word}"[place : place + 3] for word in words for place in range(len(word))})
    asked_for: dict[str, Any] = {
        "trigrams": trigrams, "all": len(trigrams), "team": team.pk, "least": len(trigrams) * NEAREST, "most": MOST_NEAR
    }  # fmt: skip
    with connection.cursor() as cursor:
        cursor.execute(NEAR_TO, asked_for)
        return cursor.fetchall()
