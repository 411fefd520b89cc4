"""Whatever answers: asked, and its refusals put into the caller's words."""

import asyncio
from typing import Any

import orjson
from django.conf import settings

from accounts import addresses
from gateway import http1
from gateway.adapters import ADAPTERS
from gateway.errors import Next, WireError, bad_request, upstream_failed
from gateway.protocols.asked import context_exceeded
from gateway.routing import Target

CONNECT_S = 5
# How long a stream may be silent; and a whole answer, of which nothing comes before all of it is made: as long as
# OpenAI's and Anthropic's SDKs wait for one.
READ_S, WHOLE_S = 120, 600
LONGEST_ERROR = 64 * 1024


class Upstream:
    """One per event loop. Providers' connections are kept; engines' are not: llama.cpp's server may close a kept
    one right after a stream, and a connection on loopback costs less than the retry."""

    def __init__(self) -> None:
        allows = None if settings.PRIVATE_PROVIDERS else addresses.is_public
        self._providers = http1.Client(connect_s=CONNECT_S, read_s=READ_S, allows=allows)
        self._engines = http1.Client(connect_s=CONNECT_S, read_s=READ_S, keep=False)

    async def close(self) -> None:
        await self._providers.close()
        await self._engines.close()

    async def open(
        self,
        target: Target,
        path: str,
        sent: bytes,
        *,
        request_id: str,
        read_s: float | None = None,
        betas: str = "",
    ) -> http1.Response:
        """The target's answer, its head read, status 200; or a WireError that says what the target did. `read_s`: the
        silence that is borne, READ_S where it is not said; `betas`: Anthropic's, sent to no other."""
        headers = {"content-type": "application/json", "x-request-id": request_id}
        headers |= ADAPTERS[target.wire].headers(target.api_key)
        if betas and target.wire == "anthropic":
            headers["anthropic-beta"] = betas
        client = self._engines if target.deployment_id else self._providers
        try:
            response = await client.post(target.base_url + path, sent, headers, read_s=read_s)
        except TimeoutError as error:
            raise upstream_failed(
                f"{target.where} did not answer in time.", status=504, after=Next.ANOTHER_TARGET
            ) from error
        except http1.NotAllowed as error:
            raise upstream_failed(
                f"{target.where}'s address has become a private one: nothing was sent to it. Whoever runs this portal "
                "can allow that with PRIVATE_PROVIDERS=1.",
                after=Next.ANOTHER_TARGET,
            ) from error
        except (OSError, ValueError) as error:
            raise upstream_failed(f"{target.where} can't be reached.") from error
        if response.status != 200:
            async with response:
                raise await _refusal(target, response)
        return response


async def _refusal(target: Target, response: http1.Response) -> WireError:
    """Say what the target said, as far as it concerns the caller."""
    error = await _error_of(response)
    message = str(error.get("message") or "")[:500]
    if error.get("type") == "exceed_context_size_error":
        found: WireError = context_exceeded(_number(error, "n_prompt_tokens"), _number(error, "n_ctx"))
        return found
    wait = {"retry-after": response.headers["retry-after"]} if "retry-after" in response.headers else {}
    match response.status:
        case 400 | 404 | 413 | 422 | 501:
            code = error.get("code") if isinstance(error.get("code"), str) else None
            return bad_request(f"{target.where} refused the request: {message}", code=code or "upstream_refused")
        case 429:
            wait = wait or {"retry-after": "5"}
            return upstream_failed(f"{target.where} is at its rate limit.", status=429, headers=wait)
        case 401 | 403:
            return upstream_failed(
                f"{target.where} refused this portal's key. An admin can set another.", after=Next.ANOTHER_TARGET
            )
        case 503 | 529:
            wait = wait or {"retry-after": "2"}
            return upstream_failed(f"{target.where} is not available just now.", status=503, headers=wait)
        case status:
            failed = upstream_failed(f"{target.where} failed with status {status}.")
            failed.upstream_status = status
            return failed


def _number(error: dict[str, Any], name: str) -> int:
    value = error.get(name)
    return value if isinstance(value, int) else 0


async def _error_of(response: http1.Response) -> dict[str, Any]:
    try:
        raw = await asyncio.wait_for(response.read(most=LONGEST_ERROR), CONNECT_S)
        body = orjson.loads(raw)
    except (OSError, orjson.JSONDecodeError):
        return {}
    error = body.get("error", body) if isinstance(body, dict) else {}
    return error if isinstance(error, dict) else {"message": str(error)}
