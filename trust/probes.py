"""Clients that write to every node all the time and note what each attempt was told.

Unlike `verify.Load`, an attempt stays with its node and is not tried again until the end, so that it shows what that node said
at that moment. At the end every write of unknown outcome is sent once more, to any node, until it is acknowledged.
"""

import asyncio
import time
from collections.abc import Iterable
from dataclasses import dataclass

import orjson
from bench.cluster import Node
from bench.wire import Connection

from trust.ledger import Ack
from trust.writers import Writers

# An attempt without an answer for this long counts as unanswered.
ATTEMPT_S = 0.5
PAUSE_S = 0.05
CLIENTS_A_NODE = 2
STALL_STEP_S = 0.02
RETRY_S = 30.0


@dataclass(frozen=True)
class Attempt:
    """One write: times in monotonic seconds; status 0: no answer."""

    node: str
    key: str
    sent_at: float
    ended_at: float
    status: int
    code: str

    @property
    def acknowledged(self) -> bool:
        return self.status == 202

    @property
    def refused(self) -> bool:
        """Whether the node said that nothing was done."""
        return self.status in (429, 503) and self.code != "outcome_unknown"


class Probes(Writers):
    """A context manager; the attempts may be read after it ended."""

    def __init__(self, nodes: Iterable[Node], run: str) -> None:
        super().__init__(run, "trust-probes")
        self.attempts: list[Attempt] = []
        # The longest that this process was not scheduled: what was measured is not better than that.
        self.stall_s = 0.0
        self._nodes = list(nodes)

    def hold(self, seconds: float) -> None:
        """Lets the clients work for a time."""
        until = time.monotonic() + seconds
        with self._told:
            self._told.wait_for(lambda: time.monotonic() >= until, seconds)

    def acknowledged_by(self, names: Iterable[str], since: float) -> bool:
        """Whether each of these nodes has acknowledged a write sent after `since`."""
        left = set(names)
        for attempt in reversed(self.attempts):
            if attempt.sent_at < since - 60:
                break
            if attempt.acknowledged and attempt.sent_at >= since:
                left.discard(attempt.node)
        return not left

    async def _clients(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._watch())
            for number in range(CLIENTS_A_NODE):
                for node in self._nodes:
                    group.create_task(self._client(node, number))

    async def _watch(self) -> None:
        while True:
            before = time.monotonic()
            await asyncio.sleep(STALL_STEP_S)
            self.stall_s = max(self.stall_s, time.monotonic() - before - STALL_STEP_S)

    async def _client(self, node: Node, number: int) -> None:
        connection = Connection(node.host, node.http_port)
        count = 0
        try:
            while True:
                await self._attempt(connection, node.name, f"{self.run}-{node.name}-{number}-{count}")
                count += 1
                await asyncio.sleep(PAUSE_S)
        finally:
            connection.close()

    async def _attempt(self, connection: Connection, name: str, key: str) -> Attempt:
        sent_at = time.monotonic()
        status, raw = await self._submit(connection, key, ATTEMPT_S)
        ended_at = time.monotonic()
        answer = orjson.loads(raw) if raw else {}
        if status not in (0, 202, 429, 503):
            raise AssertionError(f"a submit was answered with {status} {raw[:300]!r}")
        attempt = Attempt(name, key, sent_at, ended_at, status, str(answer.get("code", "")))
        with self._told:
            self.attempts.append(attempt)
            if attempt.acknowledged:
                self.ledger.acknowledge(Ack(key, answer["id"], sent_at, ended_at, name))
            self._told.notify_all()
        return attempt

    def settle(self) -> int:
        """After the context: sends every write of unknown outcome again until it is acknowledged; how many there were."""
        refused = {attempt.key for attempt in self.attempts if attempt.refused}
        open_keys = sorted(self.ledger.sent - set(self.ledger.acks) - refused)

        async def all_of_them() -> None:
            connections = [(node.name, Connection(node.host, node.http_port)) for node in self._nodes]
            async with asyncio.timeout(RETRY_S):
                for number, key in enumerate(open_keys):
                    turn = number
                    while not (await self._attempt(connections[turn % len(connections)][1], "again", key)).acknowledged:
                        turn += 1
                        await asyncio.sleep(PAUSE_S)
            for _, connection in connections:
                connection.close()

        asyncio.run(all_of_them())
        return len(open_keys)
