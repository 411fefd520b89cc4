"""Pictures, recordings and files: told from text on every wire, and refused where an engine is known to read none."""

from typing import Any

import pytest

from deployments.engines import ENGINES
from gateway.adapters.base import CHAT
from gateway.adapters.platform import PlatformAdapter
from gateway.errors import Next, WireError
from gateway.protocols import anthropic, openai, responses
from gateway.protocols.asked import check_media

PNG = "data:image/png;base64,iVBORw0KGgo="
TEXT = {"type": "text", "text": "What is it?"}
BASE64 = {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}


def _chat(*parts: Any) -> bool:
    return openai.check_chat({"model": "m", "messages": [{"role": "user", "content": list(parts)}]}).has_media


def _messages(*blocks: Any) -> bool:
    body = {"model": "m", "max_tokens": 1, "messages": [{"role": "user", "content": list(blocks)}]}
    return anthropic.check_messages(body).has_media


def test_media_is_told_from_text_on_every_wire() -> None:
    assert not _chat(TEXT)
    assert _chat(TEXT, {"type": "image_url", "image_url": {"url": PNG}})
    assert _chat({"type": "input_audio", "input_audio": {"data": "UklGRg==", "format": "wav"}})
    assert not _messages(TEXT, {"type": "document", "source": {"type": "text", "data": "a page"}})
    assert _messages({"type": "image", "source": BASE64})
    assert _messages({"type": "tool_result", "tool_use_id": "1", "content": [{"type": "image", "source": BASE64}]})
    item = {"role": "user", "content": [{"type": "input_image", "image_url": PNG}]}
    assert responses.check({"model": "m", "input": [item]}).has_media
    assert not responses.check({"model": "m", "input": "What is it?"}).has_media


def test_an_engine_that_reads_text_alone_is_asked_nothing_else() -> None:
    seen = openai.check_chat({"model": "m", "messages": [{"role": "user", "content": [TEXT]}]})
    check_media(seen, reads_media=ENGINES["llama_cpp"].reads_media, name="m")
    picture = {"type": "image_url", "image_url": {"url": PNG}}
    seen = openai.check_chat({"model": "m", "messages": [{"role": "user", "content": [picture]}]})
    check_media(seen, reads_media=ENGINES["vllm"].reads_media, name="m")
    with pytest.raises(WireError, match="m reads text alone") as refused:
        check_media(seen, reads_media=ENGINES["llama_cpp"].reads_media, name="m")
    assert (refused.value.status, refused.value.next) == (400, Next.ANOTHER_TARGET)


def test_an_own_deployment_takes_functions_alone() -> None:
    body = {"model": "m", "messages": [{"role": "user", "content": "x"}], "tools": [{"type": "web"}]}
    with pytest.raises(WireError, match="tools of the type `function` alone") as refused:
        PlatformAdapter().native_body(CHAT, body, max_tokens=1)
    assert (refused.value.status, refused.value.param) == (400, "tools[0].type")
