"""From what an upstream reports (or, if it reports nothing, from what came through) to disjoint token classes."""

from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from billing.meters import TOKENS_INPUT, TOKENS_INPUT_CACHED, TOKENS_OUTPUT

CHARACTERS_PER_TOKEN = 4


@dataclass(slots=True)
class Tally:
    """What one call has used so far. `usage` is the provider's own object once it has come."""

    prompt_estimate: int
    usage: dict[str, Any] | None = None
    characters: int = 0
    chunks: int = 0

    def see(self, chunk: dict[str, Any]) -> None:
        """Read one answer or one chunk: usage from wherever it stands, and the text that was delivered."""
        usage = chunk.get("usage")
        if isinstance(usage, dict) and _count(usage, "prompt_tokens") is not None:
            self.usage = usage
        for choice in chunk.get("choices") or ():
            part = choice.get("delta") or choice.get("message") or {}
            text = part.get("content") or part.get("reasoning_content") or ""
            if text or part.get("tool_calls"):
                self.chunks += 1
                self.characters += len(text) if isinstance(text, str) else 0

    @property
    def measured(self) -> bool:
        return self.usage is not None

    def quantities(self) -> dict[str, Decimal]:
        """meter -> tokens, classes disjoint: input without cached, cached, output. Explicit zero is zero."""
        if self.usage is None:
            return self.estimate()
        prompt = _count(self.usage, "prompt_tokens") or 0
        details = self.usage.get("prompt_tokens_details")
        cached = (_count(details, "cached_tokens") or 0) if isinstance(details, dict) else 0
        cached = min(cached, prompt)
        return {
            TOKENS_INPUT.name: Decimal(prompt - cached),
            TOKENS_INPUT_CACHED.name: Decimal(cached),
            TOKENS_OUTPUT.name: Decimal(_count(self.usage, "completion_tokens") or 0),
        }

    def estimate(self) -> dict[str, Decimal]:
        """Four characters a token, at least one token a chunk; never nothing."""
        output = max(self.chunks, self.characters // CHARACTERS_PER_TOKEN, 1)
        return {TOKENS_INPUT.name: Decimal(max(self.prompt_estimate, 1)), TOKENS_OUTPUT.name: Decimal(output)}


def _count(usage: dict[str, Any], name: str) -> int | None:
    value = usage.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None
