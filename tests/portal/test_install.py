"""How scripts/up and scripts/test come to a Python and a .venv."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from portal.embedded import ROOT

SH = shutil.which("sh") or "/bin/sh"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout with scripts and requirement files that ask for nothing, so that no package index is needed."""
    shutil.copytree(ROOT / "scripts", tmp_path / "scripts")
    (tmp_path / "requirements").mkdir()
    for name in ("run", "test", "weights"):
        (tmp_path / "requirements" / f"{name}.txt").write_text("# nothing\n")
    return tmp_path


def test_a_python_that_is_not_first_on_path_is_found(tmp_path: Path) -> None:
    _script(tmp_path / "path" / "python3", "echo 'Python 3.8.0' >&2; exit 1")
    hidden = tmp_path / "home" / ".pyenv" / "versions" / "3.11.9" / "bin" / "python3.11"
    _script(hidden, f'exec "{sys.executable}" "$@"')
    found = _find(PATH=str(tmp_path / "path"), HOME=str(tmp_path / "home"))
    assert found.stdout.strip() == str(hidden)


def test_a_named_python_goes_first(tmp_path: Path) -> None:
    named = tmp_path / "somewhere" / "python"
    _script(named, f'exec "{sys.executable}" "$@"')
    assert _find(PYTHON=str(named), PATH="", HOME="").stdout.strip() == str(named)


def test_a_python_without_ensurepip_is_passed_over(tmp_path: Path) -> None:
    bare = tmp_path / "python"
    _script(bare, f'exec "{sys.executable}" -S -c "import sys; sys.exit(1)" "$@"')
    assert _find(PYTHON=str(bare), PATH=str(tmp_path), HOME="").stdout.strip() != str(bare)


def test_an_install_that_was_cut_short_begins_again_from_an_empty_venv(checkout: Path) -> None:
    first = _install(checkout)
    assert first.returncode == 0, first.stdout
    (checkout / ".venv" / "installing").touch()
    (checkout / ".venv" / "half").touch()
    again = _install(checkout)
    assert again.returncode == 0
    assert "half made" in again.stdout
    assert not (checkout / ".venv" / "half").exists()
    assert _install(checkout).stdout == "", "an install that is up to date says and does nothing"


def test_two_installs_at_once_take_turns(checkout: Path) -> None:
    command = [sys.executable, "scripts/install.py", "run"]
    both = [subprocess.Popen(command, cwd=checkout, text=True, stdout=subprocess.PIPE) for _ in range(2)]
    said = [process.communicate(timeout=120)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sum("Making .venv" in text for text in said) == 1
    assert sum("Waiting for another install" in text for text in said) == 1


def test_a_changed_requirement_is_installed_and_a_failure_says_what_to_do(checkout: Path) -> None:
    assert _install(checkout).returncode == 0
    (checkout / "requirements" / "run.txt").write_text("./nowhere.whl --hash=sha256:" + "0" * 64 + "\n")
    failed = _install(checkout)
    assert failed.returncode == 1
    assert "Failed: installing the packages of requirements/run.txt" in failed.stdout
    assert "What to do:" in failed.stdout


def _script(path: Path, body: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!{SH}\n{body}\n")
    path.chmod(0o755)


def _find(**env: str) -> "subprocess.CompletedProcess[str]":
    script = str(ROOT / "scripts" / "find-python")
    return subprocess.run([SH, script], env=env, check=False, capture_output=True, text=True)


def _install(checkout: Path) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "scripts/install.py", "run"]
    return subprocess.run(command, cwd=checkout, check=False, text=True, stdout=subprocess.PIPE)
