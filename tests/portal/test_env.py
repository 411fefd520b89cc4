"""Settings from the environment, and the file from which manage.py takes that of a running portal."""

from pathlib import Path

import pytest

from portal import embedded, env


@pytest.mark.parametrize(("text", "value"), [("1", True), ("Yes", True), ("off", False), ("0", False), (" ", False)])
def test_a_bool_reads_the_usual_words(monkeypatch: pytest.MonkeyPatch, text: str, value: bool) -> None:
    monkeypatch.setenv("SOME_FLAG", text)
    assert env.env_bool("SOME_FLAG") is value


def test_a_bool_or_number_that_is_none_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_FLAG", "perhaps")
    with pytest.raises(env.BadSetting, match="SOME_FLAG"):
        env.env_bool("SOME_FLAG")
    monkeypatch.setenv("SOME_NUMBER", "ten")
    with pytest.raises(env.BadSetting, match="SOME_NUMBER"):
        env.env_int("SOME_NUMBER", 1)


def test_a_secret_may_come_from_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("from the file\n")
    monkeypatch.setenv("SOME_SECRET", "from the environment")
    assert env.env_secret("SOME_SECRET") == "from the environment"
    monkeypatch.setenv("SOME_SECRET_FILE", str(tmp_path / "secret"))
    assert env.env_secret("SOME_SECRET") == "from the file"


def test_a_list_is_split_at_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_LIST", " a, b,,c ")
    assert env.env_list("SOME_LIST") == ["a", "b", "c"]


def test_manage_py_takes_what_a_running_portal_wrote(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    embedded.write_private(tmp_path / "env", "SECRET_KEY=kept\nDATABASE_URL=postgresql://u@/d?host=/s\nPORT=9\n")
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    monkeypatch.setenv("PORT", "7")
    monkeypatch.delenv("SECRET_KEY")
    monkeypatch.delenv("DATABASE_URL")
    embedded.load_env()
    assert env.env_str("SECRET_KEY") == "kept"
    assert env.env_str("DATABASE_URL") == "postgresql://u@/d?host=/s"
    assert env.env_str("PORT") == "7", "what was given goes before what was kept"


def test_a_given_secret_key_means_that_nothing_is_taken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    embedded.write_private(tmp_path / "env", "SOME_NAME=kept\n")
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    monkeypatch.setenv("SECRET_KEY", "given")
    embedded.load_env()
    assert env.env_str("SOME_NAME") == ""


def test_a_private_file_is_the_owners_alone(tmp_path: Path) -> None:
    embedded.write_private(tmp_path / "secrets.json", "{}")
    assert (tmp_path / "secrets.json").stat().st_mode & 0o777 == 0o600
