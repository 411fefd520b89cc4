"""POST /v1/messages/count_tokens: asked of the target, where it can count. Nothing is generated, nothing is billed."""

from typing import Any
from uuid import uuid4

import orjson

from gateway.adapters import ADAPTERS
from gateway.adapters.base import COUNT_TOKENS, PATHS
from gateway.attempt import Answer
from gateway.auth import Caller
from gateway.errors import Next, WireError, bad_request, upstream_failed
from gateway.protocols import anthropic
from gateway.protocols.asked import understood
from gateway.routing import Target
from gateway.runtime import Runtime


async def count(runtime: Runtime, caller: Caller, body: dict[str, Any], request_id: str, *, betas: str = "") -> Answer:
    """{"input_tokens": n}, or 400 when no target of this name can count."""
    with understood():
        asked = anthropic.check_count(body)
    admission = await runtime.limiter.admit(caller.rules, 0, uuid4().hex)
    try:
        failure: WireError | None = None
        route = await runtime.router.route(caller, asked.model)
        for name in route.order():
            try:
                target = await runtime.router.find(caller, name, via=route.alias)
                return await _ask(runtime, target, body, request_id, betas=betas)
            except WireError as error:
                failure = error
                if error.next is Next.NOTHING:
                    break
        raise failure or upstream_failed("No target could be asked.")
    finally:
        runtime.limiter.end(admission, 0)


async def _ask(runtime: Runtime, target: Target, body: dict[str, Any], request_id: str, *, betas: str) -> Answer:
    if COUNT_TOKENS not in ADAPTERS[target.wire].native:
        raise bad_request(f"{target.where} can't count tokens for {target.model}.", code="unsupported_endpoint")
    sent = orjson.dumps(body | {"model": target.upstream_model})
    response = await runtime.upstream.open(target, PATHS[COUNT_TOKENS], sent, request_id=request_id, betas=betas)
    try:
        async with response:
            answer = orjson.loads(await response.read())
        counted = int(answer["input_tokens"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise upstream_failed(f"{target.where} sent an answer that can't be read.") from error
    headers = {"x-modelport-target": target.where, "x-modelport-model": target.model, "x-modelport-path": target.path}
    return Answer(headers=headers, body=orjson.dumps({"input_tokens": counted}))
