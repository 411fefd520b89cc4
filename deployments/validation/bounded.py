"""Patterns and schemas that people wrote, tried in a process of their own with bounds on its CPU and memory."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

CHILD = Path(__file__).with_name("bounded_child.py")
# Its CPU is bounded by itself; this is for a machine that has no time for it.
WITHIN_S = 20.0


class NotTold(Exception):
    """It took too long or too much, or what was asked makes no sense; the text says which."""


def matches(pattern: str, text: str) -> bool:
    """Does the pattern match somewhere in the text? Raises NotTold."""
    return bool(_asked({"job": "pattern", "pattern": pattern, "text": text})["found"])


def schema_errors(schema: str, text: str) -> list[str]:
    """What is wrong with the JSON text by the schema, a few at most; "" only checks the schema. Raises NotTold."""
    return [str(one) for one in _asked({"job": "schema", "schema": schema, "text": text})["errors"]]


def problems(jobs: list[dict[str, str]]) -> list[str]:
    """What is wrong with each by itself, "" if nothing: {"job": "pattern", "pattern": ...} or {"job": "schema",
    "schema": ...}. Raises NotTold."""
    return [str(one) for one in _asked({"job": "look", "jobs": jobs})["problems"]] if jobs else []


def _asked(job: dict[str, Any]) -> dict[str, Any]:
    options = ["-I", "-S"] if job["job"] == "pattern" else ["-I"]
    try:
        done = subprocess.run(  # noqa: S603 - our own file; what people wrote goes to its stdin
            [sys.executable, *options, str(CHILD)],
            input=json.dumps(job),
            capture_output=True,
            text=True,
            timeout=WITHIN_S,
            check=False,
        )
        told = json.loads(done.stdout) if done.returncode == 0 else None
    except (subprocess.TimeoutExpired, ValueError):
        told = None
    if told is None:
        what = "The schema" if job["job"] == "schema" else "The pattern"
        raise NotTold(f"{what} took too long or too much memory, and was given up.")
    if "problem" in told:
        raise NotTold(str(told["problem"]))
    return dict(told)
