"""Which client should the gateway call upstreams with? Our own, aiohttp and httpx against the same mock, in one run.

    .venv/bin/python benchmarks/upstream_client.py

Prints CPU milliseconds a call (this process only; the mock runs in another) for whole answers and for streams of 50
chunks, the median of five rounds, and as its last line one JSON object with the ratios.
"""

import asyncio
import json
import multiprocessing
import socket
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import aiohttp
import httpx
from aiohttp import web

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from gateway import http1

CALLS, STREAMS, AT_ONCE, ROUNDS, CHUNKS = 200, 60, 16, 5, 50
CLIENTS = ("http1", "aiohttp", "httpx")
BODY = {"model": "m", "messages": [{"role": "user", "content": "x" * 500}]}
WHOLE = json.dumps({"choices": [{"message": {"content": "y" * 400}}], "usage": {"prompt_tokens": 1}}).encode()
CHUNK = b'data: {"choices": [{"index": 0, "delta": {"content": "token"}}]}\n\n'
Call = Callable[[str], Awaitable[int]]


def main() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    mock = multiprocessing.Process(target=_serve, args=(port,), daemon=True)
    mock.start()
    _wait(port)
    try:
        found = asyncio.run(_measure(f"http://127.0.0.1:{port}"))
    finally:
        mock.terminate()
        mock.join()
    print(f"{'client':10} {'whole, CPU ms':>14} {'stream, CPU ms':>15}")
    for client in CLIENTS:
        print(f"{client:10} {found[client, 'whole']:>14.2f} {found[client, 'stream']:>15.2f}")
    ratios = {
        f"{client}_vs_http1_{kind}": round(found[client, kind] / found["http1", kind], 1)
        for client in CLIENTS[1:]
        for kind in ("whole", "stream")
    }
    print(json.dumps(ratios | {"http1_cpu_ms_whole": round(found["http1", "whole"], 3)}))


async def _measure(url: str) -> dict[tuple[str, str], float]:
    found: dict[tuple[str, str], list[float]] = {}
    limits = httpx.Limits(max_connections=AT_ONCE, max_keepalive_connections=AT_ONCE)
    async with aiohttp.ClientSession() as one, httpx.AsyncClient(limits=limits, timeout=30) as two:

        async def aiohttp_call(path: str) -> int:
            async with one.post(url + path, json=BODY) as response:
                return sum([len(chunk) async for chunk in response.content.iter_any()])

        async def httpx_call(path: str) -> int:
            async with two.stream("POST", url + path, json=BODY) as response:
                return sum([len(chunk) async for chunk in response.aiter_raw()])

        mine = http1.Client(connect_s=5, read_s=30)
        sent = json.dumps(BODY).encode()

        async def own_call(path: str) -> int:
            async with await mine.post(url + path, sent, {"content-type": "application/json"}) as response:
                return sum([len(chunk) async for chunk in response.chunks()])

        for _ in range(ROUNDS):
            for client, call in (("http1", own_call), ("aiohttp", aiohttp_call), ("httpx", httpx_call)):
                found.setdefault((client, "whole"), []).append(await _cpu_ms(call, "/whole", CALLS))
                found.setdefault((client, "stream"), []).append(await _cpu_ms(call, "/stream", STREAMS))
    return {key: statistics.median(values) for key, values in found.items()}


async def _cpu_ms(call: Call, path: str, count: int) -> float:
    gate = asyncio.Semaphore(AT_ONCE)

    async def one() -> None:
        async with gate:
            assert await call(path) > 0

    started = time.process_time()
    await asyncio.gather(*(one() for _ in range(count)))
    return (time.process_time() - started) * 1000 / count


def _serve(port: int) -> None:
    async def whole(request: web.Request) -> web.Response:
        await request.read()
        return web.Response(body=WHOLE, content_type="application/json")

    async def stream(request: web.Request) -> web.StreamResponse:
        await request.read()
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        for _ in range(CHUNKS):
            await response.write(CHUNK)
        return response

    app = web.Application()
    app.router.add_post("/whole", whole)
    app.router.add_post("/stream", stream)
    web.run_app(app, host="127.0.0.1", port=port, print=None)


def _wait(port: int) -> None:
    for _ in range(100):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise SystemExit("the mock upstream did not start")


if __name__ == "__main__":
    main()
