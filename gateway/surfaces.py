"""What clients speak. A surface checks a body, says it as chat where the target can't read it, and writes answers."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Protocol

import orjson

from gateway.adapters.base import CHAT, COMPLETIONS, COUNT_TOKENS, EMBEDDINGS, MESSAGES, RESPONSES
from gateway.errors import WireError
from gateway.protocols import anthropic, openai, responses
from gateway.protocols.asked import Asked
from gateway.translation import message_from_chat, response_from_chat, to_openai


class Sink(Protocol):
    """Writes one answer for a client: events as they come, `end` when the target is through, and only after the
    settlement `last`, or `failure`."""

    def put(self, item: dict[str, Any]) -> bytes: ...
    def end(self) -> bytes: ...
    def last(self) -> bytes: ...
    def failure(self, error: WireError) -> bytes: ...
    def whole(self, answer: dict[str, Any]) -> dict[str, Any]: ...


@dataclass(frozen=True, slots=True)
class Writing:
    """What a sink needs to know: the body, what was read of it, the name of the model that answers."""

    body: dict[str, Any]
    asked: Asked
    model: str
    request_id: str


@dataclass(frozen=True, slots=True)
class Surface:
    """`to_chat` None: only a target that speaks this surface itself can answer it."""

    name: str
    is_anthropic: bool
    check: Callable[[dict[str, Any]], Asked]
    native_sink: Callable[[Writing], Sink]
    to_chat: Callable[[dict[str, Any]], dict[str, Any]] | None = None
    chat_sink: Callable[[Writing], Sink] | None = None


class OpenAISink:
    """Chat, completions and embeddings: the objects as they come, under the name of the model that answers."""

    __slots__ = ("_writing",)

    def __init__(self, writing: Writing) -> None:
        self._writing = writing

    def put(self, item: dict[str, Any]) -> bytes:
        """Without the usage that only we asked for."""
        if "usage" in item and not self._writing.asked.include_usage:
            if not item.get("choices"):
                return b""
            del item["usage"]
        item["model"] = self._writing.model
        return b"data: " + orjson.dumps(item) + b"\n\n"

    def end(self) -> bytes:
        return b""

    def last(self) -> bytes:
        return b"data: [DONE]\n\n"

    def failure(self, error: WireError) -> bytes:
        return b"data: " + error.body() + b"\n\n"

    def whole(self, answer: dict[str, Any]) -> dict[str, Any]:
        answer["model"] = self._writing.model
        return answer


class MessagesSink:
    """Messages from a target that speaks them."""

    def __init__(self, writing: Writing) -> None:
        self._writing = writing

    def put(self, item: dict[str, Any]) -> bytes:
        if item.get("type") == "message_start":
            item["message"]["model"] = self._writing.model
        return _named(item)

    def end(self) -> bytes:
        return b""

    def last(self) -> bytes:
        return _named({"type": "message_stop"})

    def failure(self, error: WireError) -> bytes:
        return b"event: error\ndata: " + error.anthropic_body(self._writing.request_id) + b"\n\n"

    def whole(self, answer: dict[str, Any]) -> dict[str, Any]:
        answer["model"] = self._writing.model
        return answer


class MessagesFromChatSink(MessagesSink):
    def __init__(self, writing: Writing) -> None:
        super().__init__(writing)
        self._events = message_from_chat.Events(model=writing.model, prompt_tokens=writing.asked.prompt_tokens)

    def put(self, item: dict[str, Any]) -> bytes:
        return _all_named(self._events.of(item))

    def end(self) -> bytes:
        return _all_named(self._events.end())

    def whole(self, answer: dict[str, Any]) -> dict[str, Any]:
        return message_from_chat.message(answer, model=self._writing.model)


class ResponsesSink:
    def __init__(self, writing: Writing) -> None:
        self._writing = writing
        self._events = response_from_chat.Events(model=writing.model, asked=writing.body)
        self._last = b""

    def put(self, item: dict[str, Any]) -> bytes:
        return _all_named(self._events.of(item))

    def end(self) -> bytes:
        return _all_named(self._events.end())

    def last(self) -> bytes:
        self._last = self._last or _named(self._events.last())  # the same when it is kept and when it is sent
        return self._last

    def failure(self, error: WireError) -> bytes:
        return _named(self._events.failed(error))

    def whole(self, answer: dict[str, Any]) -> dict[str, Any]:
        return response_from_chat.response(answer, model=self._writing.model, asked=self._writing.body)


def _named(event: dict[str, Any]) -> bytes:
    return b"event: " + str(event.get("type")).encode() + b"\ndata: " + orjson.dumps(event) + b"\n\n"


def _all_named(events: Iterable[dict[str, Any]]) -> bytes:
    return b"".join(map(_named, events))


SURFACES = {
    surface.name: surface
    for surface in (
        Surface(CHAT, False, openai.check_chat, OpenAISink, lambda body: body, OpenAISink),
        Surface(COMPLETIONS, False, openai.check_completion, OpenAISink),
        Surface(EMBEDDINGS, False, openai.check_embedding, OpenAISink),
        Surface(RESPONSES, False, responses.check, ResponsesSink, responses.chat_body, ResponsesSink),
        Surface(
            MESSAGES, True, anthropic.check_messages, MessagesSink, to_openai.chat_body, MessagesFromChatSink
        ),
        Surface(COUNT_TOKENS, True, anthropic.check_count, MessagesSink),
    )
}  # fmt: skip
