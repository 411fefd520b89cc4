"""Run by path, as a process that may be killed: one pattern or one schema against one text, told on stdin and stdout.

A pattern can take longer than the age of the universe, and Python can't be told to stop looking. A process can.
"""

import contextlib
import json
import re
import resource
import sys
from itertools import islice

CPU_S, MEMORY = 2, 1 << 30
MOST_ERRORS = 5


def main() -> None:
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, CPU_S))
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    asked = json.load(sys.stdin)
    try:
        told = _look(asked["jobs"]) if asked["job"] == "look" else JOBS[asked["job"]](asked)
    except Exception as error:
        told = {"problem": f"{type(error).__name__}: {error}"[:500]}
    json.dump(told, sys.stdout)


def _look(jobs: "list[dict[str, str]]") -> "dict[str, object]":
    """What is wrong with each pattern and schema by itself; "" if nothing is."""
    return {"problems": [JOBS[one["job"]](one | {"text": ""}).get("problem", "") for one in jobs]}


def _pattern(asked: "dict[str, str]") -> "dict[str, object]":
    try:
        pattern = re.compile(asked["pattern"])
    except re.error as error:
        return {"problem": f"The pattern is not a regular expression: {error}"}
    return {"found": pattern.search(asked["text"]) is not None}


def _schema(asked: "dict[str, str]") -> "dict[str, object]":
    """Nothing is fetched: a reference to elsewhere can't be resolved."""
    from jsonschema import validators
    from jsonschema.exceptions import SchemaError
    from referencing import Registry

    schema = json.loads(asked["schema"])
    if not isinstance(schema, dict | bool):
        return {"problem": "The schema is not a JSON schema: it is an object, or true, or false."}
    kind = validators.validator_for(schema, default=validators.Draft202012Validator)
    try:
        kind.check_schema(schema)  # type: ignore[arg-type]  # the stubs know no schema that is true or false
    except SchemaError as error:
        return {"problem": f"The schema is not a JSON schema: {error.message}"}
    if asked["text"] == "":
        return {"errors": []}
    value = json.loads(asked["text"])
    found = islice(kind(schema, registry=Registry()).iter_errors(value), MOST_ERRORS)
    return {"errors": [f"{one.json_path}: {one.message}"[:500] for one in found]}


JOBS = {"schema": _schema, "pattern": _pattern}


if __name__ == "__main__":
    main()
