"""A TCP proxy that delays every byte by a fixed time in each direction, for links between nodes."""

import asyncio
import contextlib
import threading

CHUNK_BYTES = 1 << 18
Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class LoopbackProxy:
    """Runs in a thread of its own; `front(port)` gives a port whose connections reach `port` on loopback."""

    def __init__(self, name: str) -> None:
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, name=name, daemon=True)
        self.thread.start()

    def front(self, port: int) -> int:
        """The port to dial instead of `port`."""

        async def serve() -> int:
            server = await asyncio.start_server(lambda r, w: self._serve(r, w, port), "127.0.0.1", 0)
            return int(server.sockets[0].getsockname()[1])

        return asyncio.run_coroutine_threadsafe(serve(), self.loop).result(10)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: int) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            writer.close()
            return
        # `close` ends what is open; asyncio would print it as a failure of the connection's callback.
        with contextlib.suppress(asyncio.CancelledError):
            await self._link((reader, writer), (far_reader, far_writer))

    async def _link(self, near: Stream, far: Stream) -> None:
        """Carries one connection until it ends."""
        raise NotImplementedError

    def close(self) -> None:
        """Ends every connection and the thread."""

        async def end() -> None:
            tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        asyncio.run_coroutine_threadsafe(end(), self.loop).result(10)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(5)
        self.loop.close()


class DelayProxy(LoopbackProxy):
    """Each byte arrives `delay_ms` late, in both directions."""

    def __init__(self, delay_ms: float) -> None:
        self.delay_s = delay_ms / 1000
        super().__init__("bench-proxy")

    async def _link(self, near: Stream, far: Stream) -> None:
        await asyncio.gather(self._pipe(near[0], far[1]), self._pipe(far[0], near[1]))

    async def _pipe(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Each chunk is written `delay_s` after it was read, in order; one side's end ends the other."""
        late: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(4096)

        async def fill() -> None:
            while chunk := await reader.read(CHUNK_BYTES):
                await late.put((self.loop.time() + self.delay_s, chunk))

        async def empty() -> None:
            while True:
                due, chunk = await late.get()
                if (ahead := due - self.loop.time()) > 0:
                    await asyncio.sleep(ahead)
                writer.write(chunk)
                await writer.drain()

        emptying = asyncio.create_task(empty())
        with contextlib.suppress(OSError):
            await fill()
            await asyncio.sleep(self.delay_s)
        emptying.cancel()
        with contextlib.suppress(OSError, asyncio.CancelledError):
            await emptying
        writer.close()
