"""OpenTelemetry spans, one a request, in the words of the GenAI semantic conventions. Needs the extra `otel` and
OTEL_EXPORTER_OTLP_ENDPOINT; without either nothing here does anything. No prompt and no answer is ever on a span.

https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-spans/
"""

import importlib.util
import logging
import os
import time
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gateway.journal import Entry

log = logging.getLogger(__name__)

OPERATIONS = MappingProxyType(
    {"chat": "chat", "responses": "chat", "messages": "chat", "completions": "text_completion"}
    | {"embeddings": "embeddings", "shadow": "chat"}
)
SERVER_ERROR = 500
_state: dict[str, Any] = {}


def start() -> None:
    """Begin to export, if that was asked for."""
    if not os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT") or _state:
        return
    if not _installed("opentelemetry.exporter.otlp.proto.http"):
        log.warning("OTEL_EXPORTER_OTLP_ENDPOINT is set, but not all of the extra `otel` (pyproject.toml) is installed")
        return
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = TracerProvider(resource=Resource.create({"service.name": "modelport-gateway"}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    use(provider)


def _installed(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False


def use(provider: Any) -> None:
    _state.update(provider=provider, tracer=provider.get_tracer("modelport.gateway"))


def stop() -> None:
    """Send what is left."""
    if _state:
        _state["provider"].shutdown()
        _state.clear()


def record(entry: "Entry") -> None:
    """A request that is over becomes a span that began when it did, below the caller's `traceparent` if it sent one."""
    if not _state:
        return
    from opentelemetry.propagate import extract
    from opentelemetry.trace import SpanKind, StatusCode

    operation = OPERATIONS.get(entry.surface, entry.surface)
    ended = time.time_ns()
    span = _state["tracer"].start_span(
        f"{operation} {entry.asked}",
        context=extract({"traceparent": entry.traceparent}),
        kind=SpanKind.SERVER,
        start_time=ended - entry.total_ms * 1_000_000,
        attributes=_attributes(entry, operation),
    )
    if entry.status >= SERVER_ERROR:
        span.set_status(StatusCode.ERROR, entry.code)
    span.end(ended)


def _attributes(entry: "Entry", operation: str) -> dict[str, Any]:
    found = {
        "gen_ai.operation.name": operation,
        "gen_ai.provider.name": entry.target,
        "gen_ai.request.model": entry.asked,
        "gen_ai.response.model": entry.model,
        "gen_ai.usage.input_tokens": entry.tokens_in or None,
        "gen_ai.usage.output_tokens": entry.tokens_out or None,
        "error.type": entry.code or None,
        "http.response.status_code": entry.status,
        "modelport.request_id": entry.request_id,
        "modelport.path": entry.path,
        "modelport.attempts": entry.attempts,
        "modelport.cost_usd": None if entry.cost is None else format(entry.cost, "f"),
        "modelport.first_byte_ms": entry.first_byte_ms,
    }
    return {name: value for name, value in found.items() if value not in (None, "")}
