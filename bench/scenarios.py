"""What is measured on three real nodes, one function a figure; each returns plain numbers for the report.

The load runs on the same box as the nodes. CPU seconds are the nodes' own, without the load's.
"""

import asyncio
import contextlib
import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import orjson

from bench.cluster import Cluster, Node, cpu_seconds
from bench.histogram import Histogram
from bench.load import TASK, TurnaroundAgent, open_loop, submits
from bench.wire import Connection, Pool, events

Figures = dict[str, Any]


def fdatasync(directory: Path, rounds: int = 400) -> Figures:
    """What the disk itself takes to make 512 appended bytes durable, in milliseconds."""
    histogram = Histogram()
    path = directory / "fdatasync.probe"
    with path.open("wb", buffering=0) as file:
        for _ in range(rounds):
            file.write(b"x" * 512)
            started = time.perf_counter()
            os.fdatasync(file.fileno())
            histogram.record(time.perf_counter() - started)
    path.unlink()
    return histogram.summary()


def _pids(cluster: Cluster) -> list[int]:
    return [node.pid for node in cluster.alive]


async def single_submits(cluster: Cluster, rate: float = 1000, seconds: float = 8) -> Figures:
    """Single submits at a fixed rate over all nodes, and how long the leader took to commit them."""
    await submits(cluster, rate / 2, 1)
    before = cpu_seconds(_pids(cluster))
    outcome = await submits(cluster, rate, seconds)
    cpu = cpu_seconds(_pids(cluster)) - before
    stats = cluster.leader().call("GET", "/coordination/stats").body
    histograms = stats["node"]["histograms"]
    picked = {name: histograms[name] for name in ("fsync_us", "commit_us", "proposal_us", "apply_us") if name in histograms}
    return {
        **outcome.summary(),
        "cpu_s_per_1000": round(1000 * cpu / max(outcome.latency.count, 1), 3),
        "leader_us": picked,
        "curve": outcome.latency.curve(),
    }


async def highest_submits(cluster: Cluster, seconds: float = 5, connections: int = 16) -> Figures:
    """Closed loop: how many single submits a second the box takes when `connections` per node never pause."""
    histogram = Histogram()
    end = time.perf_counter() + seconds

    async def client(port: int) -> None:
        connection = Connection("127.0.0.1", port)
        while time.perf_counter() < end:
            started = time.perf_counter()
            status, _ = await connection.call("POST", "/tasks/distributed", TASK)
            if status == 202:
                histogram.record(time.perf_counter() - started)
        connection.close()

    await asyncio.gather(*(client(node.http_port) for node in cluster.alive for _ in range(connections)))
    return {
        "done_per_s": round(histogram.count / seconds, 1),
        "connections": connections * len(cluster.alive),
        **histogram.summary(),
    }


async def drain_queue(cluster: Cluster, task_type: str = "bench") -> None:
    """Completes what earlier measurements left in the queue."""
    ports = [node.http_port for node in cluster.alive]
    agents = [TurnaroundAgent(f"drain-{at}", port, 500, lambda _: None, task_type) for at, port in enumerate(ports)]
    async with running(agents):
        for _ in range(600):
            tasks = cluster.leader().call("GET", "/cluster/status").body["tasks"]
            if tasks["ready"] + tasks["assigned"] + tasks["running"] == 0:
                return
            await asyncio.sleep(0.1)
    raise TimeoutError("the queue did not drain in 60 s")


class running:
    """Agents that run while the block does, and leave after it."""

    def __init__(self, agents: list[TurnaroundAgent]) -> None:
        self.agents = agents

    async def __aenter__(self) -> list[TurnaroundAgent]:
        await asyncio.gather(*(agent.register() for agent in self.agents))
        self.tasks = [asyncio.create_task(agent.run()) for agent in self.agents]
        return self.agents

    async def __aexit__(self, *_: object) -> None:
        for task in self.tasks:
            task.cancel()
        results = await asyncio.gather(*self.tasks, return_exceptions=True)
        for agent in self.agents:
            with contextlib.suppress(OSError):
                await agent.side.call("DELETE", f"/agents/{agent.name}")
            agent.close()
        for result in results:
            if isinstance(result, Exception):
                raise result


async def _measure_cycles(
    cluster: Cluster, agents: list[TurnaroundAgent], feed: Callable[[], Awaitable[None]], seconds: float
) -> Figures:
    """Completed cycles between two moments while `feed` keeps the queue from running empty."""
    async with running(agents):
        feeding = asyncio.create_task(feed())
        await asyncio.sleep(1)
        done, cpu, started = sum(agent.completed for agent in agents), cpu_seconds(_pids(cluster)), time.perf_counter()
        own = time.process_time()
        await asyncio.sleep(seconds)
        done = sum(agent.completed for agent in agents) - done
        cpu = cpu_seconds(_pids(cluster)) - cpu
        own = time.process_time() - own
        elapsed = time.perf_counter() - started
        told = sum(agent.completed for agent in agents)
        stored = cluster.leader().call("GET", "/cluster/status").body["tasks"]["completed"]
        feeding.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await feeding
    # What agents were told is accepted must be there: a figure from answers alone could lie.
    assert stored >= told, f"{told} results were accepted, {stored} tasks are completed"
    problems: dict[str, int] = {}
    for agent in agents:
        for code, count in agent.problems.items():
            problems[code] = problems.get(code, 0) + count
    return {
        "cycles_per_s": round(done / elapsed, 1),
        "node_cpu_s_per_1000": round(1000 * cpu / max(done, 1), 3),
        "load_cpu_s_per_1000": round(1000 * own / max(done, 1), 3),
        "problems": problems,
    }


