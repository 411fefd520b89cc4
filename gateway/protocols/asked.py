"""What every wire's check gives, and the checks that they share."""

import contextlib
import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import orjson

from gateway.errors import Next, WireError, bad_request

log = logging.getLogger(__name__)

# The last ones would override what a budget counts on: at an engine max_tokens and n, at a router of models the model.
REFUSED = ("api_base", "api_key", "base_url", "extra_headers", "n_predict", "n_cmpl", "models", "fallbacks")
# Priced beyond tokens, and nothing here meters them.
UNPRICED = ("web_search_options", "plugins")
UNPRICED_TOOLS = ("web_search", "web_fetch", "code_execution", "code_interpreter", "file_search", "computer", "mcp")
TIERS = (None, "auto", "default", "standard_only")
# Anthropic asks a tenth more for others: https://platform.claude.com/docs/en/build-with-claude/data-residency
PLACES = (None, "global")
# Never part of a prompt. What is in neither list may be: some target writes it there.
BESIDE_THE_PROMPT = frozenset(
    {
        "model", "stream_options", "metadata", "user", "stop", "stop_sequences", "tool_choice", "service_tier",
        "reasoning_effort", "safety_identifier", "prompt_cache_key", "logit_bias", "encoding_format",
    }
)  # fmt: skip
# Levels of lists and objects that JSON can be written with here.
DEEPEST = 200
# Looking at each takes time that all callers of a process share; braces in texts count too.
MOST_OBJECTS = 100_000
MEDIA_DEPTH = 8
# As those who fetch read one: blanks and control characters before it, tabs and line breaks inside, are left out. "//"
# begins none that has a scheme, and every MP3 in base64.
SCHEMES = "|".join(r"[\t\r\n]*".join(scheme) for scheme in ("http:", "https:", "file:", "ftp:"))
ADDRESS = re.compile(rf"[\s\0-\x20]*(?:{SCHEMES})", re.IGNORECASE)
MOST_TOKENS = 10_000_000
TOKENS_PER_IMAGE = 2000
TOKENS_PER_MESSAGE = 8
# What a model's template or its provider puts before a prompt: SmolLM2 23 tokens, gpt-oss 70, Claude with tools 350.
TOKENS_OF_A_TEMPLATE = 512
BYTES_PER_TOKEN = 4


@dataclass(frozen=True, slots=True)
class Asked:
    """What was asked for. `prompt_bytes` bounds the prompt's tokens; `max_tokens` None: the client set no limit.
    `has_output` is False where nothing is generated (embeddings); `has_media`: a prompt is not text alone."""

    model: str
    stream: bool = False
    include_usage: bool = False
    max_tokens: int | None = None
    choices: int = 1
    prompt_bytes: int = 0
    extra_tokens: int = 0
    has_output: bool = True
    has_media: bool = False

    @property
    def prompt_tokens(self) -> int:
        """An estimate: four bytes a token, and what each message and image adds."""
        return self.prompt_bytes // BYTES_PER_TOKEN + self.extra_tokens

    @property
    def most_prompt_tokens(self) -> int:
        """No tokenizer makes more tokens than there are bytes; a template adds a text of its own."""
        return self.prompt_bytes + self.extra_tokens + (TOKENS_OF_A_TEMPLATE if self.has_output else 0)


def parse(raw: bytes) -> dict[str, Any]:
    """The body as an object, or 400."""
    if (count := raw.count(b"{")) > MOST_OBJECTS:
        raise bad_request(f"The body has {count:,} objects; {MOST_OBJECTS:,} is the most.", code="request_too_large")
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise bad_request(f"The body is not valid JSON: {error}", code="invalid_json") from error
    if not isinstance(body, dict):
        raise bad_request("The body must be a JSON object.", code="invalid_json")
    if raw.count(b"[") + count > DEEPEST:
        try:
            orjson.dumps(body)  # what could be read but not be sent on
        except TypeError as error:
            raise bad_request(f"The body nests deeper than {DEEPEST} levels.", code="invalid_json") from error
    return body


def model_of(body: dict[str, Any]) -> str:
    """The model's name; 400 for fields that callers may not set, and for a name that is none."""
    for name in REFUSED:
        if name in body:
            raise bad_request(f"`{name}` is not taken from callers.", param=name, code="unsupported_parameter")
    for name in UNPRICED:
        if body.get(name):
            raise bad_request(
                f"`{name}` is billed beyond tokens, which this portal can't meter.",
                param=name,
                code="unsupported_parameter",
            )
    if body.get("service_tier") not in TIERS:
        raise bad_request("Only the default tier has a price here.", param="service_tier", code="unsupported_parameter")
    if body.get("inference_geo") not in PLACES:
        raise bad_request(
            "Only the default place has a price here.", param="inference_geo", code="unsupported_parameter"
        )
    for place, tool in enumerate(body["tools"] if isinstance(body.get("tools"), list) else ()):
        if isinstance(tool, dict) and str(tool.get("type")).startswith(UNPRICED_TOOLS):
            raise bad_request(
                f"A tool of the type {str(tool['type'])[:60]} is run, and billed, by the provider beyond tokens, which"
                " this portal can't meter.",
                param=f"tools[{place}].type",
                code="unsupported_parameter",
            )
    model = body.get("model")
    if not isinstance(model, str) or not model:
        raise bad_request("`model` is missing: the name of a model as GET /v1/models lists it.", param="model")
    return model


