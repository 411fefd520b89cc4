"""Spans reach a collector: OTLP over HTTP, as OTEL_EXPORTER_OTLP_ENDPOINT asks."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from gateway import tracing
from tests.gateway.conftest import Gateway

pytestmark = pytest.mark.django_db(transaction=True)
SECRET = "the canary sings at dawn"


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[bytes]]:
    taken: list[bytes] = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            taken.append(self.rfile.read(int(self.headers["content-length"])))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *args: Any) -> None: ...

    server = HTTPServer(("127.0.0.1", 0), Collector)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    yield taken
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_request_arrives_as_a_span_without_its_prompt(collector: list[bytes], gateway: Gateway) -> None:
    tracing.start()
    try:
        body = {"model": "good", "messages": [{"role": "user", "content": SECRET}]}
        answer = httpx.post(f"{gateway.url}/v1/chat/completions", json=body, headers=gateway.headers)
    finally:
        tracing.stop()
    sent = ExportTraceServiceRequest.FromString(b"".join(collector))
    (span,) = [one for each in sent.resource_spans for scope in each.scope_spans for one in scope.spans]
    attributes = {one.key: one.value for one in span.attributes}
    assert span.name == "chat good"
    assert attributes["modelport.request_id"].string_value == answer.headers["x-request-id"]
    assert attributes["gen_ai.usage.output_tokens"].int_value == 3
    assert SECRET.encode() not in b"".join(collector)