async def batched_cycles(cluster: Cluster, seconds: float = 8, batch: int = 500) -> Figures:
    """submit → assign → complete with arrays of tasks and results carried by polls."""
    ports = [node.http_port for node in cluster.alive]
    waiting = 0

    def assigned(_: str) -> None:
        nonlocal waiting
        waiting -= 1

    agents = [TurnaroundAgent(f"batch-{at}", ports[at % len(ports)], batch, assigned) for at in range(2 * len(ports))]
    body = b"[" + b",".join([TASK] * batch) + b"]"
    pool = Pool(ports[0], 4)

    async def feed() -> None:
        nonlocal waiting

        async def lane() -> None:
            nonlocal waiting
            while True:
                if waiting > 8 * batch:
                    await asyncio.sleep(0.005)
                    continue
                waiting += batch
                status, _ = await pool.call("POST", "/tasks/distributed", body)
                if status != 202:
                    waiting -= batch
                    await asyncio.sleep(0.05)

        await asyncio.gather(lane(), lane(), lane())

    figures = await _measure_cycles(cluster, agents, feed, seconds)
    pool.close()
    return {**figures, "batch": batch}


async def single_cycles(cluster: Cluster, seconds: float = 8) -> Figures:
    """The same with three calls a task: submit, poll (max 1), complete."""
    ports = [node.http_port for node in cluster.alive]
    agents = [TurnaroundAgent(f"single-{at}", ports[at % len(ports)], 1, lambda _: None) for at in range(8 * len(ports))]
    pools = [Pool(port, 8) for port in ports]

    async def feed() -> None:
        done = [0]

        async def lane(pool: Pool) -> None:
            while True:
                if done[0] - sum(agent.completed for agent in agents) > 400:
                    await asyncio.sleep(0.002)
                    continue
                done[0] += 1
                await pool.call("POST", "/tasks/distributed", TASK)

        await asyncio.gather(*(lane(pool) for pool in pools for _ in range(6)))

    figures = await _measure_cycles(cluster, agents, feed, seconds)
    for pool in pools:
        pool.close()
    return figures


async def assignment(cluster: Cluster, rate: float = 200, seconds: float = 6) -> Figures:
    """From the answer to a submit (the task is ready) to the moment an agent with free slots has it in hand."""
    ports = [node.http_port for node in cluster.alive]
    ready: dict[str, float] = {}
    early: dict[str, float] = {}
    histogram = Histogram()

    def assigned(task: str) -> None:
        now = time.perf_counter()
        if task in ready:
            histogram.record(now - ready.pop(task))
        else:
            early[task] = now  # the assignment overtook the answer to the submit

    agents = [TurnaroundAgent(f"quick-{at}", ports[at % len(ports)], 8, assigned) for at in range(6)]
    pools = [Pool(port, 8) for port in ports]

    async def request(number: int) -> bool:
        status, raw = await pools[number % len(pools)].call("POST", "/tasks/distributed", TASK)
        task = orjson.loads(raw)["id"]
        if task in early:
            early.pop(task)
            histogram.record(0.0)
        else:
            ready[task] = time.perf_counter()
        return status == 202

    async with running(agents):
        await open_loop(rate, seconds, request)
        await asyncio.sleep(0.5)
    for pool in pools:
        pool.close()
    return {"offered_per_s": rate, "never_assigned": len(ready), **histogram.summary(), "curve": histogram.curve()}


async def propagation(cluster: Cluster, rate: float = 100, seconds: float = 5) -> Figures:
    """From the answer to a write on one node to its event on the watch of every node (the slowest counts)."""
    nodes = cluster.alive
    seen: dict[str, list[float]] = {}
    written: dict[str, float] = {}

    async def watch(node: Node) -> None:
        async for data in events(node.http_port, "/watch?kinds=task"):
            now = time.perf_counter()
            for event in orjson.loads(data)["events"]:
                seen.setdefault(event["id"], []).append(now)

    watchers = [asyncio.create_task(watch(node)) for node in nodes]
    await asyncio.sleep(0.3)
    pool = Pool(nodes[0].http_port, 8)

    async def request(_: int) -> bool:
        status, raw = await pool.call("POST", "/tasks/distributed", TASK)
        written[orjson.loads(raw)["id"]] = time.perf_counter()
        return status == 202

    await open_loop(rate, seconds, request)
    await asyncio.sleep(0.3)
    for watcher in watchers:
        watcher.cancel()
    await asyncio.gather(*watchers, return_exceptions=True)
    pool.close()
    histogram, unseen = Histogram(), 0
    for task, moment in written.items():
        times = seen.get(task, [])
        if len(times) < len(nodes):
            unseen += 1
        else:
            histogram.record(max(0.0, max(times[: len(nodes)]) - moment))
    return {"offered_per_s": rate, "unseen": unseen, **histogram.summary(), "curve": histogram.curve()}


