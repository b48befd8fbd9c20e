"""The HTTP framing of `_http` over real loopback sockets: order, bounds, back-pressure, smuggling.

The server under test echoes: its answer says what it understood of the request.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from taskquorum._http import Limits, Request, Server, Stream, scan_json

BODY_MAX = 1000


@dataclass
class Echo:
    """What the handlers of one test did, and the requests they have not answered."""

    handle: Callable[[Request], None] | None = None
    seen: list[str] = field(default_factory=list)
    waiting: list[Request] = field(default_factory=list)
    clock: float = 0.0
    server: Server | None = None
    port: int = 0
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    read: asyncio.Event = field(default_factory=asyncio.Event)

    async def has_read(self, size: int) -> None:
        """Waits until the server has read so many bytes of its clients."""
        assert self.server is not None
        async with asyncio.timeout(5):
            while self.server.bytes_in < size:
                self.read.clear()
                await self.read.wait()

    def dispatch(self, request: Request) -> None:
        self.seen.append(f"{request.method} {request.path}")
        self.arrived.set()
        if self.handle is not None:
            self.handle(request)
            return
        shown = {"method": request.method, "path": request.path, "query": request.query, "body": request.body.decode()}
        request.answer(200, json.dumps(shown).encode())

    def wait(self, request: Request) -> None:
        self.waiting.append(request)


class Tap(asyncio.Protocol):
    """The server's protocol, which tells when bytes have come."""

    def __init__(self, echo: Echo) -> None:
        assert echo.server is not None
        self._protocol = echo.server.protocol()
        self._read = echo.read
        # Whatever else the transport calls goes to the protocol itself.
        for name in ("connection_made", "connection_lost", "eof_received", "pause_writing", "resume_writing"):
            setattr(self, name, getattr(self._protocol, name))

    def data_received(self, data: bytes) -> None:
        self._protocol.data_received(data)
        self._read.set()


def refuse(status: int, code: str, detail: str) -> bytes:
    return json.dumps({"status": status, "code": code, "detail": detail}).encode()


@asynccontextmanager
async def echo_server(**limits: float) -> AsyncIterator[Echo]:
    echo = Echo()
    echo.server = Server(lambda request: BODY_MAX, echo.dispatch, refuse, lambda: echo.clock, Limits(**limits))  # type: ignore[arg-type]
    listening = await asyncio.get_running_loop().create_server(lambda: Tap(echo), "127.0.0.1", 0)
    echo.port = listening.sockets[0].getsockname()[1]
    try:
        yield echo
    finally:
        listening.close()
        echo.server.abort()


