"""Any OpenAI-compatible address. Chat, completions and embeddings go through untouched."""

from collections.abc import Iterable
from typing import Any

from gateway.adapters.base import CHAT, COMPLETIONS, EMBEDDINGS, PATHS, Source, loaded, unreadable
from gateway.usage import Tally

DONE = b"[DONE]"


class OpenAIAdapter:
    native = frozenset({CHAT, COMPLETIONS, EMBEDDINGS})

    def speaks(self, surface: str, body: dict[str, Any]) -> bool:
        return surface in self.native

    def headers(self, api_key: str) -> dict[str, str]:
        return {"authorization": f"Bearer {api_key}"}

    def chat_path(self) -> str:
        return PATHS[CHAT]

    def native_body(self, surface: str, body: dict[str, Any], *, max_tokens: int | None) -> dict[str, Any]:
        """A stream always reports its usage. A bound is sent where the client set none and a budget counts on it."""
        if surface == EMBEDDINGS:
            return dict(body)
        sent = dict(body)
        if body.get("stream"):
            sent["stream_options"] = (body.get("stream_options") or {}) | {"include_usage": True}
        bounds = ("max_tokens", "max_completion_tokens") if surface == CHAT else ("max_tokens",)
        if max_tokens and not any(body.get(name) for name in bounds):
            sent["max_tokens"] = max_tokens
        return sent

    def chat_body(self, chat: dict[str, Any], *, max_tokens: int | None) -> dict[str, Any]:
        return self.native_body(CHAT, chat, max_tokens=max_tokens)

    def native_source(self, surface: str, body: dict[str, Any], tally: Tally, where: str) -> Source:
        return OpenAISource(tally, where, "data" if surface == EMBEDDINGS else "choices")

    def chat_source(self, chat: dict[str, Any], tally: Tally, where: str) -> Source:
        return OpenAISource(tally, where, "choices")


class OpenAISource:
    __slots__ = ("_list", "_tally", "_where", "ended")

    def __init__(self, tally: Tally, where: str, listed: str) -> None:
        self.ended = False
        self._tally = tally
        self._where = where
        self._list = listed

    def read(self, data: bytes) -> Iterable[dict[str, Any]]:
        if data == DONE:
            self.ended = True
            return ()
        chunk = loaded(data, self._where)
        try:
            for choice in chunk.get("choices") or ():
                part = choice.get("delta") or choice
                text = part.get("content") or part.get("text") or part.get("reasoning_content")
                if text or part.get("tool_calls"):
                    self._tally.delivered(text)
        except (AttributeError, TypeError) as error:
            raise unreadable(self._where) from error
        if usage := chunk.get("usage"):  # after what came with it: it counts that too
            self._tally.openai(usage)
        return (chunk,)

    def whole(self, answer: dict[str, Any]) -> dict[str, Any]:
        if not isinstance(answer.get(self._list), list):
            raise ValueError(f"no {self._list}")
        for choice in answer.get("choices") or ():
            said = choice.get("message") or choice
            self._tally.delivered(said.get("content") or said.get("text") or "")
        self._tally.openai(answer.get("usage"))
        return answer
