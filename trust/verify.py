"""Load on real nodes whose every acknowledgement is remembered, and the check that the nodes kept them all.

with Load(cluster, run="r7") as load:
    load.wait_for(50)
    ...  # break something, mend it
    load.wait_for(50)
counts = verify(cluster, load.ledger, run="r7")  # raises Violation
"""

import asyncio
import http.client
import json
import random
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress

import orjson
from bench.cluster import Cluster, Node, until
from bench.wire import Connection

from trust.ledger import OP_LABEL, Ack, Ledger, complaint, judge
from trust.suite import Counts, Violation
from trust.writers import Writers

# An attempt without an answer for this long is tried again elsewhere.
ATTEMPT_S = 3.0
# Between attempts, so that a cluster without a leader is not kept busy by refusals.
PAUSE_S = 0.02
# Until all nodes are ready and hold the same, after everything was mended.
CONVERGE_S = 60.0
PAGE = 1000


class Load(Writers):
    """Clients that submit without pause, or at `rate` a second together, to any node, until the context ends.

    Each submit is tried again on another node with the same idempotency key until it is acknowledged, so that every attempt
    after an unknown outcome tests the deduplication too. At most `clients` requests are under way. `run` names the tasks'
    type: a check looks at the tasks of one run alone, so that runs can share a cluster.
    """

    def __init__(
        self, cluster: Cluster, run: str, seed: int = 0, clients: int = 8, rate: float | None = None, nodes: Iterable[Node] = ()
    ) -> None:
        super().__init__(run, "trust-load")
        self.cluster = cluster
        self._nodes = list(nodes)
        self._seed = seed
        self._client_count = clients
        self._pause_s = clients / rate if rate else 0.0
        self._going = asyncio.Event()
        self._going.set()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """No attempt begins in this context; those under way go on."""
        self._loop.call_soon_threadsafe(self._going.clear)
        try:
            yield
        finally:
            self._loop.call_soon_threadsafe(self._going.set)

    @property
    def acknowledged(self) -> int:
        return len(self.ledger.acks)

    def wait_for(self, more: int, timeout_s: float = 30.0) -> None:
        """Waits until so many more writes were acknowledged. Raises TimeoutError."""
        wanted = self.acknowledged + more
        self.wait(lambda: self.acknowledged >= wanted, f"{more} more writes are acknowledged", timeout_s)

    def first_sent_after(self, moment: float, timeout_s: float = 30.0) -> Ack:
        """The earliest acknowledgement of an attempt that was sent after `moment`. Raises TimeoutError."""
        self.wait(lambda: self._after(moment) is not None, "a write that was sent after the fault is acknowledged", timeout_s)
        found = self._after(moment)
        assert found is not None
        return found

    def _after(self, moment: float) -> Ack | None:
        return min((ack for ack in list(self.ledger.acks.values()) if ack.sent_at > moment), key=lambda a: a.at, default=None)

    async def _clients(self) -> None:
        async with asyncio.TaskGroup() as group:
            for number in range(self._client_count):
                group.create_task(self._client(number))

    async def _client(self, number: int) -> None:
        choice = random.Random(self._seed * 1_000 + number)
        connections: dict[str, Connection] = {}
        count = 0
        try:
            while True:
                began = time.monotonic()
                key = f"{self.run}-{number}-{count}"
                count += 1
                await self._until_acknowledged(key, connections, choice)
                left = self._pause_s - (time.monotonic() - began)
                if left > 0:
                    await asyncio.sleep(left)
        finally:
            for connection in connections.values():
                connection.close()

    async def _until_acknowledged(self, key: str, connections: dict[str, Connection], choice: random.Random) -> None:
        while True:
            await self._going.wait()
            # Nodes may join and leave while it runs.
            node = choice.choice(self._nodes or list(self.cluster.nodes.values()))
            connection = connections.setdefault(node.name, Connection(node.host, node.http_port))
            sent_at = time.monotonic()
            status, raw = await self._submit(connection, key, ATTEMPT_S)
            if status == 202:
                ack = Ack(key, orjson.loads(raw)["id"], sent_at, time.monotonic(), node.name)
                with self._told:
                    self.ledger.acknowledge(ack)
                    self._told.notify_all()
                return
            if 400 <= status < 500 and status not in (408, 409, 425, 429):
                raise AssertionError(f"a submit was refused: {status} {raw[:300]!r}")
            await asyncio.sleep(PAUSE_S)


