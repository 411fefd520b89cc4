"""Checks as a table: they need no database, and what could not be checked is never a pass."""

from typing import Any

import pytest

from deployments.validation import bounded, cases, checks, diffs
from deployments.validation.cases import BadCase, Check, Kind
from deployments.validation.checks import Evidence, Verdict

PASSED, FAILED, UNCHECKED = Verdict
SCHEMA = '{"type": "object", "required": ["city"], "properties": {"city": {"type": "string"}}}'
ELSEWHERE = '{"$ref": "http://127.0.0.1:9/schema.json"}'
BOMB = r"^(a+)+$"
SAME = Check(Kind.SAME_AS, model="m")
NEAR = Check(Kind.SIMILAR, "Paris", "e", 0.9)

TABLE = [
    (Check(Kind.CONTAINS, "Paris"), "It is Paris.", None, PASSED, "contains “Paris”"),
    (Check(Kind.CONTAINS, "paris"), "It is Paris.", None, FAILED, "does not contain"),
    (Check(Kind.NOT_CONTAINS, "sorry"), "It is Paris.", None, PASSED, "does not contain"),
    (Check(Kind.NOT_CONTAINS, "sorry"), "I am sorry", None, FAILED, "It contains “sorry”"),
    (Check(Kind.REGEX, r"\bParis\b"), "It is Paris.", None, PASSED, "matches"),
    (Check(Kind.REGEX, r"^Paris"), "It is Paris.", None, FAILED, "does not match"),
    (Check(Kind.REGEX, r"("), "It is Paris.", None, UNCHECKED, "not a regular expression"),
    (Check(Kind.REGEX, BOMB), "a" * 60 + "!", None, UNCHECKED, "took too long"),
    (Check(Kind.JSON_SCHEMA, SCHEMA), '{"city": "Paris"}', None, PASSED, "JSON of the schema"),
    (Check(Kind.JSON_SCHEMA, SCHEMA), '{"city": 7}', None, FAILED, "$.city: 7 is not of type 'string'"),
    (Check(Kind.JSON_SCHEMA, SCHEMA), "Paris", None, FAILED, "not JSON"),
    (Check(Kind.JSON_SCHEMA, '{"type": 3}'), "{}", None, UNCHECKED, "not a JSON schema"),
    (Check(Kind.JSON_SCHEMA, ELSEWHERE), "{}", None, UNCHECKED, "Unresolvable"),
    (Check(Kind.JSON_SCHEMA, '{"pattern": "^(a+)+$"}'), f'"{"a" * 60}!"', None, UNCHECKED, "took too long"),
    (SAME, " One.\n", Evidence("One."), PASSED, "the same as"),
    (SAME, "Two.", Evidence("One."), FAILED, "not the same as the answer of m"),
    (SAME, "One.", Evidence(problem="m is away."), UNCHECKED, "m is away."),
    (SAME, "One.", None, UNCHECKED, "Nobody"),
    (NEAR, "x", Evidence(vectors=([1.0, 0.0], [1.0, 0.1])), PASSED, "0.995"),
    (NEAR, "x", Evidence(vectors=([1.0, 0.0], [0.0, 1.0])), FAILED, "0.000"),
    (NEAR, "x", Evidence(vectors=([0.0, 0.0], [0.0, 1.0])), UNCHECKED, "can't be compared"),
    (NEAR, "x", Evidence(vectors=([1.0], [1.0, 1.0])), UNCHECKED, "can't be compared"),
    (NEAR, "x", Evidence(problem="No embeddings here."), UNCHECKED, "No embeddings here."),
    (NEAR, "x", Evidence(), UNCHECKED, "No embeddings were given"),
]


@pytest.mark.parametrize(("check", "answer", "evidence", "verdict", "says"), TABLE)
def test_a_check_judges_an_answer(
    check: Check, answer: str, evidence: Evidence | None, verdict: Verdict, says: str
) -> None:
    found = checks.judge(check, answer, evidence)
    assert (found.verdict, found.kind) == (verdict, check.kind)
    assert says in found.text


def test_nothing_checked_is_no_pass() -> None:
    assert checks.worst([]) == UNCHECKED
    assert checks.worst([PASSED, UNCHECKED]) == UNCHECKED
    assert checks.worst([PASSED, UNCHECKED, FAILED]) == FAILED
    assert checks.worst([PASSED, PASSED]) == PASSED