async def exchange(port: int, sent: bytes, *, end: bool = True) -> bytes:
    """Sends bytes, and returns all that comes until the server closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(sent)
    if end:
        writer.write_eof()
    async with asyncio.timeout(5):
        received = await reader.read()
    writer.close()
    return received


def statuses(received: bytes) -> list[int]:
    return [int(piece[:3]) for piece in received.split(b"HTTP/1.1 ")[1:]]


GET = b"GET /a?b=c HTTP/1.1\r\nHost: x\r\n\r\n"

SMUGGLED = {
    "both lengths": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "both, other order": b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    "two lengths": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nab",
    "list of lengths": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2, 2\r\n\r\nab",
    "signed length": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: +2\r\n\r\nab",
    "coding other than chunked": b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "unknown coding": b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "chunked in HTTP/1.0": b"POST / HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "bad chunk size": b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n\r\n",
    "chunk size over 64 bits": b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n\r\n",
    "bare LF after chunk size": b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\nab\r\n0\r\n\r\n",
    "bare LF": b"GET / HTTP/1.1\nHost: x\n\n",
    "bare LF after a header": b"GET / HTTP/1.1\r\nHost: x\nA: b\r\n\r\n",
    "bare CR": b"GET / HTTP/1.1\r\nHost: x\rA: b\r\n\r\n",
    "folded header": b"GET / HTTP/1.1\r\nHost: x\r\nA: b\r\n c\r\n\r\n",
    "space before colon": b"GET / HTTP/1.1\r\nHost : x\r\n\r\n",
    "space before header": b"GET / HTTP/1.1\r\n Host: x\r\n\r\n",
    "NUL in a header": b"GET / HTTP/1.1\r\nHost: x\r\nA: \0\r\n\r\n",
    "no header name": b"GET / HTTP/1.1\r\nHost: x\r\n: b\r\n\r\n",
    "two hosts": b"GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
    "no host": b"GET / HTTP/1.1\r\n\r\n",
    "absolute target": b"GET http://x/ HTTP/1.1\r\nHost: x\r\n\r\n",
    "unknown method": b"FOO / HTTP/1.1\r\nHost: x\r\n\r\n",
    "not HTTP": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
}


@pytest.mark.parametrize("name", SMUGGLED)
async def test_what_could_be_smuggled_is_refused_and_nothing_behind_it_is_read(name: str) -> None:
    async with echo_server() as echo:
        received = await exchange(echo.port, SMUGGLED[name] + GET, end=False)
    assert statuses(received) == [400]
    assert b"Connection: close" in received
    assert echo.seen == []


async def test_a_bad_request_behind_a_good_one_is_answered_in_its_turn() -> None:
    async with echo_server() as echo:
        received = await exchange(echo.port, GET + SMUGGLED["folded header"], end=False)
    assert statuses(received) == [200, 400]


async def test_other_versions_are_refused() -> None:
    async with echo_server() as echo:
        assert statuses(await exchange(echo.port, b"GET / HTTP/2.0\r\nHost: x\r\n\r\n", end=False)) == [505]


async def test_any_split_of_the_bytes_gives_the_same_request() -> None:
    sent = b"POST /p?q=1 HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
    async with echo_server() as echo:
        assert echo.server is not None
        for cut in range(1, len(sent)):
            reader, writer = await asyncio.open_connection("127.0.0.1", echo.port)
            before = echo.server.bytes_in
            writer.write(sent[:cut])
            await echo.has_read(before + cut)
            writer.write(sent[cut:])
            writer.write_eof()
            received = await reader.read()
            writer.close()
            assert json.loads(received.split(b"\r\n\r\n", 1)[1]) == {
                "method": "POST",
                "path": "/p",
                "query": "q=1",
                "body": "abcde",
            }


async def test_pipelined_requests_are_answered_in_order_one_at_a_time() -> None:
    """Three requests arrive at once; the first is held back → the others wait, then all come in order."""
    async with echo_server() as echo:
        echo.handle = echo.wait
        reader, writer = await asyncio.open_connection("127.0.0.1", echo.port)
        writer.write(b"".join(b"GET /%d HTTP/1.1\r\nHost: x\r\n\r\n" % number for number in range(3)))
        await echo.arrived.wait()
        for number in range(3):
            assert echo.seen == [f"GET /{n}" for n in range(number + 1)]
            echo.waiting[number].answer(200, b"%d" % number)
            head = await reader.readuntil(b"\r\n\r\n")
            assert b"200 OK" in head
            assert await reader.readexactly(1) == b"%d" % number
        writer.close()


async def test_more_pipelined_requests_than_the_bound_all_get_an_answer() -> None:
    async with echo_server(pipelined_max=4) as echo:
        received = await exchange(echo.port, GET * 500)
    assert statuses(received) == [200] * 500


async def test_close_is_respected_and_what_follows_it_ignored() -> None:
    async with echo_server() as echo:
        received = await exchange(echo.port, b"GET /a HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" + GET, end=False)
    assert statuses(received) == [200]
    assert echo.seen == ["GET /a"]


async def test_an_offered_upgrade_is_answered_as_http_1() -> None:
    sent = b"GET /a HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
    async with echo_server() as echo:
        assert statuses(await exchange(echo.port, sent, end=False)) == [200]


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"b" * 20_000 + b"\r\n\r\n", 431),
        (b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\nHost: x\r\n" + b"A: b\r\n" * 70 + b"\r\n", 431),
        (b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"b" * 400_000, 431),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1001\r\n\r\n", 413),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999\r\n\r\n", 413),
        (b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n400\r\n" + b"a" * 1024 + b"\r\n", 413),
    ],
)
async def test_what_is_larger_than_its_bound_is_refused(sent: bytes, status: int) -> None:
    async with echo_server() as echo:
        assert statuses(await exchange(echo.port, sent, end=False)) == [status]
        assert echo.seen == []
        assert echo.server is not None and echo.server.body_bytes == 0


async def test_slow_headers_time_out() -> None:
    """A request line and nothing more; five seconds pass → 408, closed."""
    async with echo_server() as echo:
        reader, writer = await asyncio.open_connection("127.0.0.1", echo.port)
        writer.write(b"GET / HTTP/1.1\r\nHost")
        assert echo.server is not None
        await echo.has_read(1)
        echo.clock = 4.9
        echo.server.sweep()
        assert not reader.at_eof()
        echo.clock = 5.1
        echo.server.sweep()
        assert statuses(await reader.read()) == [408]
        writer.close()


async def test_an_idle_connection_is_closed_without_an_answer() -> None:
    async with echo_server() as echo:
        reader, writer = await asyncio.open_connection("127.0.0.1", echo.port)
        writer.write(GET)
        await reader.readuntil(b"}")
        echo.clock = 59
        assert echo.server is not None
        echo.server.sweep()
        assert echo.server.open_connections == 1
        echo.clock = 61
        echo.server.sweep()
        assert await reader.read() == b""
        writer.close()


async def test_a_waiting_answer_has_no_deadline_and_learns_that_the_client_left() -> None:
    async with echo_server() as echo:
        gone = asyncio.Event()

        def handle(request: Request) -> None:
            request.on_gone = gone.set
            echo.waiting.append(request)

        echo.handle = handle
        _, writer = await asyncio.open_connection("127.0.0.1", echo.port)
        writer.write(GET)
        await echo.arrived.wait()
        echo.clock = 1e6
        assert echo.server is not None
        echo.server.sweep()
        assert echo.server.open_connections == 1
        writer.transport.abort()
        async with asyncio.timeout(5):
            await gone.wait()
        echo.waiting[0].answer(200, b"too late")
        with pytest.raises(RuntimeError):
            echo.waiting[0].answer(200, b"twice")


async def test_a_stream_pushes_back_and_ends() -> None:
    """A client that does not read → the stream says so; it reads on → `on_drain` is called."""
    async with echo_server() as echo:
        streams: list[Stream] = []
        echo.handle = lambda request: streams.append(request.stream(200, b"text/event-stream"))
        reader, writer = await asyncio.open_connection("127.0.0.1", echo.port, limit=1 << 16)
        writer.write(GET)
        await echo.arrived.wait()
        stream = streams[0]
        drained = asyncio.Event()
        stream.on_drain = drained.set
        sent = 0
        while stream.writable:
            stream.send(b"x" * 65_536)
            sent += 65_536
        assert not drained.is_set()
        received = b""
        while not drained.is_set():
            received += await reader.read(1 << 20)
        stream.end()
        assert not stream.open
        while not received.endswith(b"0\r\n\r\n"):
            received += await reader.read(1 << 20)
        assert received.count(b"x") == sent + 1  # One stands in the head, in "text".
        writer.close()


async def test_expect_is_answered_before_the_body() -> None:
    async with echo_server() as echo:
        reader, writer = await asyncio.open_connection("127.0.0.1", echo.port)
        writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b"ab")
        assert b"200 OK" in await reader.readuntil(b"\r\n\r\n")
        writer.close()


async def test_drain_closes_after_the_answer() -> None:
    async with echo_server() as echo:
        echo.handle = echo.wait
        reader, writer = await asyncio.open_connection("127.0.0.1", echo.port)
        writer.write(GET)
        await echo.arrived.wait()
        assert echo.server is not None
        echo.server.drain()
        assert echo.server.busy_connections == 1
        echo.waiting[0].answer(200, b"ok")
        received = await reader.read()
        assert b"Connection: close" in received and received.endswith(b"ok")
        writer.close()


async def test_too_many_connections_are_told_so() -> None:
    async with echo_server(connections_max=1) as echo:
        _, first = await asyncio.open_connection("127.0.0.1", echo.port)
        first.write(GET)
        await echo.arrived.wait()
        assert statuses(await exchange(echo.port, b"", end=False)) == [503]
        first.close()


async def test_a_handler_that_raises_costs_only_its_own_request(caplog: pytest.LogCaptureFixture) -> None:
    async with echo_server() as echo:

        def handle(request: Request) -> None:
            if request.path == "/bug":
                raise ZeroDivisionError
            request.answer(200, b"ok")

        echo.handle = handle
        received = await exchange(echo.port, b"GET /bug HTTP/1.1\r\nHost: x\r\n\r\n" + GET)
    assert statuses(received) == [500, 200]
    assert "dispatch failed" in caplog.text


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (b'{"a": [1, "x"]}', 0),
        (b"[" * 64 + b"]" * 64, 0),
        (b"[" * 65 + b"]" * 65, 1),
        (b'"' + b"[" * 100 + b'"', 0),
        (b'"\\"' + b"[" * 100 + b'"', 0),
        (b'"\\u0000"', 2),
        (b'"\\\\u0000"', 0),
        (b'"\\\\\\u0000"', 2),
        (b'"\\ud83d\\ude00"', 0),
        (b'"\\ud83d"', 3),
        (b'"\\ude00"', 3),
        (b'"\\ud83d\\u0041"', 3),
        ('"é"'.encode(), 0),
        (b'"\xff"', 4),
        (b'"\xed\xa0\x80"', 4),
        (b'"\\u', 0),
        (b'"\\', 0),
        (b"", 0),
    ],
)
def test_scan_json(text: bytes, found: int) -> None:
    assert scan_json(text, 64) == found
