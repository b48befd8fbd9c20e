"""A backup of the state as one stream of bytes: made and read on a worker thread, sent as fast as the client takes it."""

from __future__ import annotations

from asyncio import Future
from collections.abc import Callable
from typing import Any, Final

import msgspec

from taskquorum._http import Stream
from taskquorum.api.call import LOG, Call
from taskquorum.errors import UnavailableError
from taskquorum.node import NativeBackup, guarded

OCTETS: Final = b"application/octet-stream"


def backup(call: Call) -> None:
    """The state of this node at one revision, at least as new as every write acknowledged before."""
    call.read(lambda: _make(call))


def _make(call: Call) -> None:
    gone = False

    def on_gone() -> None:
        nonlocal gone
        gone = True

    def made(future: Future[NativeBackup]) -> None:
        error = future.exception()
        if error is not None:
            if not gone:
                call.fail(UnavailableError(str(error), code="no_backup", retry_after_s=5))
            return
        if gone:
            call.app.loop.run_in_executor(None, future.result().close)
        else:
            guarded(lambda: _BackupStream(call, future.result()).begin(), call.fail)

    call.request.on_gone = on_gone
    call.app.loop.run_in_executor(None, call.app.node.native.backup).add_done_callback(made)


class _BackupStream:
    """One client's backup. The copy on the disk goes when the stream ends, however it ends."""

    def __init__(self, call: Call, native: NativeBackup) -> None:
        self._call = call
        self._native = native
        self._stream: Stream | None = None
        self._reading = False

    def begin(self) -> None:
        """Starts the answer."""
        manifest = msgspec.json.decode(self._native.manifest())
        extra = b"Taskquorum-Revision: %d\r\nTaskquorum-Backup-Bytes: %d\r\n" % (manifest["revision"], manifest["bytes"])
        self._stream = self._call.stream(OCTETS, extra)
        self._call.request.on_gone = self.end
        self._stream.on_drain = self._pump
        self._call.app.streams.add(self)
        self._pump()

    def end(self) -> None:
        """Ends the stream; what was sent until now is recognised as cut off by whoever reads it."""
        self._call.app.streams.discard(self)
        self._on_worker(self._native.close)
        if self._stream is not None:
            self._stream.end()
            self._stream = None

    def _on_worker(self, function: Callable[[], Any]) -> Future[Any]:
        return self._call.app.loop.run_in_executor(None, function)

    def _pump(self) -> None:
        stream = self._stream
        if stream is not None and stream.open and stream.writable and not self._reading:
            self._reading = True
            self._on_worker(self._native.read).add_done_callback(self._piece)

    def _piece(self, future: Future[bytes]) -> None:
        self._reading = False
        error = future.exception()
        if error is not None:
            LOG.error("a backup ends early: %s", error)
        piece = b"" if error is not None else future.result()
        if self._stream is None:
            return
        if not piece:
            self.end()
            return
        self._stream.send(piece)
        self._pump()