def status_of(node: Node) -> dict[str, object] | None:
    """The node's own view, or None without an answer."""
    answer = node.try_call("GET", "/cluster/status")
    return answer.body if answer is not None and answer.status == 200 else None


def converged(nodes: Iterable[Node]) -> dict[str, object] | None:
    """The status that all nodes share, once all have applied the same index; None before.

    Raises [`Violation`] if their state hashes differ at the same index.
    """
    views = {node.name: status_of(node) for node in nodes}
    hashes: dict[object, dict[str, object]] = {}
    for name, view in views.items():
        if view is None:
            return None
        state = view["state_hash"]
        assert isinstance(state, dict)
        if state["agrees"] is False:
            raise Violation(f"{name} says that a replica's state differs from its own: {json.dumps(state)}")
        hashes.setdefault(state["index"], {})[name] = state["hash"]
    for index, by_node in hashes.items():
        if len(set(by_node.values())) > 1:
            raise Violation(f"the nodes' states differ at index {index}: {json.dumps(by_node)}")
    return next(iter(views.values())) if len(hashes) == 1 else None


def held(node: Node, run: str) -> dict[str, list[str]]:
    """Keys of a run → ids of their tasks, in the node's own state (nobody else is asked)."""
    keys: dict[str, list[str]] = {}
    cursor = ""
    while True:
        path = f"/tasks/distributed?task_type={run}&limit={PAGE}&consistency=local"
        answer = node.call("GET", path + (f"&cursor={cursor}" if cursor else ""), timeout_s=20)
        if answer.status != 200:
            raise RuntimeError(f"{node.name} does not list its tasks: {answer.status} {answer.raw[:300]!r}")
        for item in answer.body["items"]:
            keys.setdefault(item["labels"].get(OP_LABEL, ""), []).append(item["id"])
        cursor = answer.body["next_cursor"]
        if not cursor:
            return keys


def verify(cluster: Cluster, ledger: Ledger, run: str, timeout_s: float = CONVERGE_S) -> Counts:
    """Waits until all nodes are ready, have applied the same index and have the same hash, then checks that every
    acknowledged write is on each of them exactly once.

    Returns counts for the runner: `acknowledged`, `unknown` (sent, never answered), `lost`, `doubled`. Raises
    [`Violation`] if the nodes do not come to agree in time, differ, lost a write or doubled one.
    """
    nodes = list(cluster.nodes.values())
    deadline = time.monotonic() + timeout_s
    try:
        until(lambda: all(node.ready() for node in nodes), "all nodes are ready", timeout_s)
        while True:
            before = until(lambda: converged(nodes), "all nodes have applied the same", deadline - time.monotonic())
            held_by = {node.name: held(node, run) for node in nodes}
            after = converged(nodes)
            # What had no answer may still be applied: the nodes are compared at one revision.
            if after is not None and after["revision"] == before["revision"]:
                break
    except (TimeoutError, RuntimeError) as error:
        raise Violation(f"the cluster did not come together again: {error}") from error
    except Violation as differs:
        # A divergence is often the trace of a write that a client lost: both belong to the finding.
        wrong = complaint(ledger, held_by_those_that_answer(nodes, run))
        raise Violation(f"{differs}; {wrong}" if wrong else str(differs)) from differs
    return judge(ledger, held_by)


def held_by_those_that_answer(nodes: Iterable[Node], run: str) -> dict[str, dict[str, list[str]]]:
    """[`held`] of each node that lists its tasks: one that fenced itself does not."""
    found = {}
    for node in nodes:
        with suppress(OSError, http.client.HTTPException, RuntimeError):
            found[node.name] = held(node, run)
    return found
