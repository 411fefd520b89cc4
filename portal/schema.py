"""The gateway's routes and an upload's PATCH in the OpenAPI schema: they are not Django's, so they stand here."""

from typing import Any

_NAME = {"type": "string", "description": "As GET /v1/models lists it."}
_MESSAGES = {"type": "array", "minItems": 1, "items": {"type": "object"}}
_TOKENS = {"type": "integer", "minimum": 1, "maximum": 10_000_000}
_OPENAI_ERROR = {"description": 'OpenAI\'s error shape: {"error": {"message", "type", "param", "code"}}'}
_ANTHROPIC_ERROR = {"description": 'Anthropic\'s: {"type": "error", "error": {"type", "message"}, "request_id"}'}
_COMMON = {
    "temperature": {"type": "number", "minimum": 0, "maximum": 2},
    "top_p": {"type": "number", "minimum": 0, "maximum": 1},
    "stream": {"type": "boolean"},
}
_TEXTS = {"oneOf": [{"type": "string"}, {"type": "array", "minItems": 1, "items": {"type": "string"}}]}
_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "schema": {"type": "string", "maxLength": 255},
    "description": "The same key and body get the stored answer for a day, and nothing more is billed.",
}
_HOLD = {
    "name": "x-modelport-hold-s",
    "in": "header",
    "schema": {"type": "integer", "minimum": 0, "maximum": 600},
    "description": "How long this call will wait for a deployment that sleeps.",
}


def _body(required: dict[str, Any], **optional: Any) -> dict[str, Any]:
    """What we read of a body; the rest is forwarded to the target."""
    return {
        "type": "object",
        "required": ["model", *required],
        "additionalProperties": True,
        "properties": {"model": _NAME, **required, **optional},
    }


_POSTS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "/v1/chat/completions": (
        "chat_completions",
        "OpenAI's chat.completion, or its chunks as events when `stream` is true.",
        _body({"messages": _MESSAGES}, max_tokens=_TOKENS, max_completion_tokens=_TOKENS, **_COMMON),
    ),
    "/v1/completions": (
        "completions",
        "OpenAI's text_completion, or its events.",
        _body({"prompt": _TEXTS}, max_tokens=_TOKENS, **_COMMON),
    ),
    "/v1/embeddings": ("embeddings", "OpenAI's list of embeddings.", _body({"input": _TEXTS})),
    "/v1/responses": (
        "responses",
        "OpenAI's response, or its named events. Nothing is stored: a conversation is sent whole, as input items.",
        _body({"input": {"oneOf": [{"type": "string"}, _MESSAGES]}}, max_output_tokens=_TOKENS, **_COMMON),
    ),
    "/v1/messages": (
        "messages",
        "Anthropic's message, or its named events.",
        _body({"messages": _MESSAGES, "max_tokens": _TOKENS}, **_COMMON),
    ),
    "/v1/messages/count_tokens": (
        "count_tokens",
        "{input_tokens}, from targets that can count.",
        _body({"messages": _MESSAGES}),
    ),
}


_CHUNK = {
    "operationId": "upload_append",
    "tags": ["v1"],
    "description": "Send the next bytes (tus 1.0). 409: another offset; 423: another request writes; 460: checksum.",
    "parameters": [
        {"name": "id", "in": "path", "required": True, "schema": {"type": "string", "format": "uuid"}},
        {"name": "Tus-Resumable", "in": "header", "required": True, "schema": {"type": "string", "enum": ["1.0.0"]}},
        {"name": "Upload-Offset", "in": "header", "required": True, "schema": {"type": "integer", "minimum": 0}},
        {"name": "Upload-Checksum", "in": "header", "schema": {"type": "string"}},
    ],
    "requestBody": {
        "required": True,
        "content": {"application/offset+octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    },
    "responses": {
        "204": {"description": "The new offset, durable, in `Upload-Offset`."},
        "default": {"description": "RFC 9457 problem details."},
    },
}


def add_gateway_routes(result: dict[str, Any], **_: Any) -> dict[str, Any]:
    """drf-spectacular's postprocessing hook."""
    result["paths"]["/api/v1/weights/uploads/{id}"]["patch"] = _CHUNK
    for path, (name, answer, body) in _POSTS.items():
        error = _ANTHROPIC_ERROR if path.startswith("/v1/messages") else _OPENAI_ERROR
        result["paths"][path] = {
            "post": {
                "operationId": name,
                "tags": ["inference"],
                "parameters": [_KEY, _HOLD],
                "requestBody": {"required": True, "content": {"application/json": {"schema": body}}},
                "responses": {"200": {"description": answer}, "default": error},
            }
        }
    listed = {"200": {"description": "Models by name, with the path that each takes."}, "default": _OPENAI_ERROR}
    result["paths"] |= {
        "/v1/models": {"get": {"operationId": "models_callable", "tags": ["inference"], "responses": listed}},
        "/v1/models/{id}": {
            "get": {
                "operationId": "model_callable",
                "tags": ["inference"],
                "parameters": [{"name": "id", "in": "path", "required": True, "schema": {"type": "string"}}],
                "responses": listed,
            }
        },
    }
    return result
