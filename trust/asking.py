"""One client of a recorded history: asks any node, and tells what came back as the history has it."""

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from bench.cluster import Node
from bench.wire import Connection

from trust.history import History, now_us

# Longer than an election; a node that is stopped keeps a client so long.
ATTEMPT_S = 1.2
PAUSE_S = 0.01


@dataclass(frozen=True)
class Answer:
    """Status 0: none came."""

    status: int
    body: Any
    called_us: int
    returned_us: int
    node: str

    @property
    def outcome(self) -> str:
        """`answered`, `none` (nothing was done) or `unknown`."""
        code = self.body.get("code") if isinstance(self.body, dict) else None
        if self.status == 0 or code == "outcome_unknown":
            return "unknown"
        if self.status in (429, 503, 507):
            return "none"
        if self.status >= 500 or self.status in (400, 405, 422):
            raise AssertionError(f"{self.node} answered {self.status} {self.body}")
        return "answered"


class Client:
    """A process of the history with a connection to every node."""

    def __init__(self, history: History, nodes: Sequence[Node], seed: int, consistency: str = "") -> None:
        self.history = history
        self.choice = random.Random(seed)
        self.process = history.process()
        # `?consistency=local` makes reads stale; a run with it must be rejected.
        self.reading = consistency
        self._connections = [(node.name, Connection(node.host, node.http_port)) for node in nodes]

    def close(self) -> None:
        for _, connection in self._connections:
            connection.close()

    async def ask(self, method: str, path: str, body: object = None, headers: str = "", timeout_s: float = ATTEMPT_S) -> Answer:
        """Asks a node chosen at random."""
        name, connection = self.choice.choice(self._connections)
        called_us = now_us()
        try:
            async with asyncio.timeout(timeout_s):
                status, raw = await connection.call(method, path, body, headers)
        except (OSError, TimeoutError):
            connection.close()
            status, raw = 0, b""
            await asyncio.sleep(PAUSE_S)
        if status == 503:
            await asyncio.sleep(PAUSE_S)
        return Answer(status, orjson.loads(raw) if raw else None, called_us, now_us() + 1, name)

    def note(
        self,
        answer: Answer,
        target: tuple[str, str],
        operation: str,
        argument: dict[str, Any] | None,
        shown: dict[str, Any] | None,
    ) -> None:
        """Records an operation. After one of unknown outcome this client goes on as another process. A read of unknown outcome
        tells nothing."""
        outcome = answer.outcome
        if outcome == "unknown" and operation == "get":
            outcome = "none"
        history = self.history
        history.add(self.process, answer.called_us, target, operation, argument, outcome, shown, answer.node, answer.returned_us)
        if outcome == "unknown":
            self.process = history.process()