async def leader_kills(cluster: Cluster, rounds: int = 5) -> Figures:
    """kill -9 of the leader → the first write that another node accepts, in seconds."""
    times = []
    for _ in range(rounds):
        leader = cluster.leader()
        others = [node for node in cluster.alive if node is not leader]
        connections = [Connection("127.0.0.1", node.http_port) for node in others]
        killed = leader.kill()

        async def first(connection: Connection) -> float:
            while True:
                with contextlib.suppress(OSError):
                    status, _ = await connection.call("POST", "/tasks/distributed", TASK)
                    if status == 202:
                        return time.monotonic()
                await asyncio.sleep(0.005)

        tasks = [asyncio.create_task(first(connection)) for connection in connections]
        done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED, timeout=30)
        times.append(round(min(task.result() for task in done) - killed, 3))
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)
        for connection in connections:
            connection.close()
        await asyncio.to_thread(cluster.restart, leader)
    return {"seconds": times, "max_s": max(times)}


async def agent_loss(cluster: Cluster) -> Figures:
    """An agent falls silent with a task in hand → another agent has the task, in seconds."""
    connection = Connection("127.0.0.1", cluster.leader().http_port)
    epochs = {}
    for name in ("lost", "heir"):
        body = {"id": name, "task_types": ["precious"], "resources": {"slots": 1}}
        epochs[name] = orjson.loads((await connection.call("POST", "/agents", body))[1])["agent_epoch"]
    task = orjson.loads((await connection.call("POST", "/tasks/distributed", {"task_type": "precious"}))[1])["id"]

    async def poll(name: str, held: list[dict[str, object]]) -> list[dict[str, object]]:
        poll.sequence += 1  # type: ignore[attr-defined]
        body = {"agent_epoch": epochs[name], "poll_seq": poll.sequence, "held": held, "max": 1, "wait_ms": 300}  # type: ignore[attr-defined]
        status, raw = await connection.call("POST", f"/agents/{name}/poll", body)
        return list(orjson.loads(raw)["assignments"]) if status == 200 else []

    poll.sequence = 0  # type: ignore[attr-defined]
    holder = ""
    while not holder:
        for name in epochs:
            if given := await poll(name, []):
                holder = name
                await poll(name, [{"task_id": task, "epoch": given[0]["epoch"]}])
    silent = time.monotonic()
    other = "heir" if holder == "lost" else "lost"
    while not await poll(other, []):
        if time.monotonic() - silent > 30:
            raise TimeoutError("the task of a silent agent was not given to another in 30 s")
    elapsed = time.monotonic() - silent
    await connection.call("POST", f"/tasks/{task}/cancel", {"mode": "kill"})
    for name in epochs:
        await connection.call("DELETE", f"/agents/{name}")
    connection.close()
    return {"seconds": round(elapsed, 3)}


async def idle(cluster: Cluster, seconds: float = 5) -> Figures:
    """CPU (share of one core) and resident memory of each node without load."""
    await asyncio.sleep(1)
    before = {node.name: cpu_seconds([node.pid]) for node in cluster.alive}
    await asyncio.sleep(seconds)
    page = os.sysconf("SC_PAGE_SIZE")
    return {
        node.name: {
            "cpu_percent": round(100 * (cpu_seconds([node.pid]) - before[node.name]) / seconds, 2),
            "rss_mb": round(int(Path(f"/proc/{node.pid}/statm").read_text().split()[1]) * page / 1e6, 1),
        }
        for node in cluster.alive
    }


async def hot_key(cluster: Cluster, rate: float, seconds: float = 4) -> Figures:
    """Writes of one key at a fixed rate, from all nodes."""
    pools = [Pool(node.http_port, 16) for node in cluster.alive]

    async def request(number: int) -> bool:
        status, _ = await pools[number % len(pools)].call("PUT", "/state/hot", {"value": number})
        return status in (200, 201)

    outcome = await open_loop(rate, seconds, request)
    for pool in pools:
        pool.close()
    return outcome.summary()


async def preload(cluster: Cluster, live: int) -> None:
    """Submits tasks that no agent takes until `live` are in the queue."""
    present = int(cluster.leader().call("GET", "/cluster/status").body["tasks"]["ready"])
    pool = Pool(cluster.leader().http_port, 1)
    while present < live:
        count = min(500, live - present)
        status, raw = await pool.call("POST", "/tasks/distributed", b"[" + b",".join([TASK] * count) + b"]")
        assert status == 202, raw
        present += count
    pool.close()
