"""Anthropic's answers as OpenAI's: a whole message, and the events of a stream."""

import time
from collections.abc import Iterator
from typing import Any

import orjson

from gateway.translation.finish import FINISH, openai_usage
from gateway.translation.to_anthropic import JSON_TOOL


def completion(message: dict[str, Any]) -> dict[str, Any]:
    """A whole Messages answer as a chat.completion."""
    texts, thoughts, calls = [], [], []
    as_json = False
    for block in message.get("content") or ():
        match block.get("type"):
            case "text":
                texts.append(str(block.get("text") or ""))
            case "thinking":
                thoughts.append(str(block.get("thinking") or ""))
            case "tool_use" if block.get("name") == JSON_TOOL:
                texts, as_json = [orjson.dumps(block.get("input") or {}).decode()], True
            case "tool_use":
                arguments = orjson.dumps(block.get("input") or {}).decode()
                function = {"name": block.get("name"), "arguments": arguments}
                calls.append({"id": block.get("id"), "type": "function", "function": function})
    said: dict[str, Any] = {"role": "assistant", "content": "".join(texts) if texts or not calls else None}
    if thoughts:
        said["reasoning_content"] = "".join(thoughts)
    if calls:
        said["tool_calls"] = calls
    finish = "stop" if as_json and not calls else FINISH.get(str(message.get("stop_reason")), "stop")
    return {
        "id": message.get("id"),
        "object": "chat.completion",
        "created": int(time.time()),
        "model": message.get("model"),
        "choices": [{"index": 0, "message": said, "logprobs": None, "finish_reason": finish}],
        "usage": openai_usage(message.get("usage") or {}),
    }


class Chunks:
    """The events of one stream as chat.completion.chunks."""

    def __init__(self) -> None:
        self._id = ""
        self._created = int(time.time())
        self._usage: dict[str, Any] = {}
        self._calls: dict[int, int] = {}
        self._json_block: int | None = None

    def of(self, event: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """The chunks that one event becomes: none, one, or at the end the reason and the usage."""
        match event.get("type"):
            case "message_start":
                message = event.get("message") or {}
                self._id = str(message.get("id") or "")
                self._usage |= message.get("usage") or {}
                yield self._chunk({"role": "assistant", "content": ""})
            case "content_block_start":
                yield from self._begin(int(event.get("index") or 0), event.get("content_block") or {})
            case "content_block_delta":
                yield from self._piece(int(event.get("index") or 0), event.get("delta") or {})
            case "message_delta":
                self._usage |= {name: value for name, value in (event.get("usage") or {}).items() if value is not None}
                reason = FINISH.get(str((event.get("delta") or {}).get("stop_reason")), "stop")
                if reason == "tool_calls" and not self._calls:
                    reason = "stop"
                yield self._chunk({}, finish=reason)
                yield {**self._chunk({}), "choices": [], "usage": openai_usage(self._usage)}

    def _begin(self, index: int, block: dict[str, Any]) -> Iterator[dict[str, Any]]:
        if block.get("type") != "tool_use":
            if block.get("text"):
                yield self._chunk({"content": block["text"]})
            return
        if block.get("name") == JSON_TOOL:
            self._json_block = index
            return
        self._calls[index] = len(self._calls)
        function = {"name": block.get("name"), "arguments": ""}
        call = {"index": self._calls[index], "id": block.get("id"), "type": "function", "function": function}
        yield self._chunk({"tool_calls": [call]})

    def _piece(self, index: int, delta: dict[str, Any]) -> Iterator[dict[str, Any]]:
        match delta.get("type"):
            case "text_delta":
                yield self._chunk({"content": delta.get("text") or ""})
            case "thinking_delta":
                yield self._chunk({"reasoning_content": delta.get("thinking") or ""})
            case "input_json_delta" if index == self._json_block:
                yield self._chunk({"content": delta.get("partial_json") or ""})
            case "input_json_delta" if index in self._calls:
                function = {"arguments": delta.get("partial_json") or ""}
                yield self._chunk({"tool_calls": [{"index": self._calls[index], "function": function}]})

    def _chunk(self, delta: dict[str, Any], *, finish: str | None = None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return {
            "id": self._id,
            "object": "chat.completion.chunk",
            "created": self._created,
            "model": "",
            "choices": [choice],
        }
