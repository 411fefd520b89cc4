"""A Messages body as a chat/completions body. What can't be said there is refused, with the field in `param`."""

from typing import Any

import orjson

from gateway.errors import bad_request

TAKEN = frozenset(
    {
        "model", "messages", "system", "max_tokens", "stop_sequences", "tools", "tool_choice", "metadata", "stream",
        "thinking", "output_config", "service_tier", "container", "context_management", "mcp_servers", "betas",
    }
)  # fmt: skip
# The last ones are no fields of a Messages body: they would ask the target for more than was reserved.
UNTRANSLATABLE = ("container", "context_management", "mcp_servers", "n", "best_of", "max_completion_tokens")
CHOICES = {"auto": "auto", "any": "required", "none": "none"}
# What only its own author can read again: it is left out of the history.
DROPPED = ("thinking", "redacted_thinking")


def chat_body(body: dict[str, Any]) -> dict[str, Any]:
    """The same request for an OpenAI-compatible API, without `model`."""
    for name in UNTRANSLATABLE:
        if body.get(name):
            raise _cannot(f"`{name}`", name)
    thinking = body.get("thinking")
    if isinstance(thinking, dict) and thinking.get("type") not in (None, "disabled"):
        raise _cannot("`thinking`", "thinking")
    chat = {name: value for name, value in body.items() if name not in TAKEN and value is not None}
    chat["messages"] = _messages(body)
    if "max_tokens" in body:
        chat["max_tokens"] = body["max_tokens"]
    if body.get("stop_sequences"):
        chat["stop"] = body["stop_sequences"]
    if isinstance(metadata := body.get("metadata"), dict) and metadata.get("user_id"):
        chat["user"] = metadata["user_id"]
    if body.get("stream"):
        chat["stream"] = True
    _add_tools(chat, body)
    _add_format(chat, body.get("output_config"))
    return chat


def _cannot(what: str, param: str) -> Exception:
    return bad_request(
        f"{what} can't be translated for this model, which speaks OpenAI's API. Leave it out.",
        param=param,
        code="unsupported_parameter",
    )


def _messages(body: dict[str, Any]) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = []
    if system := _text(body.get("system"), "system"):
        messages.append({"role": "system", "content": system})
    for index, message in enumerate(body["messages"]):
        where, content = f"messages.{index}.content", message["content"]
        if isinstance(content, str):
            messages.append({"role": message["role"], "content": content})
        elif message["role"] == "assistant":
            messages.append(_assistant(content, where))
        else:
            messages += _user(content, where)
    return messages


def _text(content: Any, where: str) -> str:
    if content is None or isinstance(content, str):
        return content or ""
    if any(block["type"] != "text" for block in content):
        raise _cannot("Media here", where)
    return "\n\n".join(str(block.get("text") or "") for block in content)


def _assistant(blocks: list[dict[str, Any]], where: str) -> dict[str, Any]:
    texts, calls = [], []
    for place, block in enumerate(blocks):
        match block["type"]:
            case "text":
                texts.append(str(block.get("text") or ""))
            case "tool_use":
                arguments = orjson.dumps(block.get("input") or {}).decode()
                function = {"name": str(block.get("name")), "arguments": arguments}
                calls.append({"id": str(block.get("id")), "type": "function", "function": function})
            case kind if kind not in DROPPED:
                raise _cannot(f"A block of the type {kind[:40]!r}", f"{where}.{place}")
    message: dict[str, Any] = {"role": "assistant", "content": "".join(texts) or None}
    if calls:
        message["tool_calls"] = calls
    elif message["content"] is None:
        message["content"] = ""
    return message


def _user(blocks: list[dict[str, Any]], where: str) -> list[dict[str, Any]]:
    """The answers of tools come first, each a message of its own; what the user says follows."""
    results, parts = [], []
    for place, block in enumerate(blocks):
        if block["type"] == "tool_result":
            results.append(
                {
                    "role": "tool",
                    "tool_call_id": str(block.get("tool_use_id")),
                    "content": _text(block.get("content"), f"{where}.{place}.content"),
                }
            )
        else:
            parts.append(_part(block, f"{where}.{place}"))
    if all(part["type"] == "text" for part in parts):
        text = "\n\n".join(part["text"] for part in parts)
        return [*results, {"role": "user", "content": text}] if parts else results
    return [*results, {"role": "user", "content": parts}]


def _part(block: dict[str, Any], where: str) -> dict[str, Any]:
    source = block.get("source")
    source = source if isinstance(source, dict) else {}
    match block["type"], source.get("type"):
        case "text", _:
            return {"type": "text", "text": str(block.get("text") or "")}
        case "image", "base64":
            return {"type": "image_url", "image_url": {"url": _data_url(source)}}
        case "document", "text":
            return {"type": "text", "text": str(source.get("data") or "")}
        case "document", "base64":
            name = str(block.get("title") or "document.pdf")
            return {"type": "file", "file": {"filename": name, "file_data": _data_url(source)}}
        case kind, _:
            raise _cannot(f"A block of the type {str(kind)[:40]!r} with this source", where)


def _data_url(source: dict[str, Any]) -> str:
    return f"data:{source.get('media_type')};base64,{source.get('data')}"


def _add_tools(chat: dict[str, Any], body: dict[str, Any]) -> None:
    tools = [_tool(tool, f"tools.{place}") for place, tool in enumerate(body.get("tools") or ())]
    if not tools:
        return
    chat["tools"] = tools
    choice = body.get("tool_choice")
    if not isinstance(choice, dict):
        return
    if choice.get("type") == "tool":
        chat["tool_choice"] = {"type": "function", "function": {"name": choice.get("name")}}
    elif choice.get("type") in CHOICES:
        chat["tool_choice"] = CHOICES[choice["type"]]
    else:
        raise _cannot("This `tool_choice`", "tool_choice")
    if choice.get("disable_parallel_tool_use"):
        chat["parallel_tool_calls"] = False


def _tool(tool: dict[str, Any], where: str) -> dict[str, Any]:
    if tool.get("type") not in (None, "custom") or not isinstance(tool.get("input_schema"), dict):
        raise _cannot("A tool that the provider runs itself", where)
    described = {"description": tool["description"]} if tool.get("description") else {}
    function = {"name": tool.get("name"), "parameters": tool["input_schema"], **described}
    return {"type": "function", "function": function}


def _add_format(chat: dict[str, Any], config: Any) -> None:
    wanted = config.get("format") if isinstance(config, dict) else None
    if isinstance(wanted, dict) and wanted.get("type") == "json_schema":
        schema = {"name": "answer", "schema": wanted.get("schema"), "strict": True}
        chat["response_format"] = {"type": "json_schema", "json_schema": schema}
