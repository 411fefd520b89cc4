"""An engine's output as people may see it: no colours, no control characters, no secret. Pure."""

import re
from collections.abc import Iterable

MASK = "[secret]"
SHORTEST_SECRET = 6

# What terminals take for colours, titles and cursor moves (ECMA-48: CSI, OSC, and the two-character escapes).
_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\-_])")
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
# Keys as those who issue them write them, and what stands behind a word that announces one.
_KEYS = re.compile(r"\b(?:mp_|hf_|sk-|ghp_|xox[abp]-)[A-Za-z0-9_-]{16,}|\bAKIA[A-Z0-9]{16}\b")
_ANNOUNCED = re.compile(
    r"(?i)(\b(?:authorization:\s*)?bearer\s+|\b(?:api[-_ ]?keys?|access[-_]?token|secret|password|passwd)"
    r"[\"']?\s*[=:]\s*[\"']?)(?!\[secret\])([^\s\"',;&]{4,})"
)


def clean(text: str, *, secrets: Iterable[str] = ()) -> str:
    """One line, without what must not be seen: the given secrets, and whatever looks like a key."""
    text = _CONTROLS.sub("", _ESCAPES.sub("", text.rpartition("\r")[2] if "\r" in text.rstrip("\r") else text))
    for secret in secrets:
        if len(secret) >= SHORTEST_SECRET:
            text = text.replace(secret, MASK)
    return _ANNOUNCED.sub(rf"\1{MASK}", _KEYS.sub(MASK, text))
