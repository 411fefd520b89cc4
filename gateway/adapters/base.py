"""What an adapter must do: say where and how to send, and read what comes back."""

from collections.abc import Iterable
from typing import Any, Protocol

import orjson

from gateway.errors import WireError, upstream_failed
from gateway.usage import Tally

CHAT, COMPLETIONS, EMBEDDINGS = "chat", "completions", "embeddings"
RESPONSES, MESSAGES, COUNT_TOKENS = "responses", "messages", "count_tokens"
PATHS = {
    CHAT: "/chat/completions",
    COMPLETIONS: "/completions",
    EMBEDDINGS: "/embeddings",
    RESPONSES: "/responses",
    MESSAGES: "/messages",
    COUNT_TOKENS: "/messages/count_tokens",
}


class Source(Protocol):
    """Reads one answer of a target, and counts its usage on the way. `ended` once the target said so itself."""

    ended: bool

    def read(self, data: bytes) -> Iterable[dict[str, Any]]:
        """The objects that one event becomes. Raises WireError for an event that can't be read or is an error."""
        ...

    def whole(self, answer: dict[str, Any]) -> dict[str, Any]:
        """A whole answer. Raises ValueError when it is none."""
        ...


class Adapter(Protocol):
    """`native`: the surfaces that the target speaks itself. Every other one is said as chat, by `chat_*`."""

    native: frozenset[str]

    def speaks(self, surface: str, body: dict[str, Any]) -> bool:
        """True if this body can go there as it is."""
        ...

    def headers(self, api_key: str) -> dict[str, str]: ...

    def chat_path(self) -> str:
        """Where a request that was translated from chat goes."""
        ...

    def native_body(self, surface: str, body: dict[str, Any], *, max_tokens: int | None) -> dict[str, Any]:
        """The client's body as it is sent. `max_tokens`: the bound to hold the target to, where one is needed."""
        ...

    def chat_body(self, chat: dict[str, Any], *, max_tokens: int | None) -> dict[str, Any]: ...

    def native_source(self, surface: str, body: dict[str, Any], tally: Tally, where: str) -> Source: ...

    def chat_source(self, chat: dict[str, Any], tally: Tally, where: str) -> Source:
        """Reads an answer into OpenAI's chat objects."""
        ...


def loaded(data: bytes, where: str) -> dict[str, Any]:
    """One event's object. Raises WireError when it is none, or an error."""
    try:
        event = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise unreadable(where) from error
    if not isinstance(event, dict):
        raise unreadable(where)
    if event.get("error"):
        raise upstream_failed(f"{where} failed in the middle of its answer.")
    return event


def unreadable(where: str) -> WireError:
    return upstream_failed(f"{where} sent an event that can't be read.")
