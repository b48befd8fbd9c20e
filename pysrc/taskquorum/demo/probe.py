"""A steady stream of small writes beside the job: its p99, and how long the cluster took none.

Writes start on a fixed beat whether or not earlier ones were answered (an open loop), so a pause is
seen by every write that should have been done in it.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import aiohttp
import orjson

from taskquorum.demo.board import percentile
from taskquorum.errors import ProblemError
from taskquorum.link import Link

INTERVAL_S = 0.02
IN_FLIGHT_MAX = 200
ATTEMPT_S = 8.0
WINDOW_S = 10.0
"""The p99 shown is that of the last so many seconds."""


@dataclass(frozen=True, slots=True)
class Written:
    """One acknowledged write, in seconds of the monotonic clock."""

    sent_at: float
    done_at: float


class Probe:
    """Writes to all servers in turn until it is cancelled."""

    def __init__(self, servers: Sequence[str]) -> None:
        self._links = [Link(server) for server in servers]
        self.recent: deque[Written] = deque()
        self.latencies: list[float] = []
        self.refused = 0
        self._accepted = asyncio.Condition()

    async def run(self) -> None:
        """Until cancelled."""
        flying: set[asyncio.Task[None]] = set()
        number = 0
        try:
            while True:
                if len(flying) < IN_FLIGHT_MAX:
                    number += 1
                    task = asyncio.create_task(self._write(self._links[number % len(self._links)], number))
                    flying.add(task)
                    task.add_done_callback(flying.discard)
                await asyncio.sleep(INTERVAL_S)
        finally:
            for task in flying:
                task.cancel()
            await asyncio.gather(*flying, return_exceptions=True)
            for link in self._links:
                await link.close()

    async def _write(self, link: Link, number: int) -> None:
        body = orjson.dumps({"value": number})
        sent_at = time.monotonic()
        try:
            await link.once("PUT", "/state/demo/probe", body=body, timeout_s=ATTEMPT_S)
        except (ProblemError, aiohttp.ClientError, OSError, TimeoutError):
            self.refused += 1
            return
        written = Written(sent_at, time.monotonic())
        self.recent.append(written)
        self.latencies.append(written.done_at - written.sent_at)
        while self.recent[0].done_at < written.done_at - WINDOW_S:
            self.recent.popleft()
        async with self._accepted:
            self._accepted.notify_all()

    async def first_after(self, moment: float, timeout_s: float) -> float | None:
        """When the first write that was sent after `moment` was accepted; None when the time runs out."""

        def accepted() -> list[float]:
            return [write.done_at for write in self.recent if write.sent_at > moment]

        try:
            async with asyncio.timeout(timeout_s):
                async with self._accepted:
                    await self._accepted.wait_for(accepted)
        except TimeoutError:
            return None
        return min(accepted())

    def p99_ms(self) -> float | None:
        """Of the writes acknowledged lately."""
        value = percentile([write.done_at - write.sent_at for write in self.recent], 0.99)
        return None if value is None else value * 1000
