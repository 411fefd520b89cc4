"""The portal's own deployments. llama.cpp's server speaks both wires, so both go through untouched."""

from typing import Any

from gateway.adapters.anthropic import MessagesSource
from gateway.adapters.base import CHAT, COMPLETIONS, COUNT_TOKENS, EMBEDDINGS, MESSAGES, Source
from gateway.adapters.openai import OpenAIAdapter
from gateway.usage import Tally


class PlatformAdapter(OpenAIAdapter):
    native = frozenset({CHAT, COMPLETIONS, EMBEDDINGS, MESSAGES, COUNT_TOKENS})

    def native_body(self, surface: str, body: dict[str, Any], *, max_tokens: int | None) -> dict[str, Any]:
        if surface in {MESSAGES, COUNT_TOKENS}:
            return dict(body)
        return super().native_body(surface, body, max_tokens=max_tokens)

    def native_source(self, surface: str, tally: Tally, where: str) -> Source:
        if surface == MESSAGES:
            return MessagesSource(tally, where)
        return super().native_source(surface, tally, where)
