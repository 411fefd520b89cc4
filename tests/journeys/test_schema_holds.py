"""schemathesis throws what the schema allows, and what it forbids, at a running portal: nothing answers with a 500."""

import os
import re
import shutil
import subprocess
import sysconfig
from pathlib import Path

import pytest

from portal.embedded import ROOT
from tests.running import RunningPortal

pytestmark = [pytest.mark.portal, pytest.mark.xdist_group("portal")]


# What an id stands in is asked with ids that exist nowhere: each edge of the rest of such a request is the same 404.
EDGES = ["--phases", "examples,coverage", "--exclude-path-regex", r"\{"]
CHANCE = ["--phases", "fuzzing", "--max-examples", "10"]


@pytest.mark.parametrize("phases", [EDGES, CHANCE], ids=["edges", "chance"])
def test_no_route_of_the_schema_fails_inside(running_portal: RunningPortal, tmp_path: Path, phases: list[str]) -> None:
    key = running_portal.manage("issue_key", "--team", "demo", "--name", "schema").strip()
    command = shutil.which("schemathesis", path=sysconfig.get_path("scripts"))
    assert command
    done = subprocess.run(
        [
            command, "run", f"{running_portal.url}/api/v1/schema", "--header", f"Authorization: Bearer {key}",
            "--checks", "not_a_server_error", *phases, "--mode", "all", "--workers", "2",
            "--generation-deterministic", "--request-timeout", "60", "--suppress-health-check", "all",
        ],
        env=os.environ | {"SCHEMATHESIS_HOOKS": "tests.journeys.schema_hooks", "PYTHONPATH": str(ROOT)},
        cwd=tmp_path, check=False, capture_output=True, text=True,
    )  # fmt: skip
    assert re.search(r"Tested: [1-9]\d", done.stdout), done.stdout[-2000:]
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
