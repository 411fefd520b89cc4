"""A pooled HTTP/1.1 client for one thing: post bytes, read the answer as it comes. httptools parses, the loop carries.

Here instead of a library's because it is a fifth of what a call costs (docs/decisions/0006-own-upstream-client.md).
Redirects are not followed, cookies not kept, proxies of the environment not used, compression not asked for.
"""

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Callable
from functools import lru_cache
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import httptools

IDLE_S = 15.0
MOST_IDLE = 256
LARGEST_HEAD = 64 * 1024
FULL, ROOM = 256 * 1024, 64 * 1024
END_S = 1.0


class BrokenOff(OSError):
    """The other side closed, or what came is not HTTP. `begun`: some of an answer had come before."""

    def __init__(self, text: str, *, begun: bool) -> None:
        super().__init__(text)
        self.begun = begun


class NotAllowed(OSError):
    """The name leads to an address that may not be asked. The connection was closed; nothing was sent."""


class Client:
    """One per event loop. `keep`: connections are used again for the same origin, for up to IDLE_S of idleness.
    `allows`: which IP addresses may be asked, looked at once a connection, whatever the name meant before."""

    def __init__(
        self, *, connect_s: float, read_s: float, keep: bool = True, allows: Callable[[str], bool] | None = None
    ) -> None:
        self._connect_s, self._read_s, self._keep, self._allows = connect_s, read_s, keep, allows
        self._idle: dict[_Origin, list[_Connection]] = {}
        self._ssl: ssl.SSLContext | None = None

    async def post(self, url: str, body: bytes, headers: dict[str, str], *, read_s: float | None = None) -> "Response":
        """The answer with its head read; `read_s` instead of the client's own. Raises OSError (BrokenOff and NotAllowed
        among them), TimeoutError, or ValueError for an address or a header that can't be sent. A kept connection that
        was closed under us is replaced once."""
        origin, path = _parts(url)
        sent = _head(origin.host_header, path, headers, len(body)) + body
        read_s = read_s or self._read_s
        if kept := self._take(origin):
            try:
                return await self._exchange(kept, sent, read_s)
            except BrokenOff as error:
                if error.begun:
                    raise
        return await self._exchange(await self._connect(origin), sent, read_s)

    async def close(self) -> None:
        for connections in self._idle.values():
            for one in connections:
                one.close()
        self._idle.clear()

    async def _exchange(self, connection: "_Connection", sent: bytes, read_s: float) -> "Response":
        try:
            connection.begin(sent, read_s)
            await connection.head()
        except BaseException:
            connection.close()
            raise
        return Response(self, connection)

    async def _connect(self, origin: "_Origin") -> "_Connection":
        if origin.tls and self._ssl is None:
            self._ssl = ssl.create_default_context()
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(self._connect_s):
            _, connection = await loop.create_connection(
                lambda: _Connection(origin), origin.host, origin.port,
                ssl=self._ssl if origin.tls else None,
            )  # fmt: skip
        if self._allows is not None and not self._allows(connection.peer):
            connection.close()
            raise NotAllowed(f"{origin.host} leads to {connection.peer}")
        return connection

    def _take(self, origin: "_Origin") -> "_Connection | None":
        idle = self._idle.get(origin)
        while idle:
            connection = idle.pop()
            if connection.usable and time.monotonic() - connection.idle_since < IDLE_S:
                return connection
            connection.close()
        return None

    def give_back(self, connection: "_Connection") -> None:
        idle = self._idle.setdefault(connection.origin, [])
        if self._keep and connection.keeps and len(idle) < MOST_IDLE:
            connection.idle_since = time.monotonic()
            idle.append(connection)
        else:
            connection.close()


