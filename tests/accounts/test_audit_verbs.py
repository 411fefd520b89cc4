"""Every line of the audit trail that changes a value says what was so before and what is so since. Read from the
source: a new verb without them fails here, until it has them or is named below as something that merely happened."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from portal.embedded import ROOT

APPS = ("accounts", "billing", "catalog", "deployments", "gateway", "playground", "portal")
# What happened, and left no value that somebody set.
HAPPENED = {
    "began the import of", "tried again the import of", "imported", "uploaded", "gave up the upload",
    "stopped", "retried", "validated", "called off a validation of",
    "made a new secret", "made the sample team",
}  # fmt: skip
# What is gone has no after, what is new no before; all else has both.
BEGINS = {
    "issued the key", "issued a key", "invited", "joined the team", "created the team", "agreed to the licence",
    "granted the credit", "drafted the re-rating", "deployed", "had an upload verified",
}  # fmt: skip
ENDS = {
    "revoked the key", "revoked a key", "took back the invitation of", "removed the Hub token of", "deleted the alias",
    "deleted the budget", "removed the weights", "removed the prompt set",
}  # fmt: skip


def _records() -> Iterator[tuple[str, str, set[str]]]:
    """(where, verb or "" where it is worked out, names of arguments) of each call of audit.record."""
    for app in APPS:
        for path in sorted((ROOT / app).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Call) and ast.unparse(node.func) == "audit.record":
                    given = {one.arg or "**": one.value for one in node.keywords}
                    verb = given["verb"]
                    text = str(verb.value) if isinstance(verb, ast.Constant) else ""
                    yield f"{path.relative_to(ROOT)}:{node.lineno}", text, set(given)


@pytest.fixture(scope="module")
def records() -> list[tuple[str, str, set[str]]]:
    found = list(_records())
    assert len(found) > 40
    return found


def test_every_verb_says_what_was_and_what_is(records: list[tuple[str, str, set[str]]]) -> None:
    wrong = []
    for where, verb, given in records:
        needed = {"before", "after"}
        if verb in HAPPENED or "**" in given:
            continue
        if verb in BEGINS or where.startswith("accounts/admin_trail.py"):  # the admin's own log has names, no values
            needed = {"after"}
        elif verb in ENDS or where.startswith("accounts/members.py"):  # removed, or left: the role that they had
            needed = {"before"}
        if needed - given:
            wrong.append((where, verb))
    assert wrong == []


def test_no_verb_is_named_here_that_nobody_records(records: list[tuple[str, str, set[str]]]) -> None:
    said = "".join(path.read_text() for app in APPS for path in Path(ROOT / app).rglob("*.py"))
    assert [verb for verb in HAPPENED | BEGINS | ENDS if f'"{verb}"' not in said] == []
    assert {verb for _, verb, _ in records} >= BEGINS
