"""The gateway's routes in the OpenAPI schema: they are not Django's, so they are written down here."""

from typing import Any

_MESSAGES = {"type": "array", "minItems": 1, "items": {"type": "object"}}
_ERROR = {"description": 'OpenAI\'s error shape: {"error": {"message", "type", "param", "code"}}'}
_CHAT = {
    "type": "object",
    "required": ["model", "messages"],
    "additionalProperties": True,
    "properties": {
        "model": {"type": "string", "description": "As GET /v1/models lists it."},
        "messages": _MESSAGES,
        "max_tokens": {"type": "integer", "minimum": 1},
        "temperature": {"type": "number", "minimum": 0, "maximum": 2},
        "stream": {"type": "boolean"},
    },
}


def add_gateway_routes(result: dict[str, Any], **_: Any) -> dict[str, Any]:
    """drf-spectacular's postprocessing hook."""
    responses = {"200": {"description": "OpenAI's answer, or its events when `stream` is true."}, "default": _ERROR}
    result["paths"] |= {
        "/v1/chat/completions": {
            "post": {
                "operationId": "chat_completions",
                "tags": ["inference"],
                "requestBody": {"required": True, "content": {"application/json": {"schema": _CHAT}}},
                "responses": responses,
            }
        },
        "/v1/models": {
            "get": {"operationId": "models_callable", "tags": ["inference"], "responses": responses},
        },
        "/v1/models/{id}": {
            "get": {
                "operationId": "model_callable",
                "tags": ["inference"],
                "parameters": [{"name": "id", "in": "path", "required": True, "schema": {"type": "string"}}],
                "responses": responses,
            }
        },
    }
    return result
