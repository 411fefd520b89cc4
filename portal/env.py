"""Settings from the environment. Each secret NAME may also come as NAME_FILE, a path to read it from."""

import os
from pathlib import Path


class BadSetting(ValueError):
    """An environment variable holds something that can't be used; the text names it and what it takes."""


def env_str(name: str, default: str = "") -> str:
    return os.environ.get(name) or default


def env_bool(name: str, default: bool = False) -> bool:
    text = os.environ.get(name, "").strip().lower()
    if not text:
        return default
    if text in {"1", "true", "yes", "on"}:
        return True
    if text in {"0", "false", "no", "off"}:
        return False
    raise BadSetting(f"{name}={text!r}: use 1 or 0")


def env_int(name: str, default: int) -> int:
    text = os.environ.get(name, "").strip()
    try:
        return int(text) if text else default
    except ValueError as error:
        raise BadSetting(f"{name}={text!r}: use a whole number") from error


def env_secret(name: str, default: str = "") -> str:
    """The secret NAME, or the content of the file that NAME_FILE names, without its last line end."""
    if path := os.environ.get(f"{name}_FILE"):
        return Path(path).read_text().rstrip("\n")
    return os.environ.get(name) or default


def env_list(name: str, default: str = "") -> list[str]:
    return [item.strip() for item in env_str(name, default).split(",") if item.strip()]
