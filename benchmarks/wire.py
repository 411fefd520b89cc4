"""The two ends of a benchmark of gateways, as light as Python allows: a mock upstream, and callers.

    python benchmarks/wire.py mock PORT         an OpenAI-compatible upstream: canned answers, streams of CHUNKS chunks
    python benchmarks/wire.py load '{...}'      call something; one JSON object with the latencies comes back

Both speak HTTP/1.1 over kept connections by hand, so that they can keep up with what they measure. A stream's chunks
are written one at a time, `x-pace-ms` (or PACE_MS) milliseconds apart; at 0 they are written at once.
"""

import asyncio
import json
import sys
import time
from dataclasses import dataclass, field
from typing import Any

import uvloop

CHUNKS = 50
PACE_MS = 5.0
ANSWER = "Modelport answers with a sentence of about the length that people expect of a short answer. " * 3
USAGE = {"prompt_tokens": 120, "completion_tokens": 50, "total_tokens": 170}


def _whole() -> bytes:
    choice = {"index": 0, "message": {"role": "assistant", "content": ANSWER}, "finish_reason": "stop"}
    answer = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "mock", "choices": [choice]}
    body = json.dumps(answer | {"usage": USAGE}).encode()
    return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)


def _pieces() -> list[bytes]:
    base = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "mock"}
    texts = [{"index": 0, "delta": {"content": f"word{n} "}, "finish_reason": None} for n in range(CHUNKS)]
    chunks = [base | {"choices": [choice]} for choice in texts]
    chunks.append(base | {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    chunks.append(base | {"choices": [], "usage": USAGE})
    lines = [b"data: " + json.dumps(chunk).encode() + b"\n\n" for chunk in chunks] + [b"data: [DONE]\n\n"]
    return [b"%x\r\n%b\r\n" % (len(line), line) for line in lines]


WHOLE, PIECES, END = _whole(), _pieces(), b"0\r\n\r\n"
STREAM_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


class Mock(asyncio.Protocol):
    def __init__(self, pace_s: float) -> None:
        self._pace_s = pace_s
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, found, rest = self._buffer.partition(b"\r\n\r\n")
        if not found or len(rest) < (size := _content_length(head)):
            return
        body, self._buffer = rest[:size], rest[size:]
        if b'"stream":true' not in body.replace(b'"stream": true', b'"stream":true'):
            self._transport.write(WHOLE)
        elif not self._pace_s:
            self._transport.write(STREAM_HEAD + b"".join(PIECES) + END)
        else:
            self._transport.write(STREAM_HEAD)
            self._next(0)

    def _next(self, place: int) -> None:
        if self._transport.is_closing():
            return
        if place >= CHUNKS:  # the finish, the usage and [DONE] come together, as they do from engines
            self._transport.write(b"".join(PIECES[CHUNKS:]) + END)
            return
        self._transport.write(PIECES[place])
        asyncio.get_running_loop().call_later(self._pace_s, self._next, place + 1)


def _content_length(head: bytes) -> int:
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    return 0


@dataclass
class Load:
    """`callers` at a time, `calls` in all. Times are seconds."""

    host: str
    port: int
    request: bytes
    stream: bool
    left: int
    total_s: list[float] = field(default_factory=list)
    first_s: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


class Caller(asyncio.Protocol):
    def __init__(self, load: Load, done: "asyncio.Future[None]") -> None:
        self._load, self._done = load, done

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport
        self._send()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._done.done():
            self._load.errors.append(f"connection lost: {exc}")
            self._done.set_result(None)

    def _send(self) -> None:
        if self._load.left <= 0:
            self._done.set_result(None)
            self._transport.close()
            return
        self._load.left -= 1
        self._buffer, self._first, self._began = b"", 0.0, time.perf_counter()
        self._transport.write(self._load.request)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, found, rest = self._buffer.partition(b"\r\n\r\n")
        if not found:
            return
        if not self._first and b"content" in rest:
            self._first = time.perf_counter()
        chunked = b"chunked" in head.lower()
        if not (rest.endswith(END) if chunked else len(rest) >= _content_length(head)):
            return
        now = time.perf_counter()
        if b" 200 " not in head[:20] or (self._load.stream and b"data: [DONE]" not in rest):
            self._load.errors.append(self._buffer[:300].decode("latin-1"))
        self._load.total_s.append(now - self._began)
        self._load.first_s.append(self._first - self._began)
        self._send()


async def load(asked: dict[str, Any]) -> dict[str, Any]:
    body = json.dumps(asked["body"]).encode()
    headers = {"host": "127.0.0.1", "content-type": "application/json"} | asked["headers"]
    lines = [f"POST {asked['path']} HTTP/1.1"] + [f"{name}: {value}" for name, value in headers.items()]
    request = "\r\n".join([*lines, f"content-length: {len(body)}", "", ""]).encode() + body
    state = Load("127.0.0.1", asked["port"], request, bool(asked["body"].get("stream")), asked["calls"])
    loop = asyncio.get_running_loop()
    began = time.perf_counter()
    waits = []
    for _ in range(asked["callers"]):
        done = loop.create_future()
        await loop.create_connection(lambda done=done: Caller(state, done), state.host, state.port)
        waits.append(done)
    await asyncio.gather(*waits)
    return {
        "seconds": time.perf_counter() - began,
        "total_s": state.total_s,
        "first_s": state.first_s,
        "errors": state.errors,
    }


async def mock(port: int, pace_ms: float) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Mock(pace_ms / 1000), "127.0.0.1", port, backlog=1024)
    await server.serve_forever()


def main() -> None:
    if sys.argv[1] == "mock":
        uvloop.run(mock(int(sys.argv[2]), float(sys.argv[3]) if len(sys.argv) > 3 else PACE_MS))
    else:
        json.dump(uvloop.run(load(json.loads(sys.argv[2]))), sys.stdout)


if __name__ == "__main__":
    main()
