"""OpenAI's chat answers as responses: a whole chat.completion, and the chunks of a stream."""

import time
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

from gateway.errors import WireError
from gateway.translation.finish import ToolPlaces

CUT = "max_output_tokens"


def response(chat: dict[str, Any], *, model: str, asked: dict[str, Any]) -> dict[str, Any]:
    choice = (chat.get("choices") or [{}])[0]
    said = choice.get("message") or {}
    output = [_message(_id("msg"), said["content"])] if said.get("content") else []
    output += [_call(call) for call in said.get("tool_calls") or ()]
    cut = choice.get("finish_reason") == "length"
    return head(model, asked, status="incomplete" if cut else "completed") | {
        "output": output,
        "incomplete_details": {"reason": CUT} if cut else None,
        "usage": _usage(chat.get("usage")),
    }


def head(model: str, asked: dict[str, Any], *, status: str, response_id: str = "", created: int = 0) -> dict[str, Any]:
    """What a response says before there is output."""
    return {
        "id": response_id or _id("resp"),
        "object": "response",
        "created_at": created or int(time.time()),
        "status": status,
        "background": False,
        "error": None,
        "incomplete_details": None,
        "instructions": asked.get("instructions"),
        "max_output_tokens": asked.get("max_output_tokens"),
        "model": model,
        "output": [],
        "parallel_tool_calls": asked.get("parallel_tool_calls", True),
        "previous_response_id": None,
        "reasoning": {"effort": None, "summary": None},
        "store": False,
        "temperature": asked.get("temperature"),
        "text": asked.get("text") or {"format": {"type": "text"}},
        "tool_choice": asked.get("tool_choice") or "auto",
        "tools": asked.get("tools") or [],
        "top_p": asked.get("top_p"),
        "truncation": "disabled",
        "usage": None,
        "user": asked.get("user"),
        "metadata": asked.get("metadata") or {},
    }


class Events:
    """The chunks of one stream as the events of a response. `end` gives what stands before the last, `last` that."""

    def __init__(self, *, model: str, asked: dict[str, Any]) -> None:
        self._model = model
        self._asked = asked
        self._id, self._created = _id("resp"), int(time.time())
        self._number = -1
        self._output: list[dict[str, Any]] = []
        self._open: int | None = None
        self._tools = ToolPlaces()
        self._cut = False
        self._usage: dict[str, Any] | None = None

    def begin(self) -> Iterator[dict[str, Any]]:
        yield self._event("response.created", response=self._response("in_progress"))
        yield self._event("response.in_progress", response=self._response("in_progress"))

    def of(self, chunk: dict[str, Any]) -> Iterator[dict[str, Any]]:
        if self._number < 0:
            yield from self.begin()
        if isinstance(chunk.get("usage"), dict):
            self._usage = chunk["usage"]
        for choice in (chunk.get("choices") or ())[:1]:
            delta = choice.get("delta") or {}
            if text := delta.get("content"):
                yield from self._text(text)
            for call in delta.get("tool_calls") or ():
                yield from self._tool(call)
            self._cut = self._cut or choice.get("finish_reason") == "length"

    def end(self) -> Iterator[dict[str, Any]]:
        if self._number < 0:
            yield from self.begin()
        yield from self._close()

    def last(self) -> dict[str, Any]:
        status = "incomplete" if self._cut else "completed"
        response = self._response(status) | {
            "output": self._output,
            "incomplete_details": {"reason": CUT} if self._cut else None,
            "usage": _usage(self._usage),
        }
        return self._event(f"response.{status}", response=response)

    def failed(self, error: WireError) -> dict[str, Any]:
        """The `error` event, on which OpenAI's SDK raises."""
        shape = error.shape()
        return self._event("error", error=shape, code=error.code, message=error.message, param=error.param)

    def _text(self, text: str) -> Iterator[dict[str, Any]]:
        if self._open is None or self._output[self._open]["type"] != "message":
            yield from self._close()
            item = _message(_id("msg"), "") | {"status": "in_progress", "content": []}
            yield self._add(item)
            part = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
            yield self._at("response.content_part.added", content_index=0, part=part)
            item["content"] = [dict(part)]
        assert self._open is not None  # noqa: S101 - it was opened above
        self._output[self._open]["content"][0]["text"] += text
        yield self._at("response.output_text.delta", content_index=0, delta=text, logprobs=[])

    def _tool(self, call: dict[str, Any]) -> Iterator[dict[str, Any]]:
        place, function = self._tools.place(call), call.get("function") or {}
        if place not in self._tools:
            yield from self._close()
            made = _call({"id": call.get("id"), "function": {"name": function.get("name"), "arguments": ""}})
            yield self._add(made | {"status": "in_progress"})
            self._tools.begin(place, len(self._output) - 1)
        if arguments := function.get("arguments"):
            self._output[self._tools.block(place, latest=len(self._output) - 1)]["arguments"] += arguments
            yield self._at("response.function_call_arguments.delta", delta=arguments)

    def _add(self, item: dict[str, Any]) -> dict[str, Any]:
        self._output.append(item)
        self._open = len(self._output) - 1
        return self._event("response.output_item.added", output_index=self._open, item=dict(item))

    def _close(self) -> Iterator[dict[str, Any]]:
        if self._open is None:
            return
        item = self._output[self._open]
        if item["type"] == "message":
            part = item["content"][0]
            yield self._at("response.output_text.done", content_index=0, text=part["text"], logprobs=[])
            yield self._at("response.content_part.done", content_index=0, part=dict(part))
        else:
            yield self._at("response.function_call_arguments.done", name=item["name"], arguments=item["arguments"])
        item["status"] = "completed"
        yield self._event("response.output_item.done", output_index=self._open, item=dict(item))
        self._open = None

    def _at(self, kind: str, **more: Any) -> dict[str, Any]:
        assert self._open is not None  # noqa: S101 - only of an open item
        return self._event(kind, item_id=self._output[self._open]["id"], output_index=self._open, **more)

    def _event(self, kind: str, **more: Any) -> dict[str, Any]:
        self._number += 1
        return {"type": kind, "sequence_number": self._number, **more}

    def _response(self, status: str) -> dict[str, Any]:
        return head(self._model, self._asked, status=status, response_id=self._id, created=self._created)


def _message(item_id: str, text: str) -> dict[str, Any]:
    part = {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
    return {"id": item_id, "type": "message", "role": "assistant", "status": "completed", "content": [part]}


def _call(call: dict[str, Any]) -> dict[str, Any]:
    function = call.get("function") or {}
    return {
        "id": _id("fc"),
        "type": "function_call",
        "status": "completed",
        "call_id": call.get("id"),
        "name": function.get("name"),
        "arguments": function.get("arguments") or "",
    }


def _usage(usage: dict[str, Any] | None) -> dict[str, Any] | None:
    if not usage:
        return None
    details = usage.get("prompt_tokens_details") or {}
    reasoning = (usage.get("completion_tokens_details") or {}).get("reasoning_tokens") or 0
    return {
        "input_tokens": usage.get("prompt_tokens") or 0,
        "input_tokens_details": {"cached_tokens": details.get("cached_tokens") or 0},
        "output_tokens": usage.get("completion_tokens") or 0,
        "output_tokens_details": {"reasoning_tokens": reasoning},
        "total_tokens": usage.get("total_tokens") or 0,
    }


def _id(kind: str) -> str:
    return f"{kind}_{uuid4().hex}"
