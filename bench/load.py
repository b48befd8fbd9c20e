"""The load itself: open-loop arrivals, agents that only turn tasks around, and what they cost.

Open loop: a request is due at a fixed moment whether or not earlier ones were answered, and its latency counts from that
moment, so a stall shows in every request it delayed (coordinated omission is corrected by construction).
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import orjson

from bench.cluster import Cluster
from bench.histogram import Histogram
from bench.wire import Connection, Pool

TASK = orjson.dumps({"task_type": "bench", "task_data": {"text": "x" * 64}})


@dataclass
class Outcome:
    """What an open-loop run measured."""

    offered_per_s: float
    seconds: float = 0.0
    latency: Histogram = field(default_factory=Histogram)
    failed: int = 0

    def summary(self) -> dict[str, object]:
        done = self.latency.count
        return {
            "offered_per_s": self.offered_per_s,
            "done_per_s": round(done / self.seconds, 1) if self.seconds else None,
            "failed": self.failed,
            **self.latency.summary(),
        }


async def open_loop(
    rate: float, seconds: float, request: Callable[[int], Awaitable[bool]], outstanding_max: int = 5000
) -> Outcome:
    """Calls `request(number)` at `rate` per second for `seconds`; true means it counts as done.

    More than `outstanding_max` unanswered requests are not sent but counted as failed: the box is past its limit then.
    """
    outcome = Outcome(rate)
    running: set[asyncio.Task[None]] = set()

    async def one(number: int, due: float) -> None:
        try:
            done = await request(number)
        except OSError:
            done = False
        if done:
            outcome.latency.record(time.perf_counter() - due)
        else:
            outcome.failed += 1

    start = time.perf_counter()
    for number in range(int(rate * seconds)):
        due = start + number / rate
        ahead = due - time.perf_counter()
        if ahead > 0:
            await asyncio.sleep(ahead)
        if len(running) >= outstanding_max:
            outcome.failed += 1
            continue
        task = asyncio.create_task(one(number, due))
        running.add(task)
        task.add_done_callback(running.discard)
    if running:
        await asyncio.wait(running, timeout=30)
    outcome.seconds = time.perf_counter() - start
    return outcome


async def submits(cluster: Cluster, rate: float, seconds: float, connections: int = 16) -> Outcome:
    """Single submits, spread evenly over all nodes."""
    pools = [Pool(node.http_port, connections) for node in cluster.alive]

    async def request(number: int) -> bool:
        status, _ = await pools[number % len(pools)].call("POST", "/tasks/distributed", TASK)
        return status == 202

    try:
        return await open_loop(rate, seconds, request)
    finally:
        for pool in pools:
            pool.close()


class TurnaroundAgent:
    """An agent that completes what it gets at once: with results in its next poll (batched) or one call a task."""

    def __init__(self, name: str, port: int, batch: int, on_assigned: Callable[[str], None], task_type: str = "bench") -> None:
        self.name = name
        self.batch = batch
        self.slots = max(batch * 2, 8) if batch > 1 else 8
        self.connection = Connection("127.0.0.1", port)
        self.side = Connection("127.0.0.1", port)
        self.on_assigned = on_assigned
        self.task_type = task_type
        self.completed = 0
        self.problems: dict[str, int] = {}
        self.epoch = 0

    async def register(self) -> None:
        body = {"id": self.name, "resources": {"slots": self.slots}, "task_types": [self.task_type]}
        status, raw = await self.connection.call("POST", "/agents", body)
        assert status in (200, 201), raw
        self.epoch = orjson.loads(raw)["agent_epoch"]

    async def run(self) -> None:
        """Until cancelled."""
        results: list[dict[str, object]] = []
        sequence = 0
        while True:
            sequence += 1
            poll = {"agent_epoch": self.epoch, "poll_seq": sequence, "held": [], "results": results, "progress": []}
            poll |= {"max": self.batch, "wait_ms": 0 if results and self.batch == 1 else 2000}
            status, raw = await self.connection.call("POST", f"/agents/{self.name}/poll", poll)
            if status != 200:
                await self._problem(raw)
                continue
            answer = orjson.loads(raw)
            for result in answer["results"]:
                if result.get("accepted") is True:
                    self.completed += 1
                else:
                    self._count(str(result.get("code") or result))
            results = []
            for item in answer["assignments"]:
                self.on_assigned(item["task_id"])
                result = {"task_id": item["task_id"], "epoch": item["epoch"], "status": "completed", "result": 1}
                if self.batch > 1:
                    results.append(result)
                else:
                    await self._complete(item)

    async def _complete(self, item: dict[str, object]) -> None:
        body = {"agent_id": self.name, "epoch": item["epoch"], "result": 1}
        status, raw = await self.side.call("POST", f"/tasks/{item['task_id']}/complete", body)
        if status == 200:
            self.completed += 1
        else:
            await self._problem(raw)

    async def _problem(self, raw: bytes) -> None:
        self._count(str(orjson.loads(raw).get("code")))
        await asyncio.sleep(0.05)

    def _count(self, code: str) -> None:
        self.problems[code] = self.problems.get(code, 0) + 1

    def close(self) -> None:
        self.connection.close()
        self.side.close()
