"""OpenAI's answers as Anthropic's: a whole chat.completion, and the chunks of a stream."""

from collections.abc import Iterator
from typing import Any

import orjson

from gateway.translation.finish import STOP, ToolPlaces, anthropic_usage


def message(chat: dict[str, Any], *, model: str) -> dict[str, Any]:
    """A chat.completion as a Messages answer; of several choices the first."""
    choice = (chat.get("choices") or [{}])[0]
    said = choice.get("message") or {}
    blocks: list[dict[str, Any]] = []
    if text := said.get("content") or said.get("refusal"):
        blocks.append({"type": "text", "text": text})
    blocks += [_tool_use(call) for call in said.get("tool_calls") or ()]
    return {
        "id": _message_id(chat.get("id")),
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": blocks,
        "stop_reason": STOP.get(str(choice.get("finish_reason")), "end_turn"),
        "stop_sequence": None,
        "usage": anthropic_usage(chat.get("usage")),
    }


def _tool_use(call: dict[str, Any]) -> dict[str, Any]:
    function = call.get("function") or {}
    try:
        given = orjson.loads(function.get("arguments") or "{}")
    except orjson.JSONDecodeError:
        given = {"unparsed": function.get("arguments")}
    return {"type": "tool_use", "id": call.get("id"), "name": function.get("name"), "input": given}


def _message_id(given: Any) -> str:
    return str(given) if str(given).startswith("msg_") else f"msg_{given}"


class Events:
    """The chunks of one stream as named events. `end` gives what stands before message_stop."""

    def __init__(self, *, model: str, prompt_tokens: int) -> None:
        self._model = model
        self._prompt_tokens = prompt_tokens
        self._begun = False
        self._index = -1
        self._open = ""
        self._tools = ToolPlaces()
        self._stop = "end_turn"
        self._usage: dict[str, Any] | None = None

    def of(self, chunk: dict[str, Any]) -> Iterator[dict[str, Any]]:
        if not self._begun:
            yield self._start(chunk)
        if isinstance(chunk.get("usage"), dict):
            self._usage = chunk["usage"]
        for choice in (chunk.get("choices") or ())[:1]:
            delta = choice.get("delta") or {}
            if text := delta.get("content"):
                yield from self._text(text)
            for call in delta.get("tool_calls") or ():
                yield from self._tool(call)
            if reason := choice.get("finish_reason"):
                self._stop = STOP.get(str(reason), "end_turn")

    def end(self) -> Iterator[dict[str, Any]]:
        if not self._begun:
            yield self._start({})
        yield from self._close()
        delta = {"stop_reason": self._stop, "stop_sequence": None}
        yield {"type": "message_delta", "delta": delta, "usage": anthropic_usage(self._usage)}

    def _start(self, chunk: dict[str, Any]) -> dict[str, Any]:
        """Its counts are not known yet: the input is an estimate, which message_delta replaces."""
        self._begun = True
        head = {"id": _message_id(chunk.get("id")), "type": "message", "role": "assistant", "model": self._model}
        usage = {"input_tokens": self._prompt_tokens, "output_tokens": 0}
        rest: dict[str, Any] = {"content": [], "stop_reason": None, "stop_sequence": None, "usage": usage}
        return {"type": "message_start", "message": head | rest}

    def _text(self, text: str) -> Iterator[dict[str, Any]]:
        if self._open != "text":
            yield from self._block("text", {"type": "text", "text": ""})
        yield {"type": "content_block_delta", "index": self._index, "delta": {"type": "text_delta", "text": text}}

    def _tool(self, call: dict[str, Any]) -> Iterator[dict[str, Any]]:
        place, function = self._tools.place(call), call.get("function") or {}
        if place not in self._tools:
            block: dict[str, Any] = {
                "type": "tool_use",
                "id": call.get("id"),
                "name": function.get("name"),
                "input": {},
            }
            yield from self._block(f"tool {place}", block)
            self._tools.begin(place, self._index)
        if arguments := function.get("arguments"):
            delta = {"type": "input_json_delta", "partial_json": arguments}
            block_index = self._tools.block(place, latest=self._index)
            yield {"type": "content_block_delta", "index": block_index, "delta": delta}

    def _block(self, name: str, block: dict[str, Any]) -> Iterator[dict[str, Any]]:
        yield from self._close()
        self._open, self._index = name, self._index + 1
        yield {"type": "content_block_start", "index": self._index, "content_block": block}

    def _close(self) -> Iterator[dict[str, Any]]:
        if self._open:
            self._open = ""
            yield {"type": "content_block_stop", "index": self._index}
