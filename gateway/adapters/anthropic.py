"""Anthropic's Messages API. What was asked in OpenAI's words is translated; messages go through untouched."""

from collections.abc import Iterable
from typing import Any

from gateway.adapters.base import COUNT_TOKENS, MESSAGES, PATHS, Source, loaded, unreadable
from gateway.protocols.anthropic import VERSION
from gateway.translation import chat_from_message, to_anthropic
from gateway.usage import Tally

DEFAULT_MAX_TOKENS = 4096


class AnthropicAdapter:
    native = frozenset({MESSAGES, COUNT_TOKENS})

    def speaks(self, surface: str, body: dict[str, Any]) -> bool:
        return surface in self.native

    def headers(self, api_key: str) -> dict[str, str]:
        return {"x-api-key": api_key, "anthropic-version": VERSION}

    def chat_path(self) -> str:
        return PATHS[MESSAGES]

    def native_body(self, surface: str, body: dict[str, Any], *, max_tokens: int | None) -> dict[str, Any]:
        return dict(body)

    def chat_body(self, chat: dict[str, Any], *, max_tokens: int | None) -> dict[str, Any]:
        return to_anthropic.messages_body(chat, max_tokens=max_tokens or DEFAULT_MAX_TOKENS)

    def native_source(self, surface: str, body: dict[str, Any], tally: Tally, where: str) -> Source:
        return MessagesSource(tally, where)

    def chat_source(self, chat: dict[str, Any], tally: Tally, where: str) -> Source:
        return ChatFromMessages(tally, where)


class MessagesSource:
    """A stream's named events; message_stop only sets `ended`, it is the last word of whoever forwards."""

    def __init__(self, tally: Tally, where: str) -> None:
        self.ended = False
        self._tally = tally
        self._where = where

    def read(self, data: bytes) -> Iterable[dict[str, Any]]:
        event = loaded(data, self._where)
        try:
            match event.get("type"):
                case "message_stop":
                    self.ended = True
                    return ()
                case "message_start":
                    self._tally.anthropic(event["message"].get("usage"), final=False)
                case "message_delta":
                    self._tally.anthropic(event.get("usage"), final=True)
                case "content_block_delta":
                    delta = event["delta"]
                    self._tally.delivered(delta.get("text") or delta.get("thinking") or delta.get("partial_json"))
        except (AttributeError, KeyError, TypeError) as error:
            raise unreadable(self._where) from error
        return (event,)

    def whole(self, answer: dict[str, Any]) -> dict[str, Any]:
        if not isinstance(answer.get("content"), list):
            raise ValueError("no content")
        for block in answer["content"]:
            self._tally.delivered(str(block.get("text") or block.get("input") or ""))
        self._tally.anthropic(answer.get("usage"), final=True)
        return answer


class ChatFromMessages(MessagesSource):
    """The same, as OpenAI's chunks."""

    def __init__(self, tally: Tally, where: str) -> None:
        super().__init__(tally, where)
        self._chunks = chat_from_message.Chunks()

    def read(self, data: bytes) -> Iterable[dict[str, Any]]:
        return [chunk for event in super().read(data) for chunk in self._chunks.of(event)]

    def whole(self, answer: dict[str, Any]) -> dict[str, Any]:
        return chat_from_message.completion(super().whole(answer))