def test_a_difference_is_told_word_by_word_and_loses_nothing() -> None:
    pieces = diffs.words("The capital is Paris, of course.", "The capital is Rome, of course.")
    assert [(one.kind, one.text) for one in pieces] == [
        ("same", "The capital is "), ("gone", "Paris"), ("new", "Rome"), ("same", ", of course.")
    ]  # fmt: skip
    long = " ".join(f"w{n}" for n in range(5000))
    pieces = diffs.words(f"a {long} z", f"b {long[::-1]} z")
    assert "".join(one.text for one in pieces if one.kind != "new") == f"a {long} z"
    assert "".join(one.text for one in pieces if one.kind != "gone") == f"b {long[::-1]} z"


GOOD: dict[str, Any] = {"prompt": "Hi", "checks": [{"kind": "contains", "value": "Hello"}]}
BAD: list[tuple[object, str]] = [
    ([], "cases"),
    ("x", "cases"),
    ([GOOD] * 101, "cases"),
    (["x"], "cases[0]"),
    ([GOOD | {"turbo": 1}], "cases[0]"),
    ([GOOD, GOOD | {"prompt": " "}], "cases[1].prompt"),
    ([GOOD | {"prompt": "a\0"}], "cases"),
    ([GOOD | {"parameters": {"stop": ["\ud800"]}}], "cases"),
    ([GOOD | {"parameters": {"seed": float("nan")}}], "cases"),
    ([GOOD | {"parameters": {"x": "y" * 1_000_000}}], "cases"),
    ([GOOD | {"checks": [{"kind": {}}]}], "cases[0].checks[0].kind"),
    ([GOOD | {"checks": [{"kind": "contains", "value": ["x"]}]}], "cases[0].checks[0].value"),
    ([GOOD | {"messages": [{"role": [], "content": "x"}], "prompt": ""}], "cases[0].messages[0].role"),
    ([GOOD | {"prompt": 3}], "cases[0].prompt"),
    ([GOOD | {"prompt": "x" * 100_001}], "cases[0].prompt"),
    ([GOOD | {"messages": [{"role": "user", "content": "x"}]}], "cases[0].prompt"),
    ([GOOD | {"prompt": "", "messages": [{"role": "robot", "content": "x"}]}], "cases[0].messages[0].role"),
    ([GOOD | {"checks": []}], "cases[0].checks"),
    ([GOOD | {"checks": [{"kind": "vibes"}]}], "cases[0].checks[0].kind"),
    ([GOOD | {"checks": [{"kind": "contains", "value": ""}]}], "cases[0].checks[0].value"),
    ([GOOD | {"checks": [{"kind": "json_schema", "value": "{"}]}], "cases[0].checks[0].value"),
    ([GOOD | {"checks": [{"kind": "same_as"}]}], "cases[0].checks[0].model"),
    ([GOOD | {"checks": [{"kind": "similar", "value": "x", "model": "m", "threshold": 2}]}],
     "cases[0].checks[0].threshold"),
    ([GOOD | {"parameters": {"model": "x"}}], "cases[0].parameters"),
    ([GOOD | {"parameters": {"max_tokens": 10**9}}], "cases[0].parameters"),
    ([GOOD | {"parameters": {"temperature": 1}, "checks": [{"kind": "same_as", "model": "m"}]}],
     "cases[0].parameters"),
]  # fmt: skip


@pytest.mark.parametrize(("raw", "place"), BAD)
def test_a_bad_case_is_refused_with_its_place(raw: object, place: str) -> None:
    with pytest.raises(BadCase) as told:
        cases.parse(raw)
    assert told.value.place == place


def test_a_case_is_asked_greedily_with_a_bound() -> None:
    (case,) = cases.parse([GOOD | {"system": "Be short."}])
    assert case.name == "Case 1"
    assert case.body("m") == {
        "model": "m", "temperature": 0, "max_tokens": 256,
        "messages": [{"role": "system", "content": "Be short."}, {"role": "user", "content": "Hi"}],
    }  # fmt: skip
    (other,) = cases.parse([GOOD | {"parameters": {"max_completion_tokens": 9, "temperature": 0.5}}])
    assert {"max_completion_tokens": 9, "temperature": 0.5}.items() <= other.body("m").items()
    assert "max_tokens" not in other.body("m")


def test_what_is_no_schema_is_told_and_keeps_nothing_from_the_others() -> None:
    jobs = [{"job": "schema", "schema": text} for text in ("1", '"x"', "[]", "null", "{}", "true", '{"type": "nope"}')]
    told = bounded.problems(jobs)
    assert ["not a JSON schema" in one for one in told] == [True, True, True, True, False, False, True]
