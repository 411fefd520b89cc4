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
    list_of_objects(body, "tools")
    return Asked(
        model=model,
        stream=stream,
        include_usage=include_usage,
        max_tokens=_bound(body),
        choices=choices,
        prompt_bytes=text_bytes + size_beside(body, "messages"),
        extra_tokens=extra,
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
            list_of_objects(message, "tool_calls")
        size += size_of({name: value for name, value in message.items() if name not in ("role", "content")})
    return size, extra


def _check_part(part: Any, param: str) -> tuple[int, int]:
    if not isinstance(part, dict) or not isinstance(part.get("type"), str):
        raise bad_request("A part of `content` is an object with a `type`.", param=param, code="invalid_type")
    if part["type"] in TEXTS:
        return bytes_of(part.get("text") or part.get("refusal")), 0
    media = part.get(part["type"])
    if part["type"] == "image_url":
        only_data_url(media.get("url") if isinstance(media, dict) else media, param)
    only_own_media({name: value for name, value in part.items() if name != "type"}, param)
    # A picture has a bound of its own; a document or a recording may be as many tokens as it is long.
    return 0, TOKENS_PER_IMAGE if part["type"] == "image_url" else max(TOKENS_PER_IMAGE, size_of(media) // 20)
