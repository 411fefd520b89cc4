"""requirements/*.txt are exported from uv.lock; these hold the two against each other, name, version and hash."""

import hashlib
import re
import tomllib
from pathlib import Path

import pytest

from portal.embedded import ROOT, smollm2_gguf

GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"


def _pins(name: str) -> dict[str, tuple[str, set[str]]]:
    text = (ROOT / "requirements" / f"{name}.txt").read_text()
    found = {
        name: (version, set(re.findall(r"sha256:([0-9a-f]{64})", rest)))
        for name, version, rest in re.findall(r"^([a-z0-9._-]+)==([^\s;]+)(.*(?:\n +--hash.*)*)", text, re.MULTILINE)
    }
    assert found
    return found


def _locked() -> dict[str, tuple[str, set[str]]]:
    lock = tomllib.loads((ROOT / "uv.lock").read_text())
    packages = {}
    for package in lock["package"]:
        files = [*package.get("wheels", []), *filter(None, [package.get("sdist")])]
        hashes = {file["hash"].removeprefix("sha256:") for file in files if "hash" in file}
        packages[package["name"]] = (package.get("version", ""), hashes)
    return packages


@pytest.mark.parametrize("name", ["run", "test"])
def test_requirements_are_what_the_lock_says(name: str) -> None:
    locked = _locked()
    for package, (version, hashes) in _pins(name).items():
        assert locked[package][0] == version
        assert hashes == locked[package][1], package


def test_what_the_tests_need_holds_all_that_the_portal_needs() -> None:
    assert _pins("run").items() <= _pins("test").items()


def test_every_direct_dependency_is_pinned() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    run = {_name(text) for text in project["project"]["dependencies"]}
    dev = {_name(text) for text in project["dependency-groups"]["dev"]}
    assert run <= set(_pins("run"))
    assert run | dev <= set(_pins("test"))


def test_the_weights_are_the_pinned_ones() -> None:
    path = smollm2_gguf()
    if not path:
        pytest.skip("the package with the weights is not installed here: scripts/test installs it")
    with Path(path).open("rb") as file:
        assert hashlib.file_digest(file, "sha256").hexdigest() == GGUF_SHA256
    starter = "".join(file.read_text() for file in (ROOT / "catalog" / "starter").glob("*.json"))
    assert GGUF_SHA256 in starter


def _name(requirement: str) -> str:
    found = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert found
    return found[0].lower().replace("_", "-").replace(".", "-")
