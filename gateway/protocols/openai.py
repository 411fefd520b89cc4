"""OpenAI's chat/completions, completions and embeddings: the few fields that we read; the rest is forwarded."""

from typing import Any

from gateway.errors import bad_request
from gateway.protocols.asked import (
    MOST_TOKENS,
    TOKENS_PER_IMAGE,
    TOKENS_PER_MESSAGE,
    Asked,
    bytes_of,
    flag,
    list_of_objects,
    model_of,
    number,
    only_data_url,
    only_own_media,
    size_beside,
    size_of,
    whole,
)

MOST_CHOICES = 16
MOST_INPUTS = 2048
TEXTS = ("text", "refusal")
ROLES = ("system", "developer", "user", "assistant", "tool", "function")


def check_chat(body: dict[str, Any]) -> Asked:
    """Check what we read of a chat/completions body; WireError 400 with `param` for the first thing that is wrong."""
    model = model_of(body)
    text_bytes, extra = _check_messages(body.get("messages"))
    choices, stream, include_usage = _common(body)
    _check_tools(body)
    _check_format(body.get("response_format"))
    return Asked(
        model=model,
        stream=stream,
        include_usage=include_usage,
        max_tokens=_bound(body),
        choices=choices,
        prompt_bytes=text_bytes + size_beside(body, "messages"),
        extra_tokens=extra,
        has_media=any(map(_has_media, body["messages"])),
    )


def check_completion(body: dict[str, Any]) -> Asked:
    """The legacy completions body: a prompt, or several."""
    model = model_of(body)
    prompt = body.get("prompt")
    if not isinstance(prompt, str | list) or not prompt:
        raise bad_request("`prompt` must be a text or a list.", param="prompt", code="invalid_type")
    choices, stream, include_usage = _common(body)
    several = len(prompt) if isinstance(prompt, list) and not isinstance(prompt[0], int) else 1
    if several > MOST_INPUTS:
        raise bad_request(f"`prompt` may hold at most {MOST_INPUTS} prompts.", param="prompt", code="invalid_value")
    best_of = whole(body, "best_of", 1, MOST_CHOICES) or 1
    return Asked(
        model=model,
        stream=stream,
        include_usage=include_usage,
        max_tokens=_bound(body),
        choices=max(choices, best_of) * several,
        prompt_bytes=(bytes_of(prompt) or size_of(prompt)) + size_beside(body, "prompt"),
        extra_tokens=TOKENS_PER_MESSAGE * several,
    )


def check_embedding(body: dict[str, Any]) -> Asked:
    model = model_of(body)
    given = body.get("input")
    if not isinstance(given, str | list) or not given:
        raise bad_request("`input` must be a text or a list of texts.", param="input", code="invalid_type")
    if isinstance(given, list) and len(given) > MOST_INPUTS and not isinstance(given[0], int):
        raise bad_request(f"`input` may hold at most {MOST_INPUTS} texts.", param="input", code="invalid_value")
    whole(body, "dimensions", 1, MOST_TOKENS)
    several = len(given) if isinstance(given, list) else 1
    size = (bytes_of(given) or size_of(given)) + size_beside(body, "input")
    return Asked(model=model, prompt_bytes=size, extra_tokens=TOKENS_PER_MESSAGE * several, has_output=False)


def _bound(body: dict[str, Any]) -> int | None:
    """The larger of both names: which one counts is the target's choice, also where only one of them is in its API."""
    limits = [whole(body, name, 1, MOST_TOKENS) for name in ("max_tokens", "max_completion_tokens")]
    return max((limit for limit in limits if limit), default=None)


def _common(body: dict[str, Any]) -> tuple[int, bool, bool]:
    """(choices, stream, does the client want the stream's usage)."""
    number(body, "temperature", 0, 2)
    number(body, "top_p", 0, 1)
    number(body, "presence_penalty", -2, 2)
    number(body, "frequency_penalty", -2, 2)
    choices = whole(body, "n", 1, MOST_CHOICES) or 1
    stream = flag(body, "stream")
    options = body.get("stream_options")
    if options is not None and not isinstance(options, dict):
        raise bad_request("`stream_options` must be an object.", param="stream_options", code="invalid_type")
    return choices, stream, stream and bool((options or {}).get("include_usage"))


