"""Types of the Cython module: HTTP/1.1 between sockets and plain functions (see `cython_ext/_http.pyx`)."""

import asyncio
from collections.abc import Callable
from typing import Any, Final, final

@final
class Limits:
    """Bounds of one server. Times in seconds, sizes in bytes."""

    head_bytes_max: Final[int]
    headers_max: Final[int]
    pipelined_max: Final[int]
    connections_max: Final[int]
    bodies_bytes_max: Final[int]
    head_s: Final[float]
    body_s: Final[float]
    idle_s: Final[float]
    def __init__(
        self,
        head_bytes_max: int = ...,
        headers_max: int = ...,
        pipelined_max: int = ...,
        connections_max: int = ...,
        bodies_bytes_max: int = ...,
        head_s: float = ...,
        body_s: float = ...,
        idle_s: float = ...,
    ) -> None: ...

@final
class Request:
    """One request, answered once by `answer` or `stream`."""

    method: Final[str]
    path: Final[str]
    """As sent: percent-encoded, without the query."""
    query: Final[str]
    headers: Final[dict[str, str]]
    """Names in lower case."""
    body: Final[bytes]
    started: Final[float]
    status: Final[int]
    route: Any
    params: Any
    on_gone: Callable[[], None] | None
    def answer(self, status: int, body: bytes, content_type: bytes = ..., extra: bytes = ...) -> None: ...
    def stream(self, status: int, content_type: bytes, extra: bytes = ...) -> Stream: ...
    @property
    def is_answered(self) -> bool: ...

@final
class Stream:
    """An answer sent in pieces."""

    on_drain: Callable[[], None] | None
    @property
    def open(self) -> bool: ...
    @property
    def writable(self) -> bool: ...
    def send(self, piece: bytes) -> None: ...
    def end(self) -> None: ...

@final
class Server:
    """What the connections of one listener share."""

    limits: Final[Limits]
    requests: Final[int]
    bytes_in: Final[int]
    bytes_out: Final[int]
    refused: Final[int]
    body_bytes: Final[int]
    def __init__(
        self,
        admit: Callable[[Request], int],
        dispatch: Callable[[Request], None],
        refuse: Callable[[int, str, str], bytes],
        clock: Callable[[], float],
        limits: Limits,
    ) -> None: ...
    def protocol(self) -> asyncio.Protocol: ...
    @property
    def open_connections(self) -> int: ...
    @property
    def busy_connections(self) -> int: ...
    def sweep(self) -> None: ...
    def drain(self) -> None: ...
    def abort(self) -> None: ...

def scan_json(text: bytes, depth_max: int) -> int:
    """0 fine, 1 nested too deep, 2 an escaped NUL, 3 half of a surrogate pair, 4 not UTF-8."""
