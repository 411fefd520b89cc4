"""A chat/completions body as a Messages body. What can't be said there is refused, with the field in `param`."""

import re
from typing import Any

import orjson

from gateway.errors import bad_request

DATA_URL = re.compile(r"data:(?P<type>[\w.+-]+/[\w.+-]+);base64,(?P<data>.*)", re.DOTALL)
# Not to be said in a Messages body; `None`, False, 0 and [] ask for nothing and pass.
UNTRANSLATABLE = (
    "logprobs",
    "top_logprobs",
    "logit_bias",
    "seed",
    "audio",
    "prediction",
    "presence_penalty",
    "frequency_penalty",
    "web_search_options",
    "functions",
    "function_call",
    "reasoning_effort",
    "verbosity",
)
# Said otherwise below, or without meaning for another provider.
TAKEN = frozenset(
    {
        *UNTRANSLATABLE, "model", "messages", "max_tokens", "max_completion_tokens", "stop", "tools", "tool_choice",
        "parallel_tool_calls", "response_format", "stream", "stream_options", "n", "user", "store", "metadata",
        "modalities", "service_tier", "safety_identifier", "prompt_cache_key",
    }
)  # fmt: skip
JSON_TOOL = "answer_as_json"
CHOICES = {"auto": {"type": "auto"}, "none": {"type": "none"}, "required": {"type": "any"}}


def messages_body(chat: dict[str, Any], *, max_tokens: int) -> dict[str, Any]:
    """The same request for Anthropic's API, without `model`. `max_tokens` is sent where the client set none."""
    _refuse(chat)
    system, messages = _split(chat["messages"])
    body = {name: value for name, value in chat.items() if name not in TAKEN and value is not None}
    limits = [chat[name] for name in ("max_tokens", "max_completion_tokens") if chat.get(name)]
    body |= {"messages": messages, "max_tokens": min(limits, default=max_tokens)}
    if system:
        body["system"] = system
    if stop := chat.get("stop"):
        body["stop_sequences"] = [stop] if isinstance(stop, str) else stop
    if user := chat.get("user"):
        body["metadata"] = {"user_id": user}
    if chat.get("stream"):
        body["stream"] = True
    _add_tools(body, chat)
    return body


def asks_for_json(chat: dict[str, Any]) -> bool:
    """The answer is to be JSON: it comes as a forced tool's input and goes out as text."""
    wanted = chat.get("response_format")
    return isinstance(wanted, dict) and wanted.get("type") in ("json_schema", "json_object")


def _refuse(chat: dict[str, Any]) -> None:
    for name in UNTRANSLATABLE:
        if chat.get(name):
            raise _cannot(f"`{name}`", name)
    if (chat.get("n") or 1) > 1:
        raise _cannot("More than one choice (`n`)", "n")
    if (chat.get("temperature") or 0) > 1:
        raise bad_request(
            "This model's provider takes a temperature from 0 to 1.", param="temperature", code="invalid_value"
        )
    if set(chat.get("modalities") or ["text"]) - {"text"}:
        raise _cannot("Output other than text", "modalities")


def _cannot(what: str, param: str) -> Exception:
    return bad_request(
        f"{what} can't be translated for this model's provider, which speaks Anthropic's API. Leave it out.",
        param=param,
        code="unsupported_parameter",
    )


def _split(messages: list[dict[str, Any]]) -> tuple[str, list[dict[str, Any]]]:
    """(system text, messages). System texts go to the top; answers of tools that follow each other become one turn."""
    system: list[str] = []
    turns: list[dict[str, Any]] = []
    for index, message in enumerate(messages):
        where = f"messages[{index}]"
        match message["role"]:
            case "system" | "developer":
                system.append(_text(message.get("content"), where))
            case "assistant":
                _append(turns, "assistant", _assistant(message, where))
            case "tool":
                _append(turns, "user", [_tool_result(message, where)])
            case "user":
                _append(turns, "user", _blocks(message.get("content"), where))
            case role:
                raise _cannot(f"A message of the role {role!r}", f"{where}.role")
    if not turns:
        raise bad_request("`messages` must hold a message of the user.", param="messages")
    return "\n\n".join(text for text in system if text), turns


def _append(turns: list[dict[str, Any]], role: str, blocks: list[dict[str, Any]]) -> None:
    """Turns alternate there: what follows in the same role joins it."""
    if not blocks:
        return
    if turns and turns[-1]["role"] == role:
        turns[-1]["content"] += blocks
    else:
        turns.append({"role": role, "content": blocks})


def _text(content: Any, where: str) -> str:
    if content is None or isinstance(content, str):
        return content or ""
    if any(part.get("type") not in ("text", "refusal") for part in content):
        raise _cannot("Media in this message", f"{where}.content")
    return "".join(str(part.get("text") or part.get("refusal") or "") for part in content)


