"""Why an answer ended, and what it used, in both languages."""

from types import MappingProxyType
from typing import Any

FINISH = MappingProxyType(
    {
        "end_turn": "stop",
        "stop_sequence": "stop",
        "pause_turn": "stop",
        "max_tokens": "length",
        "model_context_window_exceeded": "length",
        "tool_use": "tool_calls",
        "refusal": "content_filter",
    }
)
STOP = MappingProxyType(
    {
        "stop": "end_turn",
        "length": "max_tokens",
        "tool_calls": "tool_use",
        "function_call": "tool_use",
        "content_filter": "refusal",
    }
)


def openai_usage(usage: dict[str, Any]) -> dict[str, Any]:
    """Anthropic's disjoint counts as OpenAI counts: the prompt includes what was read from and written to a cache."""
    read = int(usage.get("cache_read_input_tokens") or 0)
    written = int(usage.get("cache_creation_input_tokens") or 0)
    prompt = int(usage.get("input_tokens") or 0) + read + written
    output = int(usage.get("output_tokens") or 0)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": output,
        "total_tokens": prompt + output,
        "prompt_tokens_details": {"cached_tokens": read, "cache_creation_tokens": written},
    }


def anthropic_usage(usage: dict[str, Any] | None) -> dict[str, int]:
    """OpenAI's counts as Anthropic counts: what came from the cache stands apart from the input."""
    usage = usage or {}
    details = usage.get("prompt_tokens_details") or {}
    prompt = int(usage.get("prompt_tokens") or 0)
    read = min(int(details.get("cached_tokens") or 0), prompt)
    written = min(int(details.get("cache_creation_tokens") or 0), prompt - read)
    return {
        "input_tokens": prompt - read - written,
        "cache_read_input_tokens": read,
        "cache_creation_input_tokens": written,
        "output_tokens": int(usage.get("completion_tokens") or 0),
    }


class ToolPlaces:
    """Which block a piece of a tool's call belongs to. Some APIs send whole calls without `index`: then the id says
    so. Pieces of calls that take turns can't be said in blocks that follow each other: ValueError."""

    def __init__(self) -> None:
        self._blocks: dict[int | str, int] = {}
        self._last: int | str = 0

    def place(self, call: dict[str, Any]) -> int | str:
        index = call.get("index")
        self._last = index if isinstance(index, int) else str(call.get("id") or self._last)
        return self._last

    def __contains__(self, place: int | str) -> bool:
        return place in self._blocks

    def begin(self, place: int | str, block: int) -> None:
        self._blocks[place] = block

    def block(self, place: int | str, *, latest: int) -> int:
        if self._blocks[place] != latest:
            raise ValueError("the pieces of several tool calls take turns")
        return latest
