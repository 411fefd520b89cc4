"""Cases and their checks, as a prompt set keeps them. Pure: JSON in, cases out, or the place of what is wrong."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Any

MOST_CASES, MOST_CHECKS, MOST_MESSAGES = 100, 8, 40
LONGEST_TEXT, LONGEST_NAME, LARGEST_SET = 100_000, 120, 1_000_000
DEFAULT_MAX_TOKENS, MOST_MAX_TOKENS = 256, 4096
DEFAULT_THRESHOLD = 0.8
ROLES = ("system", "user", "assistant")
CASE_FIELDS = frozenset({"name", "system", "prompt", "messages", "parameters", "checks"})
CHECK_FIELDS = frozenset({"kind", "value", "model", "threshold"})
# These are the run's own to say.
NOT_PARAMETERS = frozenset({"model", "messages", "stream", "stream_options", "n", "best_of"})


class Kind(StrEnum):
    CONTAINS = "contains"
    NOT_CONTAINS = "not_contains"
    REGEX = "regex"
    JSON_SCHEMA = "json_schema"
    SAME_AS = "same_as"
    SIMILAR = "similar"


LABELS = MappingProxyType(
    {
        Kind.CONTAINS: "contains",
        Kind.NOT_CONTAINS: "does not contain",
        Kind.REGEX: "matches the pattern",
        Kind.JSON_SCHEMA: "is JSON of the schema",
        Kind.SAME_AS: "is the same as the answer of",
        Kind.SIMILAR: "means the same as",
    }
)
NEEDS_MODEL = frozenset({Kind.SAME_AS, Kind.SIMILAR})
NEEDS_VALUE = frozenset(Kind) - {Kind.SAME_AS}


class BadCase(Exception):
    """`place` names the field: cases[2].checks[0].value."""

    def __init__(self, place: str, text: str) -> None:
        super().__init__(text)
        self.place = place


@dataclass(frozen=True, slots=True)
class Check:
    """What an answer has to be. `value` is the text, pattern, schema or expected meaning; `model` who says the
    reference answer or makes the embeddings; `threshold` the least cosine that counts as similar."""

    kind: Kind
    value: str = ""
    model: str = ""
    threshold: float = DEFAULT_THRESHOLD


@dataclass(frozen=True, slots=True)
class Case:
    name: str
    messages: tuple[Mapping[str, str], ...]
    checks: tuple[Check, ...]
    parameters: Mapping[str, Any] = field(default_factory=dict)

    def body(self, model: str) -> dict[str, Any]:
        """A chat/completions body. Greedy decoding, unless the case's own parameters ask for another temperature."""
        bound = {} if "max_completion_tokens" in self.parameters else {"max_tokens": DEFAULT_MAX_TOKENS}
        asked = {"model": model, "messages": list(self.messages), "temperature": 0}
        return asked | bound | dict(self.parameters)


def parse(raw: object) -> tuple[Case, ...]:
    """All cases of a set, or BadCase for the first thing that is wrong."""
    if not isinstance(raw, list) or not 1 <= len(raw) <= MOST_CASES:
        raise BadCase("cases", f"A prompt set has 1 to {MOST_CASES} cases.")
    _check_kept(raw)
    return tuple(_case(one, f"cases[{place}]", place + 1) for place, one in enumerate(raw))


def _check_kept(raw: list[Any]) -> None:
    """Can it be stored, as it is and in all its depth?"""
    try:
        text = json.dumps(raw, ensure_ascii=False, allow_nan=False)
        size = len(text.encode())
    except (ValueError, TypeError, RecursionError) as error:
        raise BadCase("cases", "The cases have numbers or characters that JSON has not, or go too deep.") from error
    if "\\u0000" in text or size > LARGEST_SET:
        why = "characters that no text has" if size <= LARGEST_SET else f"{size:,} bytes; a set has {LARGEST_SET:,}"
        raise BadCase("cases", f"The cases have {why}.")


def _case(raw: object, place: str, number: int) -> Case:
    fields = _object(raw, place, CASE_FIELDS)
    name = _text(fields.get("name", ""), f"{place}.name", longest=LONGEST_NAME).strip() or f"Case {number}"
    checks = fields.get("checks") or []
    if not isinstance(checks, list) or not 1 <= len(checks) <= MOST_CHECKS:
        raise BadCase(f"{place}.checks", f"A case has 1 to {MOST_CHECKS} checks: without one nothing could fail.")
    parameters = _parameters(fields.get("parameters") or {}, f"{place}.parameters")
    found = tuple(_check(one, f"{place}.checks[{count}]") for count, one in enumerate(checks))
    if parameters.get("temperature", 0) != 0 and any(check.kind == Kind.SAME_AS for check in found):
        text = "An answer is held against another model's only under greedy decoding: leave temperature at 0."
        raise BadCase(f"{place}.parameters", text)
    return Case(name=name, messages=_messages(fields, place), checks=found, parameters=parameters)


