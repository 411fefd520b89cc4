"""`anthropic-beta`: which of the features that a caller asks for go on to Anthropic.

Only those that leave the price as this portal knows it, and that lead to nothing outside of the request: what else is
billed (a longer window, a faster lane, tools that the provider runs, files that it keeps) would be metered by nobody.
"""

import re

from gateway.errors import bad_request

HEADER = "anthropic-beta"
MOST, LONGEST = 20, 1024
TOKEN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
# Families, as they stand before the date: `interleaved-thinking-2025-05-14`.
FORWARDED = (
    "claude-code", "computer-use", "context-management", "effort", "extended-cache-ttl",
    "fine-grained-tool-streaming", "interleaved-thinking", "max-tokens-3-5-sonnet", "model-context-window-exceeded",
    "output-128k", "pdfs", "prompt-caching", "structured-outputs", "token-counting", "token-efficient-tools", "tools",
)  # fmt: skip
_FAMILY = re.compile(rf"(?:{'|'.join(FORWARDED)})-\d{{4}}-?\d{{2}}-?\d{{2}}")


def asked(raw: bytes) -> str:
    """What is sent on, as the header has it; empty for none. 400 for what is no list of names."""
    if not raw:
        return ""
    names = [name for part in raw.decode("latin-1").split(",") if (name := part.strip())]
    if len(raw) > LONGEST or len(names) > MOST or not all(TOKEN.fullmatch(name) for name in names):
        raise bad_request(f"{HEADER} is a list of at most {MOST} names with commas between them.", param=HEADER)
    return ",".join(dict.fromkeys(name for name in names if _FAMILY.fullmatch(name)))
