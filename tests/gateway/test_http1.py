"""The client for upstreams, against servers that write what they like."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from accounts import addresses
from gateway import http1

WHOLE = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi"
CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
Peer = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Upstream:
    """`says(peer, nth)` is called for the nth request; `connections` counts those that were opened."""

    def __init__(self, says: Callable[[Peer, int], Awaitable[None]]) -> None:
        self.says, self.connections, self.requests = says, 0, list[bytes]()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
                self.requests.append(head + await reader.readexactly(length))
                await self.says((reader, writer), len(self.requests))
                if writer.is_closing():
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def asked(
    says: Callable[[Peer, int], Awaitable[None]], *, read_s: float = 5
) -> AsyncIterator[tuple[Upstream, Callable[[], Awaitable[http1.Response]]]]:
    upstream, client = Upstream(says), http1.Client(connect_s=5, read_s=read_s)
    server = await asyncio.start_server(upstream.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        yield upstream, lambda: client.post(f"http://127.0.0.1:{port}/v1/x?y=1", b"{}", {"x-a": "b"})
    finally:
        await client.close()
        server.close()


def saying(*parts: bytes) -> Callable[[Peer, int], Awaitable[None]]:
    async def says(peer: Peer, _: int) -> None:
        for part in parts:
            peer[1].write(part)
            await peer[1].drain()
            await asyncio.sleep(0.01)

    return says


def closing(*parts: bytes) -> Callable[[Peer, int], Awaitable[None]]:
    async def says(peer: Peer, nth: int) -> None:
        await saying(*parts)(peer, nth)
        peer[1].close()

    return says


async def test_nothing_is_sent_to_an_address_that_is_not_allowed_whatever_its_name() -> None:
    async with asked(saying(WHOLE)) as (upstream, post):
        async with await post() as response:
            await response.read()
        port = int(upstream.requests[0].split(b"127.0.0.1:")[1].split(b"\r\n")[0])
        client = http1.Client(connect_s=5, read_s=5, allows=addresses.is_public)
        for name in ("127.0.0.1", "localhost"):
            with pytest.raises(http1.NotAllowed, match="leads to"):
                await client.post(f"http://{name}:{port}/v1/x", b"secret", {"authorization": "Bearer secret"})
        await client.close()
    assert len(upstream.requests) == 1


async def test_a_connection_is_used_again_and_the_request_is_whole() -> None:
    async with asked(saying(WHOLE)) as (upstream, post):
        for _ in range(3):
            async with await post() as response:
                assert (response.status, await response.read()) == (200, b"hi")
    assert upstream.connections == 1
    assert upstream.requests[0].startswith(b"POST /v1/x?y=1 HTTP/1.1\r\nhost: 127.0.0.1:")
    assert b"\r\nx-a: b\r\n" in upstream.requests[0]
    assert upstream.requests[0].endswith(b"\r\n\r\n{}")


@pytest.mark.parametrize(
    ("parts", "body"),
    [
        ([CHUNKED, b"3\r\nabc\r\n", b"2\r\nde\r\n0\r\n\r\n"], b"abcde"),
        ([b"HTTP/1.1 100 Continue\r\n\r\n", WHOLE], b"hi"),
        ([WHOLE[:20], WHOLE[20:-1], WHOLE[-1:]], b"hi"),
        ([b"HTTP/1.1 200 OK\r\n\r\nup to the", b" close"], b"up to the close"),
    ],
)
async def test_each_way_to_frame_an_answer_is_read(parts: list[bytes], body: bytes) -> None:
    async with asked(closing(*parts)) as (_, post), await post() as response:
        assert await response.read() == body


@pytest.mark.parametrize(
    "parts",
    [
        [b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhi"],
        [CHUNKED, b"3\r\nabc\r\n"],
        [CHUNKED, b"nothing like a size\r\n"],
    ],
)
async def test_an_answer_that_is_cut_or_malformed_never_reads_as_whole(parts: list[bytes]) -> None:
    async with asked(closing(*parts)) as (_, post), await post() as response:
        with pytest.raises(http1.BrokenOff):
            await response.read()


@pytest.mark.parametrize(
    "parts", [[b"SSH-2.0-x\r\n"], [b"HTTP/1.1 200 OK\r\nx: " + b"y" * http1.LARGEST_HEAD + b"\r\n\r\n"], []]
)
async def test_what_has_no_head_is_broken_off(parts: list[bytes]) -> None:
    async with asked(closing(*parts)) as (_, post):
        with pytest.raises(http1.BrokenOff):
            await post()


async def test_a_kept_connection_that_was_closed_is_replaced_and_a_fresh_one_is_not() -> None:
    async def says(peer: Peer, nth: int) -> None:
        if nth != 2:
            peer[1].write(WHOLE)
        else:  # the second request finds the connection closing
            peer[1].close()

    async with asked(says) as (upstream, post):
        for _ in range(2):
            async with await post() as response:
                assert await response.read() == b"hi"
    assert len(upstream.requests) == 3


async def test_a_request_that_closes_every_connection_is_sent_twice_at_most() -> None:
    many, came = 20, asyncio.Event()

    async def says(peer: Peer, nth: int) -> None:
        if nth > many:
            peer[1].close()
            return
        if nth == many:
            came.set()
        await came.wait()
        peer[1].write(WHOLE)

    async def read(post: Callable[[], Awaitable[http1.Response]]) -> bytes:
        async with await post() as response:
            return await response.read()

    async with asked(says) as (upstream, post):
        await asyncio.gather(*(read(post) for _ in range(many)))
        with pytest.raises(http1.BrokenOff):
            await post()
    assert len(upstream.requests) == many + 2


async def test_an_answer_that_was_begun_is_not_asked_for_again() -> None:
    async def says(peer: Peer, nth: int) -> None:
        peer[1].write(WHOLE if nth == 1 else b"HTTP/1.1 200")
        if nth > 1:
            peer[1].close()

    async with asked(says) as (upstream, post):
        async with await post() as response:
            await response.read()
        with pytest.raises(http1.BrokenOff):
            await post()
    assert len(upstream.requests) == 2


async def test_silence_is_bounded_before_and_inside_an_answer() -> None:
    async def silent(peer: Peer, nth: int) -> None:
        peer[1].write(CHUNKED + b"1\r\na\r\n" if nth == 1 else b"")
        await asyncio.sleep(2)

    async with asked(silent, read_s=0.2) as (_, post):
        async with await post() as response:
            with pytest.raises(TimeoutError):
                await response.read()
        with pytest.raises(TimeoutError):
            await post()


async def test_the_end_of_a_stream_may_come_after_its_last_event() -> None:
    async with asked(saying(CHUNKED + b"3\r\nabc\r\n", b"0\r\n\r\n")) as (upstream, post):
        for _ in range(2):
            async with await post() as response:
                assert await anext(response.chunks()) == b"abc"
                response.let_end()
            await asyncio.sleep(0.1)
    assert upstream.connections == 1


async def test_an_answer_that_nobody_asked_for_ends_the_connection() -> None:
    async with asked(saying(WHOLE + WHOLE)) as (upstream, post):
        for _ in range(2):
            async with await post() as response:
                assert await response.read() == b"hi"
            await asyncio.sleep(0.05)
    assert upstream.connections == 2


async def test_what_nobody_reads_stays_in_the_kernel() -> None:
    mebibyte = b"%x\r\n" % 2**20 + b"z" * 2**20 + b"\r\n"

    async def says(peer: Peer, _: int) -> None:
        peer[1].write(CHUNKED + mebibyte * 40 + b"0\r\n\r\n")

    async with asked(says) as (_, post), await post() as response:
        await asyncio.sleep(0.2)
        chunks = response.chunks()
        assert len(await anext(chunks)) < 4 * http1.FULL
        assert len(b"".join([chunk async for chunk in chunks])) > 38 * 2**20


@pytest.mark.parametrize("headers", [{"x": "a\r\nb: c"}, {"x": "a\nb"}, {"x\r": "a"}])
async def test_a_header_with_a_line_break_is_never_sent(headers: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="line break"):
        await http1.Client(connect_s=1, read_s=1).post("http://127.0.0.1:9/", b"", headers)


@pytest.mark.parametrize("url", ["ftp://a/b", "http:///x", "http://127.0.0.1/a b\r\nx: y"])
async def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises((ValueError, OSError)):
        await http1.Client(connect_s=1, read_s=1).post(url, b"", {})
