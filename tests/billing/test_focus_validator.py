"""The FinOps Foundation's own validator finds nothing wrong, but for two rules that contradict each other.

It needs Python 3.12 or newer and an environment of its own; nothing here installs it:

    python3.12 -m venv DIR && DIR/bin/pip install "focus-validator==2.2.1" "pyarrow<22"
    FOCUS_VALIDATOR=DIR/bin/python scripts/test tests/billing/test_focus_validator.py
"""

import os
import subprocess
from pathlib import Path
from xml.etree import ElementTree

import pytest

from accounts.models import ApiKey, Membership, Team
from billing import focus, periods, scope
from billing.models import LedgerEntry
from tests.factories.accounts import MembershipFactory
from tests.factories.months import entry, full_october

PYTHON = os.environ.get("FOCUS_VALIDATOR", "")
# "InvoiceId MUST be null" and "InvoiceId MUST NOT be null", each without its condition.
CONTRADICTORY = {"InvoiceId-C-004-C", "InvoiceId-C-005-C"}

pytestmark = [
    pytest.mark.django_db,
    pytest.mark.skipif(not PYTHON, reason="FOCUS_VALIDATOR names no Python with focus-validator: see this file's head"),
]


def test_the_validator_fails_no_rule_but_the_two_that_contradict_each_other(tmp_path: Path) -> None:
    team = MembershipFactory(team=full_october()).team
    used = LedgerEntry.objects.get(team=team, kind="credit")
    entry(team, "credit", used.at, quantity="1", unit_price="0.1", meter="", sku="", reason="given back", corrects=used)
    Membership.objects.filter(team=team).delete()  # nobody is left in it; what it owes stays
    ApiKey.objects.filter(team=team).delete()
    failed, passed = report(october(team), tmp_path)
    assert failed <= CONTRADICTORY
    assert len(passed) > 150


def test_the_validator_would_say_so(tmp_path: Path) -> None:
    team = full_october()
    failed, _ = report(october(team).replace(b",Modelport,", b",,"), tmp_path)
    assert failed - CONTRADICTORY


def october(team: Team) -> bytes:
    return b"".join(focus.as_csv(scope.of(team, periods.month_named("2026-10", team.time_zone))))


def report(text: bytes, folder: Path) -> tuple[set[str], set[str]]:
    """(the rules that fail, those that pass), read from its report: it exits with 0 either way."""
    (folder / "focus.csv").write_bytes(text)
    where = "import focus_validator, pathlib; print(pathlib.Path(focus_validator.__file__).parent)"
    package = subprocess.run([PYTHON, "-c", where], check=True, capture_output=True, text=True).stdout.strip()
    link = folder / "focus_validator"  # it reads its currency codes from the folder that it is started in
    link.exists() or link.symlink_to(package)
    done = subprocess.run(
        [
            PYTHON, "-m", "focus_validator.main", "--data-file", "focus.csv", "--validate-version", "1.2",
            "--block-download", "--applicability-criteria", ",".join(focus.CRITERIA), "--output-type", "unittest",
            "--output-destination", "report.xml",
        ],
        cwd=folder, check=False, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    failed, passed = set(), set()
    for case in ElementTree.parse(folder / "report.xml").iter("testcase"):  # noqa: S314 - the file is our own
        rule = case.get("name", "").split(" ")[0]
        if case.find("failure") is not None or case.find("error") is not None:
            failed.add(rule)
        elif case.find("skipped") is None:
            passed.add(rule)
    return failed, passed
