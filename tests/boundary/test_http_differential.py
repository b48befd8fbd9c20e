"""The HTTP parser against h11 (TRUST R10): what both take they read alike, and what h11 refuses is not taken here.

Requests are made valid, cut into pieces at random, and in half of the cases damaged at a few bytes. `_http` may be stricter
than h11 and is in places (see `SMUGGLED` in `test_http.py`); it must never be laxer, and never read other bytes as a
request than h11 does: two servers in a row that disagree about where a request ends can be made to smuggle one.
"""

import json
import re
from typing import Any

import h11
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from taskquorum._http import Limits, Request, Server

BODY_MAX = 1 << 16
TOKEN = st.text("abcXYZ019-_.!", min_size=1, max_size=8)
# Those that say where a body ends, or what follows, are put in on purpose.
NAMES = TOKEN.filter(lambda name: name.lower() not in ("host", "te", "connection", "upgrade", "expect"))
VALUE = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), max_size=12)
PATH = st.text("abz09/%-._~!$&'()*+,;=:@", max_size=16).map(lambda rest: "/" + rest)
QUERY = st.none() | st.text("abz09/%-._~!$&'()*+,;=:@?", max_size=12)


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    """One or two valid requests, one behind the other."""
    return b"".join(draw(request()) for _ in range(draw(st.integers(1, 2))))


@st.composite
def request(draw: st.DrawFn) -> bytes:
    """A valid request with a body of neither, one or the other framing."""
    query = draw(QUERY)
    target = draw(PATH) + (f"?{query}" if query is not None else "")
    headers = [("Host", "x"), *draw(st.lists(st.tuples(NAMES, VALUE), max_size=3, unique_by=lambda pair: pair[0].lower()))]
    body = draw(st.binary(max_size=40))
    framing = draw(st.sampled_from(["none", "length", "chunked"]))
    if framing == "length":
        headers.append(("Content-Length", str(len(body))))
        sent = body
    elif framing == "chunked":
        headers.append(("Transfer-Encoding", "chunked"))
        sent = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in draw(pieces(body)) if piece) + b"0\r\n\r\n"
    else:
        sent = b""
    method = draw(st.sampled_from(["GET", "POST", "PUT", "DELETE"]))
    lines = "".join(f"{name}: {value}\r\n" for name, value in draw(st.permutations(headers)))
    return f"{method} {target} HTTP/1.1\r\n{lines}\r\n".encode() + sent


@st.composite
def pieces(draw: st.DrawFn, whole: bytes) -> list[bytes]:
    """The bytes in order, cut at random."""
    cuts = sorted(draw(st.lists(st.integers(0, len(whole)), max_size=4)))
    return [whole[low:high] for low, high in zip([0, *cuts], [*cuts, len(whole)], strict=True)]


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A request with a few bytes put in, left out or changed."""
    raw = bytearray(draw(requests()))
    alphabet = st.sampled_from(list(b"\r\n\t :;,?#0123456789aAfF+-\x00\x7f\x80\xff"))
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(raw) - 1))
        kind = draw(st.sampled_from(["put in", "leave out", "change"]))
        raw[at : at + (kind != "put in")] = b"" if kind == "leave out" else bytes([draw(alphabet)])
        if not raw:
            return b""
    return bytes(raw)


class Transport:
    """Takes what the server writes."""

    def __init__(self) -> None:
        self.closed = False
        self.written = b""

    def write(self, piece: bytes) -> None:
        self.written += piece

    def close(self) -> None:
        self.closed = True

    abort = close

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def write_eof(self) -> None: ...

    def can_write_eof(self) -> bool:
        return True

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default


Read = tuple[str, str, str, bytes]
"""Method, path, query, body."""


def ours(parts: list[bytes]) -> tuple[list[Read], bool]:
    """What `_http` hands to a handler, and whether it refused something."""
    read: list[Read] = []
    refused: list[int] = []

    def dispatch(taken: Request) -> None:
        read.append((taken.method, taken.path, taken.query, taken.body))
        taken.answer(200, b"{}")

    def refuse(status: int, code: str, detail: str) -> bytes:
        refused.append(status)
        return json.dumps({"code": code, "detail": detail}).encode()

    server = Server(lambda taken: BODY_MAX, dispatch, refuse, lambda: 0.0, Limits())
    protocol = server.protocol()
    protocol.connection_made(Transport())  # type: ignore[arg-type]
    for part in parts:
        if part:
            protocol.data_received(part)  # type: ignore[attr-defined]
    return read, bool(refused)


def theirs(raw: bytes) -> tuple[list[Read], bool]:
    """What h11 reads, and whether it refused something.

    `_http` passes over empty lines before a request (RFC 9112 §2.2) and takes several spaces in its first line for one (§3),
    which that leaves to the recipient; h11 does neither.
    """
    read: list[Read] = []
    left = raw.lstrip(b"\r\n")
    while left:
        connection = h11.Connection(h11.SERVER)
        first, *rest = left.split(b"\r\n", 1)
        connection.receive_data(b"\r\n".join([re.sub(b" +", b" ", first), *rest]))
        body = b""
        try:
            while not isinstance(event := connection.next_event(), h11.EndOfMessage):
                if isinstance(event, h11.Request):
                    method, target = event.method.decode(), event.target.decode("latin-1")
                elif isinstance(event, h11.Data):
                    body += bytes(event.data)
                else:
                    return read, False
        except h11.RemoteProtocolError:
            return read, True
        path, _, query = target.partition("?")
        read.append((method, path, query, body))
        if connection.their_state is not h11.DONE:
            return read, False
        left = connection.trailing_data[0].lstrip(b"\r\n")
    return read, False


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_valid_requests_are_read_alike_however_they_come(data: st.DataObject) -> None:
    raw = data.draw(requests())
    read, refused = ours(data.draw(pieces(raw)))
    assert (read, refused) == theirs(raw)


@settings(max_examples=1_000, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_nothing_is_taken_that_h11_refuses_or_reads_otherwise(data: st.DataObject) -> None:
    raw = data.draw(damaged())
    read, _ = ours(data.draw(pieces(raw)))
    expected, _ = theirs(raw)
    assert read == expected[: len(read)]