def whole(body: dict[str, Any], name: str, least: int, most: int) -> int | None:
    value = body.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int):
        raise bad_request(f"`{name}` must be a whole number.", param=name, code="invalid_type")
    if not least <= value <= most:
        raise bad_request(f"`{name}` must be from {least} to {most}.", param=name, code="invalid_value")
    return value


def number(body: dict[str, Any], name: str, least: float, most: float) -> None:
    value = body.get(name)
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise bad_request(f"`{name}` must be a number.", param=name, code="invalid_type")
    if not least <= value <= most:
        raise bad_request(f"`{name}` must be from {least} to {most}.", param=name, code="invalid_value")


def flag(body: dict[str, Any], name: str) -> bool:
    value = body.get(name)
    if value is not None and not isinstance(value, bool):
        raise bad_request(f"`{name}` must be true or false.", param=name, code="invalid_type")
    return bool(value)


def list_of_objects(body: dict[str, Any], name: str) -> list[dict[str, Any]]:
    value = body.get(name)
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise bad_request(f"`{name}` must be a list of objects.", param=name, code="invalid_type")
    return value


def bytes_of(text: Any) -> int:
    return len(text.encode(errors="replace")) if isinstance(text, str) else 0


def size_of(value: Any) -> int:
    """The bytes of a value as JSON: what a prompt that holds it can at most be long."""
    return len(orjson.dumps(value)) if value else 0


def size_beside(body: dict[str, Any], *measured: str) -> int:
    """The bytes of all that may stand in the prompt beside the fields that were measured: tools, schemas, and what is
    only forwarded (a chat's `system`, `documents`, `prediction` ...)."""
    return sum(
        size_of(value)
        for name, value in body.items()
        if isinstance(value, str | list | dict) and name not in measured and name not in BESIDE_THE_PROMPT
    )


def only_data_url(url: Any, param: str) -> None:
    """Media comes with the request: the portal and its engines fetch nothing that callers point to."""
    if isinstance(url, str) and not url.startswith("data:"):
        raise bad_request("Media is taken as data: URLs only.", param=param, code="invalid_url")


def only_own_media(value: Any, param: str, depth: int = 0) -> None:
    """No address anywhere in a piece of media: whoever serves the model would fetch it, from inside its network."""
    match value:
        case str() if ADDRESS.match(value):
            raise bad_request("Media is taken with the request itself (data: URLs, base64), not by address.",
                              param=param, code="invalid_url")  # fmt: skip
        case dict() if depth < MEDIA_DEPTH:
            for inner in value.values():
                only_own_media(inner, param, depth + 1)
        case list() if depth < MEDIA_DEPTH:
            for inner in value:
                only_own_media(inner, param, depth + 1)
        case dict() | list():
            raise bad_request("This piece of media nests too deep.", param=param, code="invalid_type")


def context_exceeded(tokens: int, context_tokens: int, *, param: str = "messages") -> Any:
    return bad_request(
        f"This model's maximum context length is {context_tokens} tokens. However, your messages and max_tokens "
        f"ask for {tokens} tokens. Shorten the messages or lower max_tokens.",
        param=param,
        code="context_length_exceeded",
    )


@contextlib.contextmanager
def understood() -> Iterator[None]:
    """Around whatever takes a client's body apart: a shape that nobody thought of is its sender's mistake, 400."""
    try:
        yield
    except (AttributeError, IndexError, KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
        log.warning("a body that could not be understood", exc_info=True)
        raise bad_request("The body has a field of a kind that is not expected there.", code="invalid_type") from error


def check_media(asked: Asked, *, reads_media: bool, name: str) -> None:
    """Refuse pictures, recordings and files where the engine is known to read none: it would fail on them. Behind an
    alias another target may read them."""
    if asked.has_media and not reads_media:
        text = f"{name} reads text alone: its engine takes no pictures, recordings or files."
        raise WireError(400, text, param="messages", code="unsupported_media", next=Next.ANOTHER_TARGET)


def check_context(asked: Asked, context_tokens: int | None) -> None:
    """Refuse what can't fit even if every token were as long as they come: 400 with both numbers."""
    wanted = asked.max_tokens or 0
    if context_tokens and wanted > context_tokens:
        raise context_exceeded(asked.prompt_tokens + wanted, context_tokens)
