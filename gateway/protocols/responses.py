"""OpenAI's responses: text, images, tools, structured output, several turns by input items. Nothing is stored.

A responses body is said as chat/completions, so that every kind of target can answer it.
"""

from typing import Any

from gateway.errors import bad_request
from gateway.protocols import openai
from gateway.protocols.asked import MOST_TOKENS, Asked, flag, list_of_objects, model_of, number, whole

# They point to something that OpenAI would have stored, or that only OpenAI runs.
REFUSED = ("previous_response_id", "conversation", "background", "prompt", "context_management")
TAKEN = frozenset(
    {
        *REFUSED, "model", "input", "instructions", "max_output_tokens", "tools", "tool_choice", "text", "reasoning",
        "store", "include", "stream", "stream_options", "truncation", "max_tool_calls", "metadata", "top_logprobs",
    }
)  # fmt: skip
ROLES = ("user", "assistant", "system", "developer")


def check(body: dict[str, Any]) -> Asked:
    """Check what we read of a responses body; WireError 400 with `param` for the first thing that is wrong."""
    model_of(body)
    for name in REFUSED:
        if body.get(name):
            raise _cannot(f"`{name}`", name)
    flag(body, "stream")
    number(body, "temperature", 0, 2)
    number(body, "top_p", 0, 1)
    whole(body, "max_output_tokens", 1, MOST_TOKENS)
    return openai.check_chat(chat_body(body) | {"model": body["model"]})


def chat_body(body: dict[str, Any]) -> dict[str, Any]:
    """The same request as a chat/completions body, without `model`."""
    chat = {name: value for name, value in body.items() if name not in TAKEN and value is not None}
    chat["messages"] = _messages(body)
    if body.get("max_output_tokens"):
        chat["max_tokens"] = body["max_output_tokens"]
    if body.get("stream"):
        chat["stream"] = True
    if isinstance(reasoning := body.get("reasoning"), dict) and reasoning.get("effort"):
        chat["reasoning_effort"] = reasoning["effort"]
    if tools := [_tool(tool, place) for place, tool in enumerate(list_of_objects(body, "tools"))]:
        chat["tools"] = tools
        _add_choice(chat, body.get("tool_choice"))
    _add_format(chat, body.get("text"))
    return chat


def _cannot(what: str, param: str) -> Exception:
    return bad_request(
        f"{what} is not available here: this portal stores no responses. Send the conversation as `input` items.",
        param=param,
        code="unsupported_parameter",
    )


def _messages(body: dict[str, Any]) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = []
    instructions = body.get("instructions")
    if instructions is not None and not isinstance(instructions, str):
        raise bad_request("`instructions` must be a text.", param="instructions", code="invalid_type")
    if instructions:
        messages.append({"role": "system", "content": instructions})
    given = body.get("input")
    if isinstance(given, str) and given:
        return [*messages, {"role": "user", "content": given}]
    if not isinstance(given, list) or not given:
        raise bad_request("`input` must be a text or a list of at least one item.", param="input")
    for place, item in enumerate(given):
        if not isinstance(item, dict):
            raise bad_request("An item of `input` is an object.", param=f"input[{place}]", code="invalid_type")
        _add_item(messages, item, f"input[{place}]")
    return messages


def _add_item(messages: list[dict[str, Any]], item: dict[str, Any], where: str) -> None:
    match item.get("type", "message"):
        case "message":
            if item.get("role") not in ROLES:
                raise bad_request(f"`role` must be one of {', '.join(ROLES)}.", param=f"{where}.role")
            messages.append({"role": item["role"], "content": _content(item.get("content"), where)})
        case "function_call":
            function = {"name": str(item.get("name")), "arguments": str(item.get("arguments") or "{}")}
            call = {"id": str(item.get("call_id")), "type": "function", "function": function}
            if messages and messages[-1]["role"] == "assistant":
                messages[-1].setdefault("tool_calls", []).append(call)
            else:
                messages.append({"role": "assistant", "content": None, "tool_calls": [call]})
        case "function_call_output":
            output = item.get("output")
            content = output if isinstance(output, str) else _content(output, where)
            messages.append({"role": "tool", "tool_call_id": str(item.get("call_id")), "content": content})
        case "reasoning":
            return
        case kind:
            raise _cannot(f"An item of the type {str(kind)[:40]!r}", where)


def _content(content: Any, where: str) -> str | list[dict[str, Any]]:
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise bad_request("`content` is a text or a list of parts.", param=f"{where}.content", code="invalid_type")
    parts = [_part(part, f"{where}.content[{place}]") for place, part in enumerate(content)]
    if all(part["type"] == "text" for part in parts):
        return "".join(part["text"] for part in parts)
    return parts


def _part(part: Any, where: str) -> dict[str, Any]:
    if not isinstance(part, dict):
        raise bad_request("A part of `content` is an object.", param=where, code="invalid_type")
    match part.get("type"):
        case "input_text" | "output_text" | "text":
            return {"type": "text", "text": str(part.get("text") or "")}
        case "refusal":
            return {"type": "text", "text": str(part.get("refusal") or "")}
        case "input_image" if part.get("image_url"):
            return {"type": "image_url", "image_url": {"url": part["image_url"]}}
        case "input_file" if part.get("file_data"):
            file = {"filename": str(part.get("filename") or "file"), "file_data": part["file_data"]}
            return {"type": "file", "file": file}
        case kind:
            raise _cannot(f"Content of the type {str(kind)[:40]!r} that is stored elsewhere", where)


def _tool(tool: dict[str, Any], place: int) -> dict[str, Any]:
    if tool.get("type") != "function" or not isinstance(tool.get("name"), str):
        raise bad_request(
            "Only tools of the type `function` can be used here.",
            param=f"tools[{place}]",
            code="unsupported_parameter",
        )
    function = {name: tool[name] for name in ("name", "description", "parameters") if tool.get(name) is not None}
    return {"type": "function", "function": function}


def _add_choice(chat: dict[str, Any], choice: Any) -> None:
    if isinstance(choice, dict) and choice.get("type") == "function":
        chat["tool_choice"] = {"type": "function", "function": {"name": choice.get("name")}}
    elif isinstance(choice, str):
        chat["tool_choice"] = choice
    elif choice is not None:
        raise bad_request("This `tool_choice` can't be used here.", param="tool_choice", code="unsupported_parameter")


def _add_format(chat: dict[str, Any], text: Any) -> None:
    wanted = text.get("format") if isinstance(text, dict) else None
    if not isinstance(wanted, dict) or wanted.get("type") in (None, "text"):
        return
    if wanted["type"] == "json_schema":
        kept = {name: wanted[name] for name in ("name", "schema", "strict", "description") if name in wanted}
        chat["response_format"] = {"type": "json_schema", "json_schema": kept}
    else:
        chat["response_format"] = {"type": wanted["type"]}
