"""A lean HTTP/1.1 client on asyncio, so that the load costs the box less than what it measures.

One request in flight per connection; answers with a Content-Length only (`Stream` reads server-sent events). A connection that
breaks fails its request with ConnectionError and opens again for the next.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator

import orjson


class Connection(asyncio.Protocol):
    """A keep-alive connection to one server."""

    def __init__(self, host: str, port: int) -> None:
        self.host = host
        self.port = port
        self.transport: asyncio.Transport | None = None
        self.buffer = bytearray()
        self.waiter: asyncio.Future[tuple[int, bytes]] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport) or hasattr(transport, "write")
        self.transport = transport  # type: ignore[assignment]
        self.buffer.clear()

    def connection_lost(self, error: Exception | None) -> None:
        self.transport = None
        if self.waiter is not None and not self.waiter.done():
            self.waiter.set_exception(ConnectionError("the server closed the connection"))

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        end = self.buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        head = bytes(self.buffer[:end]).lower()
        at = head.find(b"content-length:")
        length = int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
        if len(self.buffer) < end + 4 + length:
            return
        body = bytes(self.buffer[end + 4 : end + 4 + length])
        del self.buffer[: end + 4 + length]
        if self.waiter is not None and not self.waiter.done():
            self.waiter.set_result((int(head[9:12]), body))

    async def call(self, method: str, path: str, body: object = None, headers: str = "") -> tuple[int, bytes]:
        """Status and body of one call under /api/v1; `headers` are whole lines. Raises OSError (ConnectionError among
        them)."""
        loop = asyncio.get_running_loop()
        if self.transport is None:
            await loop.create_connection(lambda: self, self.host, self.port)
        if self.transport is None:
            raise ConnectionError("the server closed the connection")
        raw = body if isinstance(body, bytes) else b"" if body is None else orjson.dumps(body)
        head = f"{method} /api/v1{path} HTTP/1.1\r\nHost: {self.host}\r\nContent-Length: {len(raw)}\r\n{headers}"
        kind = "Content-Type: application/json\r\n" if raw else ""
        self.waiter = loop.create_future()
        self.transport.write(f"{head}{kind}\r\n".encode() + raw)
        try:
            return await self.waiter
        except asyncio.CancelledError:
            self.close()
            raise

    def close(self) -> None:
        if self.transport is not None:
            self.transport.abort()
            self.transport = None


class Pool:
    """Connections to one server, handed out one request at a time; waiting for one counts as latency."""

    def __init__(self, port: int, size: int, host: str = "127.0.0.1") -> None:
        self.idle = deque(Connection(host, port) for _ in range(size))
        self.all = list(self.idle)
        self.slots = asyncio.Semaphore(size)

    async def call(self, method: str, path: str, body: object = None) -> tuple[int, bytes]:
        async with self.slots:
            connection = self.idle.popleft()
            try:
                return await connection.call(method, path, body)
            finally:
                self.idle.append(connection)

    def close(self) -> None:
        for connection in self.all:
            connection.close()


async def events(port: int, path: str, host: str = "127.0.0.1") -> AsyncIterator[bytes]:
    """The `data:` lines of a server-sent event stream under /api/v1."""
    reader, writer = await asyncio.open_connection(host, port, limit=1 << 24)
    try:
        writer.write(f"GET /api/v1{path} HTTP/1.1\r\nHost: {host}\r\nAccept: text/event-stream\r\n\r\n".encode())
        async for line in reader:
            if line.startswith(b"data:"):
                yield line[5:].strip()
    finally:
        writer.close()