def _assistant(message: dict[str, Any], where: str) -> list[dict[str, Any]]:
    text = _text(message.get("content"), where).rstrip()
    blocks: list[dict[str, Any]] = [{"type": "text", "text": text}] if text else []
    for place, call in enumerate(message.get("tool_calls") or ()):
        function = call.get("function")
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise _cannot("A tool call that is no function", f"{where}.tool_calls[{place}]")
        given = _object(function.get("arguments"), f"{where}.tool_calls[{place}].function.arguments")
        blocks.append({"type": "tool_use", "id": str(call.get("id")), "name": function["name"], "input": given})
    return blocks


def _object(arguments: Any, param: str) -> dict[str, Any]:
    try:
        given = orjson.loads(arguments or "{}")
    except (orjson.JSONDecodeError, TypeError) as error:
        raise bad_request("A tool call's arguments must be JSON.", param=param, code="invalid_json") from error
    return given if isinstance(given, dict) else {"value": given}


def _tool_result(message: dict[str, Any], where: str) -> dict[str, Any]:
    content = message.get("content")
    blocks = content if isinstance(content, str) else _blocks(content, where)
    return {"type": "tool_result", "tool_use_id": str(message.get("tool_call_id")), "content": blocks or ""}


def _blocks(content: Any, where: str) -> list[dict[str, Any]]:
    if content is None or isinstance(content, str):
        return [{"type": "text", "text": content}] if content else []
    return [
        block
        for place, part in enumerate(content)
        if (block := _block(part, f"{where}.content[{place}]")).get("text") != ""
    ]


def _block(part: dict[str, Any], where: str) -> dict[str, Any]:
    match part["type"]:
        case "text":
            kept = {"cache_control": part["cache_control"]} if part.get("cache_control") else {}
            return {"type": "text", "text": str(part.get("text") or ""), **kept}
        case "image_url":
            image = part.get("image_url")
            url = image.get("url") if isinstance(image, dict) else image
            return {"type": "image", "source": _base64(url, where)}
        case "file":
            file = part.get("file")
            data = file.get("file_data") if isinstance(file, dict) else None
            return {"type": "document", "source": _base64(data, where)}
        case kind:
            raise _cannot(f"Content of the type {str(kind)[:40]!r}", where)


def _base64(url: Any, where: str) -> dict[str, str]:
    found = DATA_URL.fullmatch(url) if isinstance(url, str) else None
    if found is None:
        raise bad_request("Media is taken as data: URLs in base64 only.", param=where, code="invalid_url")
    return {"type": "base64", "media_type": found["type"], "data": found["data"]}


def _add_tools(body: dict[str, Any], chat: dict[str, Any]) -> None:
    tools = [_tool(tool, f"tools[{place}]") for place, tool in enumerate(chat.get("tools") or ())]
    choice = _choice(chat.get("tool_choice")) if tools else None
    if asks_for_json(chat):
        tools.append(_json_tool(chat["response_format"]))
        may_call_others = len(tools) > 1 and (choice or {}).get("type") != "none"
        if not may_call_others:
            choice = {"type": "tool", "name": JSON_TOOL}
        elif (choice or {}).get("type") != "tool":
            choice = {"type": "any"}
    if chat.get("parallel_tool_calls") is False and tools and (choice or {}).get("type") != "none":
        choice = (choice or {"type": "auto"}) | {"disable_parallel_tool_use": True}
    if tools:
        body["tools"] = tools
    if choice:
        body["tool_choice"] = choice


def _tool(tool: dict[str, Any], where: str) -> dict[str, Any]:
    function = tool.get("function")
    if tool.get("type") != "function" or not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise _cannot("A tool that is no function", where)
    schema = function.get("parameters") or {"type": "object", "properties": {}}
    described = {"description": function["description"]} if function.get("description") else {}
    return {"name": function["name"], "input_schema": schema, **described}


def _choice(choice: Any) -> dict[str, Any] | None:
    if isinstance(choice, dict) and isinstance(choice.get("function"), dict):
        return {"type": "tool", "name": choice["function"].get("name")}
    if choice is not None and (not isinstance(choice, str) or choice not in CHOICES):
        raise _cannot("This `tool_choice`", "tool_choice")
    return dict(CHOICES[choice]) if choice else None


def _json_tool(wanted: dict[str, Any]) -> dict[str, Any]:
    described = wanted.get("json_schema")
    schema = described.get("schema") if isinstance(described, dict) else None
    return {
        "name": JSON_TOOL,
        "description": "Give the whole answer to the user as this tool's input.",
        "input_schema": schema or {"type": "object"},
    }
