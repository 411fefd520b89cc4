"""GET /v1/models and /v1/models/{id}, in the words of either API."""

from datetime import UTC, datetime
from typing import Any

import orjson

from gateway.attempt import Answer
from gateway.auth import Caller
from gateway.errors import model_not_found
from gateway.runtime import Runtime

LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC).isoformat()


async def all_models(runtime: Runtime, caller: Caller, *, is_anthropic: bool) -> Answer:
    models = await runtime.router.models(caller)
    if not is_anthropic:
        return _json({"object": "list", "data": models})
    data = [_in_anthropics_words(model) for model in models]
    ends = {"first_id": data[0]["id"] if data else None, "last_id": data[-1]["id"] if data else None}
    return _json({"data": data, "has_more": False, **ends})


async def one_model(runtime: Runtime, caller: Caller, name: str, *, is_anthropic: bool) -> Answer:
    for model in await runtime.router.models(caller):
        if model["id"] == name:
            return _json(_in_anthropics_words(model) if is_anthropic else model)
    raise model_not_found(name)


def _in_anthropics_words(model: dict[str, Any]) -> dict[str, Any]:
    return {"type": "model", "id": model["id"], "display_name": model["id"], "created_at": LONG_AGO}


def _json(body: dict[str, Any]) -> Answer:
    return Answer(body=orjson.dumps(body))
