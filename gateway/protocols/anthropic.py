"""Anthropic's messages and count_tokens: the few fields that we read; the rest is forwarded untouched."""

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
    only_own_media,
    size_beside,
    size_of,
    whole,
)

VERSION = "2023-06-01"
MEDIA = ("image", "document")


def check_messages(body: dict[str, Any]) -> Asked:
    """Check what we read of a /v1/messages body; WireError 400 for the first thing that is wrong."""
    max_tokens = whole(body, "max_tokens", 1, MOST_TOKENS)
    if max_tokens is None:
        model_of(body)
        raise bad_request("`max_tokens` is missing: how many tokens the answer may have.", param="max_tokens")
    number(body, "temperature", 0, 2)
    number(body, "top_p", 0, 1)
    return _asked(body, max_tokens=max_tokens, stream=flag(body, "stream"))


def check_count(body: dict[str, Any]) -> Asked:
    return _asked(body, max_tokens=None, stream=False)


def _asked(body: dict[str, Any], *, max_tokens: int | None, stream: bool) -> Asked:
    model = model_of(body)
    size, extra = _check_system(body.get("system"))
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise bad_request("`messages` must be a list of at least one message.", param="messages")
    for index, message in enumerate(messages):
        if not isinstance(message, dict) or message.get("role") not in ("user", "assistant"):
            raise bad_request(
                "A message is an object with the `role` user or assistant; system text goes into `system`.",
                param=f"messages.{index}.role",
            )
        part_size, part_extra = _check_content(message.get("content"), f"messages.{index}.content")
        size, extra = size + part_size, extra + part_extra + TOKENS_PER_MESSAGE
    list_of_objects(body, "tools")
    size += size_beside(body, "messages", "system")
    has_media = any(_has_media(message.get("content")) for message in messages)
    return Asked(
        model=model, stream=stream, max_tokens=max_tokens, prompt_bytes=size, extra_tokens=extra, has_media=has_media
    )


def _check_system(system: Any) -> tuple[int, int]:
    if system is None or isinstance(system, str):
        return bytes_of(system), 0
    return _check_content(system, "system")


def _check_content(content: Any, param: str) -> tuple[int, int]:
    """(bytes of text, tokens that media adds)."""
    if isinstance(content, str):
        return bytes_of(content), 0
    if not isinstance(content, list):
        raise bad_request("`content` is a text or a list of blocks.", param=param)
    size, extra = 0, 0
    for place, block in enumerate(content):
        if not isinstance(block, dict) or not isinstance(block.get("type"), str):
            raise bad_request("A block of `content` is an object with a `type`.", param=f"{param}.{place}")
        block_size, block_extra = _check_block(block, f"{param}.{place}")
        size, extra = size + block_size, extra + block_extra
    return size, extra


def _has_media(content: Any) -> bool:
    """Also in what a tool gave back; a document may be plain text."""
    return isinstance(content, list) and any(
        (block["type"] in MEDIA and not _is_text(block.get("source")))
        or (block["type"] == "tool_result" and _has_media(block.get("content")))
        for block in content
    )


def _is_text(source: Any) -> bool:
    return isinstance(source, dict) and source.get("type") == "text"


def _check_block(block: dict[str, Any], param: str) -> tuple[int, int]:
    if block["type"] in MEDIA:
        source = block.get("source")
        only_own_media({"source": source} if not _is_text(source) else None, f"{param}.source")
        if isinstance(source, dict) and source.get("type") == "url":
            raise bad_request("Media is taken as base64 only, not by URL.", param=f"{param}.source", code="invalid_url")
        text = source.get("data") if isinstance(source, dict) and source.get("type") == "text" else None
        pages = size_of(source) // 20 if block["type"] == "document" and text is None else 0
        return bytes_of(text), max(TOKENS_PER_IMAGE, pages)
    if block["type"] == "tool_result" and block.get("content") is not None:
        return _check_content(block["content"], f"{param}.content")
    if block["type"] == "text":
        return bytes_of(block.get("text")), 0
    return size_of(block), 0
