"""A proxy between nodes that delays, loses, repeats, swaps and damages whole frames of their transport.

TCP does none of this to a living stream; a broken network card, a bug in our framing or a middlebox could. What must hold: every
frame that arrives is one that was sent (the checksum closes the stream otherwise), and the protocols above survive messages that
are late, missing, doubled or in another order.

The proxy stands before a node's Raft port: all others dial `front(port)` instead. A node sends on the streams that it dialed, so
the dialing side's frames are troubled; the accepting side's only frame, its Hello, is passed on.
"""

import asyncio
import contextlib
import random
import struct
from dataclasses import dataclass

from bench.proxy import CHUNK_BYTES, LoopbackProxy, Stream

HEADER_BYTES = 12
# Frames under way on one stream: then the sender is pushed back.
QUEUE_FRAMES = 1024
# A frame that waits to be swapped goes on alone after this long.
SWAP_S = 0.05


@dataclass(frozen=True)
class Trouble:
    """Probabilities for each frame, and its delay in milliseconds, drawn between two bounds. The default is none."""

    delay_ms: tuple[float, float] = (0.0, 0.0)
    lose: float = 0.0
    double: float = 0.0
    swap: float = 0.0
    damage: float = 0.0


CALM = Trouble()


class FrameCutter:
    """Cuts a stream into frames: 4 bytes of length (little-endian), 8 more of header, the payload."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """The frames that are complete now."""
        self._buffer += data
        frames = []
        while len(self._buffer) >= HEADER_BYTES:
            (length,) = struct.unpack_from("<I", self._buffer)
            if len(self._buffer) < HEADER_BYTES + length:
                break
            frames.append(bytes(self._buffer[: HEADER_BYTES + length]))
            del self._buffer[: HEADER_BYTES + length]
        return frames


class Troubler:
    """Decides what becomes of each frame of one stream."""

    def __init__(self, seed: int) -> None:
        self._choice = random.Random(seed)
        self._first = True
        self.held: bytes | None = None

    def pass_on(self, frame: bytes, trouble: Trouble) -> list[bytes]:
        """The frames to send now, in this order; `held` waits for the next one. The stream's Hello is spared."""
        if self._first or trouble == CALM:
            self._first = False
            return [*self.release(), frame]
        draw = self._choice.random
        if draw() < trouble.lose:
            return []
        if draw() < trouble.damage:
            at = self._choice.randrange(4, len(frame))
            frame = frame[:at] + bytes([frame[at] ^ (1 << self._choice.randrange(8))]) + frame[at + 1 :]
        out = [frame, frame] if draw() < trouble.double else [frame]
        if self.held is None and draw() < trouble.swap:
            self.held = out.pop()
            return out
        return out + self.release()

    def delay_s(self, trouble: Trouble) -> float:
        return self._choice.uniform(*trouble.delay_ms) / 1000

    def release(self) -> list[bytes]:
        """The frame that waits, if there is one."""
        held, self.held = self.held, None
        return [] if held is None else [held]


class FrameProxy(LoopbackProxy):
    """`trouble` may be changed at any time and counts for every frame from then on."""

    def __init__(self, seed: int) -> None:
        self.trouble = CALM
        self.frames = 0
        self._seed = seed
        self._streams = 0
        super().__init__("trust-proxy")

    async def _link(self, near: Stream, far: Stream) -> None:
        (reader, writer), (far_reader, far_writer) = near, far
        self._streams += 1
        troubler = Troubler(self._seed * 100_000 + self._streams)
        queue: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(QUEUE_FRAMES)
        parts = [self._read(reader, queue, troubler), self._write(far_writer, queue, troubler), self._back(far_reader, writer)]
        tasks = [asyncio.create_task(part) for part in parts]
        # One direction's end is the stream's, and so is the proxy's.
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
        for end in (writer, far_writer):
            end.transport.abort()

    async def _read(self, reader: asyncio.StreamReader, queue: "asyncio.Queue[tuple[float, bytes]]", troubler: Troubler) -> None:
        cutter, due = FrameCutter(), 0.0
        with contextlib.suppress(OSError):
            while chunk := await reader.read(CHUNK_BYTES):
                for frame in cutter.feed(chunk):
                    # Late, but in order: another order is a matter of `swap`.
                    due = max(due, self.loop.time() + troubler.delay_s(self.trouble))
                    self.frames += 1
                    for passed in troubler.pass_on(frame, self.trouble):
                        await queue.put((due, passed))

    async def _write(self, writer: asyncio.StreamWriter, queue: "asyncio.Queue[tuple[float, bytes]]", troubler: Troubler) -> None:
        with contextlib.suppress(OSError):
            while True:
                try:
                    due, frame = await asyncio.wait_for(queue.get(), SWAP_S)
                except TimeoutError:
                    for frame in troubler.release():
                        writer.write(frame)
                    continue
                if (ahead := due - self.loop.time()) > 0:
                    await asyncio.sleep(ahead)
                writer.write(frame)
                await writer.drain()

    async def _back(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while chunk := await reader.read(CHUNK_BYTES):
                writer.write(chunk)
                await writer.drain()
