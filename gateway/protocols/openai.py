"""OpenAI's chat/completions: the few fields that we read and check; the rest is forwarded untouched."""

from dataclasses import dataclass
from typing import Any

import orjson

from gateway.errors import WireError, bad_request

REFUSED = ("api_base", "api_key", "base_url", "extra_headers")
MOST_TOKENS = 10_000_000
MOST_CHOICES = 16
TOKENS_PER_IMAGE = 2000
TOKENS_PER_MESSAGE = 8
BYTES_PER_TOKEN = 4
MEDIA = {"image_url": "url", "input_audio": "url", "video_url": "url", "file": "url"}


@dataclass(frozen=True, slots=True)
class Asked:
    """What was asked for. `prompt_bytes` bounds the prompt's tokens; `max_tokens` None: the client set no limit."""

    model: str
    stream: bool
    include_usage: bool
    max_tokens: int | None
    choices: int
    prompt_bytes: int
    extra_tokens: int

    @property
    def prompt_tokens(self) -> int:
        """An estimate: four bytes a token, and what each message and image adds."""
        return self.prompt_bytes // BYTES_PER_TOKEN + self.extra_tokens

    @property
    def most_prompt_tokens(self) -> int:
        """No tokenizer makes more tokens than there are bytes."""
        return self.prompt_bytes + self.extra_tokens


def parse(raw: bytes) -> dict[str, Any]:
    """The body as an object, or 400."""
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise bad_request(f"The body is not valid JSON: {error}", code="invalid_json") from error
    if not isinstance(body, dict):
        raise bad_request("The body must be a JSON object.", code="invalid_json")
    return body


def check(body: dict[str, Any]) -> Asked:
    """Check what we read of a chat/completions body; WireError 400 with `param` for the first thing that is wrong."""
    for name in REFUSED:
        if name in body:
            raise bad_request(f"`{name}` is not taken from callers.", param=name, code="unsupported_parameter")
    model = body.get("model")
    if not isinstance(model, str) or not model:
        raise bad_request("`model` is missing: the name of a model as GET /v1/models lists it.", param="model")
    text_bytes, extra = _check_messages(body.get("messages"))
    limits = [_whole(body, name, 1, MOST_TOKENS) for name in ("max_tokens", "max_completion_tokens")]
    _number(body, "temperature", 0, 2)
    _number(body, "top_p", 0, 1)
    choices = _whole(body, "n", 1, MOST_CHOICES) or 1
    stream = _flag(body, "stream")
    options = body.get("stream_options")
    if options is not None and not isinstance(options, dict):
        raise bad_request("`stream_options` must be an object.", param="stream_options", code="invalid_type")
    return Asked(
        model=model,
        stream=stream,
        include_usage=stream and bool((options or {}).get("include_usage")),
        max_tokens=min((limit for limit in limits if limit), default=None),
        choices=choices,
        prompt_bytes=text_bytes + len(orjson.dumps(body["tools"])) if "tools" in body else text_bytes,
        extra_tokens=extra,
    )


def check_context(asked: Asked, context_tokens: int | None) -> None:
    """Refuse what can't fit even if every token were as long as they come: 400 with both numbers."""
    wanted = asked.max_tokens or 0
    if context_tokens and wanted > context_tokens:
        raise context_exceeded(asked.prompt_tokens + wanted, context_tokens)


def context_exceeded(tokens: int, context_tokens: int) -> WireError:
    return bad_request(
        f"This model's maximum context length is {context_tokens} tokens. However, your messages and max_tokens "
        f"ask for {tokens} tokens. Shorten the messages or lower max_tokens.",
        param="messages",
        code="context_length_exceeded",
    )


def for_upstream(body: dict[str, Any], model: str) -> bytes:
    """The same body with the target's own name for the model; a stream always reports its usage."""
    sent = body | {"model": model}
    if body.get("stream"):
        sent["stream_options"] = (body.get("stream_options") or {}) | {"include_usage": True}
    return orjson.dumps(sent)


def _check_messages(messages: Any) -> tuple[int, int]:
    """(bytes of text, tokens that messages and media add)."""
    if not isinstance(messages, list) or not messages:
        raise bad_request("`messages` must be a list of at least one message.", param="messages")
    size, extra = 0, 0
    for index, message in enumerate(messages):
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            raise bad_request("A message is an object with a `role`.", param=f"messages[{index}]", code="invalid_type")
        extra += TOKENS_PER_MESSAGE
        content = message.get("content")
        if isinstance(content, str):
            size += len(content.encode(errors="replace"))
        elif isinstance(content, list):
            for number, part in enumerate(content):
                part_size, part_extra = _check_part(part, f"messages[{index}].content[{number}]")
                size, extra = size + part_size, extra + part_extra
        elif content is not None:
            raise bad_request("`content` is a text or a list.", param=f"messages[{index}].content", code="invalid_type")
        if "tool_calls" in message:
            size += len(orjson.dumps(message["tool_calls"]))
    return size, extra


def _check_part(part: Any, param: str) -> tuple[int, int]:
    if not isinstance(part, dict) or not isinstance(part.get("type"), str):
        raise bad_request("A part of `content` is an object with a `type`.", param=param, code="invalid_type")
    if part["type"] in MEDIA:
        media = part.get(part["type"])
        url = media.get("url") if isinstance(media, dict) else media
        if isinstance(url, str) and not url.startswith("data:"):
            raise bad_request("Media is taken as data: URLs only.", param=param, code="invalid_url")
        return 0, TOKENS_PER_IMAGE
    text = part.get("text")
    return (len(text.encode(errors="replace")) if isinstance(text, str) else 0), 0


def _whole(body: dict[str, Any], name: str, least: int, most: int) -> int | None:
    value = body.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int):
        raise bad_request(f"`{name}` must be a whole number.", param=name, code="invalid_type")
    if not least <= value <= most:
        raise bad_request(f"`{name}` must be from {least} to {most}.", param=name, code="invalid_value")
    return value


def _number(body: dict[str, Any], name: str, least: float, most: float) -> None:
    value = body.get(name)
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise bad_request(f"`{name}` must be a number.", param=name, code="invalid_type")
    if not least <= value <= most:
        raise bad_request(f"`{name}` must be from {least} to {most}.", param=name, code="invalid_value")


def _flag(body: dict[str, Any], name: str) -> bool:
    value = body.get(name)
    if value is not None and not isinstance(value, bool):
        raise bad_request(f"`{name}` must be true or false.", param=name, code="invalid_type")
    return bool(value)
