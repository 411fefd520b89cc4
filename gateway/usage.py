"""From what an upstream reports (or, if it reports nothing, from what came through) to disjoint token classes."""

from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from billing.meters import (
    OUTPUT,
    TOKENS_INPUT,
    TOKENS_INPUT_AUDIO,
    TOKENS_INPUT_CACHE_WRITE,
    TOKENS_INPUT_CACHE_WRITE_1H,
    TOKENS_INPUT_CACHED,
    TOKENS_OUTPUT,
    TOKENS_OUTPUT_AUDIO,
    TOKENS_OUTPUT_REASONING,
)

CHARACTERS_PER_TOKEN = 4
RARER_OUTPUT = OUTPUT - {TOKENS_OUTPUT.name}


@dataclass(slots=True)
class Tally:
    """What one call has used so far. `usage` is the provider's own object, `counted` its classes in tokens; `whole`
    once the number that ends a call has come."""

    prompt_estimate: int
    has_output: bool = True
    usage: dict[str, Any] | None = None
    counted: dict[str, int] = field(default_factory=dict)
    whole: bool = False
    characters: int = 0
    chunks: int = 0
    counted_at: int = 0

    def delivered(self, text: str | None) -> None:
        """A piece of the answer came: for the estimate, should no count follow."""
        self.chunks += 1
        self.characters += len(text or "")

    def openai(self, usage: Any) -> None:
        """OpenAI's usage object: prompt tokens include the cached, written and audio ones, completion tokens those
        reasoned and spoken. Which of the cached are audio is not said, so those count as cached. The last one counts.
        """
        if not isinstance(usage, dict) or _count(usage, "prompt_tokens") is None:
            return
        prompt = _count(usage, "prompt_tokens") or 0
        details = usage.get("prompt_tokens_details")
        details = details if isinstance(details, dict) else {}
        cached = min(_count(details, "cached_tokens") or 0, prompt)
        written = min(_count(details, "cache_creation_tokens") or 0, prompt - cached)
        heard = min(_count(details, "audio_tokens") or 0, prompt - cached - written)
        output = _count(usage, "completion_tokens") or 0
        details = usage.get("completion_tokens_details")
        details = details if isinstance(details, dict) else {}
        reasoned = min(_count(details, "reasoning_tokens") or 0, output)
        spoken = min(_count(details, "audio_tokens") or 0, output - reasoned)
        self.usage = usage
        self.whole = not self.has_output or _count(usage, "completion_tokens") is not None
        self.counted_at = self.chunks
        self.counted = {
            TOKENS_INPUT.name: prompt - cached - written - heard,
            TOKENS_INPUT_CACHED.name: cached,
            TOKENS_INPUT_CACHE_WRITE.name: written,
            TOKENS_OUTPUT.name: output - reasoned - spoken,
        }
        rarer = {TOKENS_INPUT_AUDIO: heard, TOKENS_OUTPUT_REASONING: reasoned, TOKENS_OUTPUT_AUDIO: spoken}
        self.counted |= {meter.name: count for meter, count in rarer.items() if count}

    def anthropic(self, usage: Any, *, final: bool) -> None:
        """Anthropic's usage object: classes are disjoint already. A stream's comes in two parts; the later wins."""
        if not isinstance(usage, dict):
            return
        self.usage = (self.usage or {}) | {name: value for name, value in usage.items() if value is not None}
        merged = self.usage
        if _count(merged, "input_tokens") is None:
            return
        written = _count(merged, "cache_creation_input_tokens") or 0
        split = merged.get("cache_creation")
        hour = min(_count(split, "ephemeral_1h_input_tokens") or 0, written) if isinstance(split, dict) else 0
        self.counted = {
            TOKENS_INPUT.name: _count(merged, "input_tokens") or 0,
            TOKENS_INPUT_CACHED.name: _count(merged, "cache_read_input_tokens") or 0,
            TOKENS_INPUT_CACHE_WRITE.name: written - hour,
            TOKENS_INPUT_CACHE_WRITE_1H.name: hour,
            TOKENS_OUTPUT.name: _count(merged, "output_tokens") or 0,
        }
        self.whole = self.whole or (final and _count(usage, "output_tokens") is not None)
        self.counted_at = self.chunks

    @property
    def measured(self) -> bool:
        """The count came, and nothing after it. A count on the way says too little once more has come."""
        return self.whole and self.chunks == self.counted_at

    def quantities(self) -> dict[str, Decimal]:
        """meter -> tokens, classes disjoint. Explicit zero is zero."""
        if not self.measured:
            return self.estimate()
        return {meter: Decimal(count) for meter, count in self.counted.items()}

    def estimate(self) -> dict[str, Decimal]:
        """What was counted so far; else four characters a token, at least one token a chunk; never nothing."""
        given = {meter: count for meter, count in self.counted.items() if meter not in OUTPUT and count}
        given = given or {TOKENS_INPUT.name: max(self.prompt_estimate, 1)}
        if self.has_output:
            # Of what came after the last count nobody says which class it is: it is plain output.
            rarer = {meter: self.counted[meter] for meter in self.counted if meter in RARER_OUTPUT}
            so_far = self.counted.get(TOKENS_OUTPUT.name, 0)
            heard = max(self.chunks, self.characters // CHARACTERS_PER_TOKEN, 1) - sum(rarer.values())
            given |= rarer | {TOKENS_OUTPUT.name: max(so_far, heard, 0 if rarer else 1)}
        return {meter: Decimal(count) for meter, count in given.items()}

    @property
    def tokens(self) -> int:
        """All classes together, for the rate limit."""
        return int(sum(self.quantities().values()))


def _count(usage: dict[str, Any], name: str) -> int | None:
    value = usage.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None
