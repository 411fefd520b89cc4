"""Is an answer what its check asks for? The same words in, the same finding out; nothing is called from here.

A check that could not be made is never a pass: it says why.
"""

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from deployments.validation import bounded, diffs
from deployments.validation.cases import Check, Kind
from deployments.validation.diffs import Piece

SHOWN = 200


class Verdict(StrEnum):
    PASSED = "passed"
    FAILED = "failed"
    UNCHECKED = "unchecked"


@dataclass(frozen=True, slots=True)
class Evidence:
    """What another model said for a check: its answer, or the embeddings of the expected and the given text; or the
    problem with asking it."""

    text: str = ""
    vectors: tuple[Sequence[float], Sequence[float]] | None = None
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Finding:
    """`text` says in a sentence what was found; `diff` leads from what was expected to the answer, where it helps."""

    kind: str
    verdict: Verdict
    text: str
    diff: tuple[Piece, ...] = ()


def judge(check: Check, answer: str, evidence: Evidence | None = None) -> Finding:
    match check.kind:
        case Kind.CONTAINS:
            return _told(check, check.value in answer, "It contains", "It does not contain")
        case Kind.NOT_CONTAINS:
            return _told(check, check.value not in answer, "It does not contain", "It contains")
        case Kind.REGEX:
            return _regex(check, answer)
        case Kind.JSON_SCHEMA:
            return _schema(check, answer)
        case Kind.SAME_AS:
            return _same(check, answer, evidence or Evidence(problem="Nobody was asked."))
        case Kind.SIMILAR:
            return _similar(check, answer, evidence or Evidence(problem="Nobody was asked."))


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """Failed if one has failed, else unchecked if one could not be made. Nothing at all is no pass."""
    found = set(verdicts)
    if Verdict.FAILED in found:
        return Verdict.FAILED
    return Verdict.PASSED if found == {Verdict.PASSED} else Verdict.UNCHECKED


def cosine(left: Sequence[float], right: Sequence[float]) -> float | None:
    """None where there is no angle: vectors of no length, of different lengths, or with what is no number."""
    if len(left) != len(right) or not left:
        return None
    length = math.sqrt(math.fsum(x * x for x in left)) * math.sqrt(math.fsum(x * x for x in right))
    if not length or not math.isfinite(length):
        return None
    return math.fsum(x * y for x, y in zip(left, right, strict=True)) / length


def _told(check: Check, good: bool, yes: str, no: str) -> Finding:
    shown = _short(check.value)
    return Finding(check.kind, _verdict(good), f"{yes if good else no} “{shown}”.")


def _regex(check: Check, answer: str) -> Finding:
    shown = _short(check.value)
    try:
        good = bounded.matches(check.value, answer)
    except bounded.NotTold as error:
        return _unchecked(check, str(error))
    return Finding(check.kind, _verdict(good), f"It {'matches' if good else 'does not match'} “{shown}”.")


def _schema(check: Check, answer: str) -> Finding:
    try:
        json.loads(answer)
    except (ValueError, RecursionError) as error:
        return Finding(check.kind, Verdict.FAILED, f"It is not JSON: {error}.")
    try:
        errors = bounded.schema_errors(check.value, answer)
    except bounded.NotTold as error:
        return _unchecked(check, str(error))
    if errors:
        return Finding(check.kind, Verdict.FAILED, "It is JSON, but not of the schema. " + " ".join(errors))
    return Finding(check.kind, Verdict.PASSED, "It is JSON of the schema.")


def _same(check: Check, answer: str, evidence: Evidence) -> Finding:
    """Word for word, but for space around it."""
    if evidence.problem:
        return _unchecked(check, evidence.problem)
    good = answer.strip() == evidence.text.strip()
    text = f"It is {'the same as' if good else 'not the same as'} the answer of {check.model}."
    return Finding(check.kind, _verdict(good), text, () if good else diffs.words(evidence.text, answer))


def _similar(check: Check, answer: str, evidence: Evidence) -> Finding:
    if evidence.problem or evidence.vectors is None:
        return _unchecked(check, evidence.problem or "No embeddings were given.")
    angle = cosine(*evidence.vectors)
    if angle is None:
        return _unchecked(check, f"The embeddings of {check.model} can't be compared.")
    good = angle >= check.threshold
    text = f"Its similarity to what was expected is {angle:.3f}, by {check.model}; {check.threshold:g} is asked for."
    return Finding(check.kind, _verdict(good), text, () if good else diffs.words(check.value, answer))


def _unchecked(check: Check, why: str) -> Finding:
    return Finding(check.kind, Verdict.UNCHECKED, f"Could not be checked. {why}")


def _verdict(good: bool) -> Verdict:
    return Verdict.PASSED if good else Verdict.FAILED


def _short(text: str) -> str:
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"
