"""The portal's own deployments. llama.cpp's server speaks both wires, so both go through untouched.

One thing it can't be relied on for: that a model calls the one tool that it was told to call. So that is asked for as
an answer in the tool's own JSON schema, which the engine's grammar enforces, and given back as the tool's call.
"""

from collections.abc import Iterable
from typing import Any
from uuid import uuid4

from gateway.adapters.anthropic import MessagesSource
from gateway.adapters.base import CHAT, COMPLETIONS, COUNT_TOKENS, EMBEDDINGS, MESSAGES, Source
from gateway.adapters.openai import OpenAIAdapter, OpenAISource
from gateway.errors import bad_request
from gateway.usage import Tally


class PlatformAdapter(OpenAIAdapter):
    native = frozenset({CHAT, COMPLETIONS, EMBEDDINGS, MESSAGES, COUNT_TOKENS})

    def speaks(self, surface: str, body: dict[str, Any]) -> bool:
        """Messages with a forced tool are said as chat, where the forcing is done."""
        if surface == MESSAGES and isinstance(choice := body.get("tool_choice"), dict):
            return choice.get("type") not in ("tool", "any")
        return surface in self.native

    def native_body(self, surface: str, body: dict[str, Any], *, max_tokens: int | None) -> dict[str, Any]:
        if surface in {MESSAGES, COUNT_TOKENS}:
            return dict(body)
        _only_one_choice(body)
        _only_functions(body)
        sent = super().native_body(surface, body, max_tokens=max_tokens)
        return _forced(sent, tool) if surface == CHAT and (tool := _forced_tool(body)) else sent

    def native_source(self, surface: str, body: dict[str, Any], tally: Tally, where: str) -> Source:
        if surface == MESSAGES:
            return MessagesSource(tally, where)
        if surface == CHAT:
            return self.chat_source(body, tally, where)
        return super().native_source(surface, body, tally, where)

    def chat_source(self, chat: dict[str, Any], tally: Tally, where: str) -> Source:
        if tool := _forced_tool(chat):
            return ForcedToolSource(tally, where, str(tool["name"]))
        return super().chat_source(chat, tally, where)


def _only_one_choice(body: dict[str, Any]) -> None:
    """llama.cpp makes several and counts the tokens of one: what can't be billed is not made."""
    for name in ("n", "best_of"):
        if (body.get(name) or 1) > 1:
            raise bad_request(
                f"An own deployment makes one choice a call, because its engine counts the tokens of one. Send"
                f" {body[name]} calls instead.",
                param=name,
                code="unsupported_value",
            )


def _only_functions(body: dict[str, Any]) -> None:
    """What else providers call a tool, an engine fails on."""
    for place, tool in enumerate(body.get("tools") or ()):
        if tool.get("type", "function") != "function":
            text = "An own deployment takes tools of the type `function` alone."
            raise bad_request(text, param=f"tools[{place}].type", code="unsupported_value")


class ForcedToolSource(OpenAISource):
    """JSON comes as text, and goes on as the arguments of a call of the one tool."""

    __slots__ = ("_begun", "_call_id", "_name")

    def __init__(self, tally: Tally, where: str, name: str) -> None:
        super().__init__(tally, where, "choices")
        self._name = name
        self._call_id = f"call_{uuid4().hex}"
        self._begun = False

    def read(self, data: bytes) -> Iterable[dict[str, Any]]:
        for chunk in super().read(data):
            for choice in chunk.get("choices") or ():
                self._turn(choice)
            yield chunk

    def _turn(self, choice: dict[str, Any]) -> None:
        delta = choice.get("delta") or {}
        if text := delta.pop("content", None):
            part: dict[str, Any] = {"index": 0, "function": {"arguments": text}}
            if not self._begun:
                self._begun = True
                part |= {"id": self._call_id, "type": "function"}
                part["function"]["name"] = self._name
            delta["tool_calls"] = [part]
        if choice.get("finish_reason") == "stop":
            choice["finish_reason"] = "tool_calls"

    def whole(self, answer: dict[str, Any]) -> dict[str, Any]:
        for choice in super().whole(answer)["choices"]:
            said = choice["message"]
            function = {"name": self._name, "arguments": said.get("content") or ""}
            said |= {"content": None, "tool_calls": [{"id": self._call_id, "type": "function", "function": function}]}
            if choice.get("finish_reason") == "stop":
                choice["finish_reason"] = "tool_calls"
        return answer


def _forced_tool(chat: dict[str, Any]) -> dict[str, Any] | None:
    """The function that has to be called: the named one, or the only one when some has to be."""
    functions = [tool["function"] for tool in chat.get("tools") or () if isinstance(tool.get("function"), dict)]
    functions = [function for function in functions if isinstance(function.get("name"), str)]
    choice = chat.get("tool_choice")
    if choice == "required":
        return functions[0] if len(functions) == 1 else None
    named = choice.get("function") if isinstance(choice, dict) else None
    name = named.get("name") if isinstance(named, dict) else None
    return next((function for function in functions if name and function.get("name") == name), None)


def _forced(chat: dict[str, Any], tool: dict[str, Any]) -> dict[str, Any]:
    told = f"Call the function {tool['name']}: answer only with its arguments, as JSON. {tool.get('description') or ''}"
    schema = tool.get("parameters") or {"type": "object"}
    sent = {key: value for key, value in chat.items() if key not in {"tools", "tool_choice", "parallel_tool_calls"}}
    messages = list(chat["messages"])
    if messages[0].get("role") == "system" and isinstance(messages[0].get("content"), str):
        messages[0] = messages[0] | {"content": f"{messages[0]['content']}\n\n{told.strip()}"}
    else:
        messages.insert(0, {"role": "system", "content": told.strip()})
    wanted = {"type": "json_schema", "json_schema": {"name": tool["name"], "schema": schema}}
    return sent | {"messages": messages, "response_format": wanted}