def _check_messages(messages: Any) -> tuple[int, int]:
    """(bytes of text, tokens that messages and media add)."""
    if not isinstance(messages, list) or not messages:
        raise bad_request("`messages` must be a list of at least one message.", param="messages")
    size, extra = 0, 0
    for index, message in enumerate(messages):
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            raise bad_request("A message is an object with a `role`.", param=f"messages[{index}]", code="invalid_type")
        if message["role"] not in ROLES:
            raise bad_request(
                f"`role` must be one of {', '.join(ROLES)}.", param=f"messages[{index}].role", code="invalid_value"
            )
        extra += TOKENS_PER_MESSAGE
        content = message.get("content")
        if isinstance(content, str):
            size += bytes_of(content)
        elif isinstance(content, list):
            for place, part in enumerate(content):
                part_size, part_extra = _check_part(part, f"messages[{index}].content[{place}]")
                size, extra = size + part_size, extra + part_extra
        elif content is not None:
            raise bad_request("`content` is a text or a list.", param=f"messages[{index}].content", code="invalid_type")
        if "tool_calls" in message:
            _check_calls(message, f"messages[{index}].tool_calls")
        size += size_of({name: value for name, value in message.items() if name not in ("role", "content")})
    return size, extra


def _has_media(message: dict[str, Any]) -> bool:
    content = message.get("content")
    return isinstance(content, list) and any(part["type"] not in TEXTS for part in content)


def _check_tools(body: dict[str, Any]) -> None:
    """A function has a name; tools of other kinds are their provider's to judge."""
    for place, tool in enumerate(list_of_objects(body, "tools")):
        if tool.get("type", "function") == "function":
            _check_function(tool.get("function"), ("name",), f"tools[{place}].function")


def _check_calls(message: dict[str, Any], param: str) -> None:
    for place, call in enumerate(list_of_objects(message, "tool_calls")):
        if call.get("type", "function") == "function":
            _check_function(call.get("function"), ("name", "arguments"), f"{param}[{place}].function")


def _check_function(function: Any, names: tuple[str, ...], param: str) -> None:
    for name in names:
        if not isinstance(function, dict) or not isinstance(function.get(name), str):
            raise bad_request(
                f"A function is an object with a `{name}` that is a text.", param=f"{param}.{name}", code="invalid_type"
            )


def _check_format(wanted: Any) -> None:
    """An object; with `json_schema`, one that holds a schema as an object."""
    if wanted is None:
        return
    if not isinstance(wanted, dict) or not isinstance(wanted.get("type"), str):
        text = "`response_format` is an object with a `type`."
        raise bad_request(text, param="response_format", code="invalid_type")
    if wanted["type"] != "json_schema":
        return
    held = wanted.get("json_schema")
    if not isinstance(held, dict) or not isinstance(held.get("schema", {}), dict):
        text = "`json_schema` is an object with a `name` and a `schema` that is an object."
        raise bad_request(text, param="response_format.json_schema", code="invalid_type")


def _check_part(part: Any, param: str) -> tuple[int, int]:
    if not isinstance(part, dict) or not isinstance(part.get("type"), str):
        raise bad_request("A part of `content` is an object with a `type`.", param=param, code="invalid_type")
    if part["type"] in TEXTS:
        if not isinstance(part.get("text", part.get("refusal")), str):
            raise bad_request("A part of text has a `text`.", param=param, code="invalid_type")
        return bytes_of(part.get("text") or part.get("refusal")), 0
    media = part.get(part["type"])
    if part["type"] == "image_url":
        url = media.get("url") if isinstance(media, dict) else media
        if not isinstance(url, str):
            raise bad_request("A picture is an `image_url` with a `url`.", param=param, code="invalid_type")
        only_data_url(url, param)
    only_own_media({name: value for name, value in part.items() if name != "type"}, param)
    # A picture has a bound of its own; a document or a recording may be as many tokens as it is long.
    return 0, TOKENS_PER_IMAGE if part["type"] == "image_url" else max(TOKENS_PER_IMAGE, size_of(media) // 20)