def _messages(fields: Mapping[str, Any], place: str) -> tuple[Mapping[str, str], ...]:
    """A prompt, with a system text before it; or a whole conversation."""
    prompt = _text(fields.get("prompt") or "", f"{place}.prompt")
    system = _text(fields.get("system") or "", f"{place}.system")
    given = fields.get("messages") or []
    if prompt.strip() and given:
        raise BadCase(f"{place}.prompt", "Give a prompt or messages, not both.")
    first = [{"role": "system", "content": system}] if system.strip() else []
    if not given:
        if not prompt.strip():
            raise BadCase(f"{place}.prompt", "A case needs a prompt.")
        return (*first, {"role": "user", "content": prompt})
    if not isinstance(given, list) or len(given) > MOST_MESSAGES:
        raise BadCase(f"{place}.messages", f"messages is a list of at most {MOST_MESSAGES}.")
    return (*first, *(_message(one, f"{place}.messages[{count}]") for count, one in enumerate(given)))


def _message(raw: object, place: str) -> Mapping[str, str]:
    fields = _object(raw, place, frozenset({"role", "content"}))
    if fields.get("role") not in ROLES:
        raise BadCase(f"{place}.role", f"A role is one of {', '.join(ROLES)}.")
    return {"role": fields["role"], "content": _text(fields.get("content"), f"{place}.content")}


def _parameters(raw: object, place: str) -> dict[str, Any]:
    fields = _object(raw, place, None)
    if refused := sorted(set(fields) & NOT_PARAMETERS):
        raise BadCase(place, f"{refused[0]} can't be a parameter of a case: the run says it.")
    for name in ("max_tokens", "max_completion_tokens"):
        value = fields.get(name, 1)
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MOST_MAX_TOKENS:
            raise BadCase(place, f"{name} takes a whole number from 1 to {MOST_MAX_TOKENS}.")
    temperature = fields.get("temperature", 0)
    if isinstance(temperature, bool) or not isinstance(temperature, int | float) or not 0 <= temperature <= 2:
        raise BadCase(place, "temperature takes a number from 0 to 2.")
    return fields


def _check(raw: object, place: str) -> Check:
    fields = _object(raw, place, CHECK_FIELDS)
    if fields.get("kind") not in tuple(Kind):
        raise BadCase(f"{place}.kind", f"A check is one of {', '.join(Kind)}.")
    kind = Kind(fields["kind"])
    value = _value(fields.get("value"), kind, f"{place}.value")
    model = _text(fields.get("model") or "", f"{place}.model", longest=200).strip()
    if kind in NEEDS_MODEL and not model:
        raise BadCase(f"{place}.model", f"A check of kind {kind} names the model to ask.")
    threshold = fields.get("threshold")
    threshold = DEFAULT_THRESHOLD if threshold is None else threshold
    if isinstance(threshold, bool) or not isinstance(threshold, int | float) or not 0 < threshold <= 1:
        raise BadCase(f"{place}.threshold", "threshold takes a number above 0, up to 1.")
    return Check(kind, value, model if kind in NEEDS_MODEL else "", float(threshold))


def _value(raw: object, kind: Kind, place: str) -> str:
    if kind == Kind.JSON_SCHEMA:
        return _schema(raw, place)
    value = _text(raw or "", place)
    if kind in NEEDS_VALUE and not value:
        raise BadCase(place, f"A check of kind {kind} needs a value.")
    return value if kind in NEEDS_VALUE else ""


def _schema(raw: object, place: str) -> str:
    """As text, whether it was given as text or as an object."""
    text = _text(json.dumps(raw) if isinstance(raw, dict) else raw or "", place)
    try:
        schema = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadCase(place, f"The schema is not valid JSON: {error}") from error
    if not isinstance(schema, dict):
        raise BadCase(place, "A JSON schema is an object.")
    return text


def _object(raw: object, place: str, known: frozenset[str] | None) -> dict[str, Any]:
    if not isinstance(raw, dict):
        raise BadCase(place, "This has to be an object.")
    if known is not None and (unknown := sorted(set(raw) - known)):
        raise BadCase(place, f"There is no field {unknown[0]!r}; it takes {', '.join(sorted(known))}.")
    return raw


def _text(raw: object, place: str, *, longest: int = LONGEST_TEXT) -> str:
    if not isinstance(raw, str):
        raise BadCase(place, "This has to be text.")
    if len(raw) > longest:
        raise BadCase(place, f"This has {len(raw):,} characters; it takes {longest:,}.")
    if "\0" in raw or any("\ud800" <= one <= "\udfff" for one in raw):
        raise BadCase(place, "This has characters that no text has.")
    return raw