class Response:
    """`headers` by lower-case name. Read it to its end, or close it: as a context manager it closes itself."""

    def __init__(self, client: Client, connection: "_Connection") -> None:
        self.status, self.headers = connection.status, connection.headers
        self._client = client
        self._connection: _Connection | None = connection

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def read(self, *, most: int | None = None) -> bytes:
        """The whole body, or its first `most` bytes."""
        parts, size = [], 0
        async for chunk in self.chunks():
            parts.append(chunk)
            size += len(chunk)
            if most is not None and size >= most:
                break
        whole = parts[0] if len(parts) == 1 else b"".join(parts)
        return whole if most is None else whole[:most]

    async def chunks(self) -> AsyncIterator[bytes]:
        """What has come, whenever something has. Raises BrokenOff if it ends too early, TimeoutError if it stalls."""
        while (connection := self._connection) is not None:
            chunk = await connection.body()
            if chunk:
                yield chunk
            if connection.is_over and self._connection is not None:
                self._connection = None
                self._client.give_back(connection)

    async def gather(self, seconds: float) -> None:
        """Leave what comes next in the kernel for a moment, so that one read takes all of it."""
        connection = self._connection
        if connection is None or connection.is_done:  # all of it is here
            return
        connection.hold(held=True)
        try:
            await asyncio.sleep(seconds)
        finally:
            connection.hold(held=False)

    def let_end(self) -> None:
        """Nothing more of it is wanted, and its end is due: the connection goes back once that has come."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.end_within(END_S, self._client)

    def close(self) -> None:
        """Give it up where it is; one that was read to its end has gone back already."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class _Origin:
    """Where a connection goes. One object an origin: it is a key by identity."""

    __slots__ = ("host", "host_header", "port", "tls")

    def __init__(self, scheme: str, host: str, port: int | None) -> None:
        if scheme not in {"http", "https"} or not host:
            raise ValueError(f"not an http address: {scheme}://{host}")
        self.tls = scheme == "https"
        self.host, self.port = host, port or (443 if self.tls else 80)
        name = f"[{host}]" if ":" in host else host
        self.host_header = name if port is None else f"{name}:{port}"


_origin = lru_cache(maxsize=1024)(_Origin)


@lru_cache(maxsize=1024)
def _parts(url: str) -> tuple[_Origin, str]:
    split = urlsplit(url)
    path = (split.path or "/") + (f"?{split.query}" if split.query else "")
    if not path.isascii() or any(letter <= " " for letter in path):
        raise ValueError("an address with letters that HTTP does not take")
    host = (split.hostname or "").encode("idna").decode("ascii") if split.hostname else ""
    return _origin(split.scheme, host, split.port), path


def _head(host: str, path: str, headers: dict[str, str], length: int) -> bytes:
    lines = "".join([f"{name}: {text}\r\n" for name, text in headers.items()])
    if lines.count("\n") != len(headers) or lines.count("\r") != len(headers):
        raise ValueError("a header with a line break")
    return (
        f"POST {path} HTTP/1.1\r\nhost: {host}\r\naccept: */*\r\naccept-encoding: identity\r\n"
        f"user-agent: modelport\r\ncontent-length: {length}\r\n{lines}\r\n"
    ).encode("latin-1")


