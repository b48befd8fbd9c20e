"""Server-sent events: pulled by cursor when there is news, never faster than the client reads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Protocol

from taskquorum._http import Stream
from taskquorum.api.call import Call
from taskquorum.node import guarded

KEEP_ALIVE_S: Final = 15.0
"""A comment is sent so often, so that a broken connection is noticed on both sides."""

Read = Callable[[], tuple[list[bytes], bool]]
"""The next pieces, and whether there is more to read at once."""


class Ending(Protocol):
    """What the app ends when it stops."""

    def end(self) -> None: ...


class EventStream:
    """One client's stream. `read` raises ProblemError to end it."""

    def __init__(self, call: Call, content_type: bytes, read: Read) -> None:
        self._call = call
        self._content_type = content_type
        self._read = read
        self._stream: Stream | None = None
        self._unwatch: Callable[[], None] = lambda: None
        self._cancel: Callable[[], None] = lambda: None
        self._scheduled = False

    def begin(self) -> None:
        """Starts the answer and sends what is there."""
        self._stream = self._call.stream(self._content_type, b"X-Accel-Buffering: no\r\n")
        self._call.request.on_gone = self.end
        self._stream.on_drain = self._pump
        self._call.app.streams.add(self)
        self._unwatch = self._call.app.node.watch_events(lambda _: self._pump())
        self._stream.send(b": taskquorum\n\n")
        self._keep_alive_later()
        self._pump()

    def end(self) -> None:
        """Ends the stream; the client may come back with its last id."""
        self._unwatch()
        self._cancel()
        self._call.app.streams.discard(self)
        if self._stream is not None:
            self._stream.end()

    def _pump(self) -> None:
        guarded(self._send, self._failed)

    def _send(self) -> None:
        stream = self._stream
        self._scheduled = False
        if stream is None or not stream.open or not stream.writable:
            return
        pieces, more = self._read()
        if pieces:
            stream.send(b"".join(pieces))
        if more and stream.writable and not self._scheduled:
            self._scheduled = True
            self._call.app.loop.call_soon(self._pump)  # Others get their turn between two pieces.

    def _failed(self, problem: Any) -> None:
        if self._stream is not None:
            self._stream.send(b"event: problem\ndata: %b\n\n" % str(problem).encode().replace(b"\n", b" "))
        self.end()

    def _keep_alive_later(self) -> None:
        self._cancel = self._call.later(KEEP_ALIVE_S, self._keep_alive)

    def _keep_alive(self) -> None:
        if self._stream is not None and self._stream.open:
            if self._stream.writable:
                self._stream.send(b":\n\n")
            self._keep_alive_later()
            self._pump()