class _Connection(asyncio.Protocol):
    """One exchange at a time. The parser calls the on_* methods while data is fed to it."""

    def __init__(self, origin: _Origin) -> None:
        self.origin, self._read_s = origin, 0.0
        self.idle_since = 0.0
        self._transport: Any = None
        self._loop = asyncio.get_running_loop()
        self._lost = False
        self._clear()

    def _clear(self) -> None:
        self._parser: Any = httptools.HttpResponseParser(self)
        self.status, self.headers = 0, dict[str, str]()
        self.is_done = self.keeps = False
        self._begun = self._has_head = self._held = self._paused = False
        self._head_size = self._size = 0
        self._after: Client | None = None
        self._parts: list[bytes] = []
        self._failure: BaseException | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._heard_at = 0.0
        self._timer: asyncio.TimerHandle | None = None

    @property
    def usable(self) -> bool:
        return not self._lost and not self._transport.is_closing()

    @property
    def peer(self) -> str:
        """The IP address at the other end."""
        return str(self._transport.get_extra_info("peername")[0])

    @property
    def is_over(self) -> bool:
        """All of the answer has come and was taken."""
        return self.is_done and not self._parts

    def begin(self, sent: bytes, read_s: float) -> None:
        self._clear()
        self._read_s = read_s
        if not self.usable:
            raise BrokenOff("the connection was closed", begun=False)
        self._heard_at = self._loop.time()
        self._timer = self._loop.call_later(self._read_s, self._look)
        self._transport.write(sent)

    async def head(self) -> None:
        while not self._has_head:
            await self._more()

    async def body(self) -> bytes:
        """What has come since the last time; empty once it is over."""
        while not self._parts and not self.is_done:
            await self._more()
        taken = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        self._parts, self._size = [], 0
        self._flow()
        return taken

    def end_within(self, seconds: float, client: Client) -> None:
        if self.is_done:
            self._parts, self._size = [], 0
            client.give_back(self)
            return
        if self._timer is not None:
            self._timer.cancel()
        self._after = client
        self._timer = self._loop.call_later(seconds, self.close)

    def hold(self, *, held: bool) -> None:
        self._held = held
        self._flow()

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._transport is not None and not self._transport.is_closing():
            self._transport.abort()

    async def _more(self) -> None:
        if self._failure is not None:
            raise self._failure
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _fail(self, error: BaseException) -> None:
        self.keeps = False
        if self._failure is None and not self.is_done:
            self._failure = error
        self._wake()
        self.close()

    def _look(self) -> None:
        """Silence is counted from the last byte; while reading is paused by us, it is not the other side's."""
        heard = self._loop.time() if self._paused else self._heard_at
        left = heard + self._read_s - self._loop.time()
        if left <= 0:
            self._fail(TimeoutError(f"nothing came for {self._read_s:g} s"))
        else:
            self._timer = self._loop.call_later(left, self._look)

    def _flow(self) -> None:
        full = self._size > (ROOM if self._paused else FULL)
        if (full or self._held) == self._paused or not self.usable:
            return
        self._paused = not self._paused
        if self._paused:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()

    # asyncio's calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        if self.is_done or self._heard_at == 0.0:  # nothing was asked: it can't be used again
            self.keeps = False
            self.close()
            return
        self._begun, self._heard_at = True, self._loop.time()
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._fail(BrokenOff("the other side wants another protocol", begun=True))
        except (httptools.HttpParserError, _TooMuch) as error:
            self._fail(BrokenOff(f"not HTTP: {error}"[:200], begun=True))
        else:
            self._flow()
            self._wake()

    def connection_lost(self, error: Exception | None) -> None:
        self._lost = True
        if self._has_head and error is None and not self.is_done and self._ends_with_the_connection():
            self._done(keeps=False)
            self._wake()
            return
        self._fail(BrokenOff("the other side closed the connection", begun=self._begun))

    def _ends_with_the_connection(self) -> bool:
        return "content-length" not in self.headers and "transfer-encoding" not in self.headers

    # the parser's calls

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.is_done:  # of an answer that nobody asked for
            raise _TooMuch
        self._head_size += len(name) + len(value) + 4
        if self._head_size > LARGEST_HEAD:
            raise _TooMuch
        self.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        self.status = self._parser.get_status_code()
        if self.status >= 200:
            self._has_head = True
        else:
            self.headers = {}

    def on_body(self, data: bytes) -> None:
        self._parts.append(data)
        self._size += len(data)

    def on_message_complete(self) -> None:
        if self._has_head:
            self._done(keeps=bool(self._parser.should_keep_alive()))

    def _done(self, *, keeps: bool) -> None:
        self.is_done, self.keeps = True, keeps
        if self._timer is not None:
            self._timer.cancel()
        if self._after is not None:
            self._loop.call_soon(self._after.give_back, self)
            self._after = None


class _TooMuch(Exception):
    """More than was asked for: a head larger than LARGEST_HEAD, or a second answer."""
