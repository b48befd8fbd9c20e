"""An agent by raw HTTP that does only what it is told, also what no honest agent would."""

import itertools
from collections.abc import Sequence
from typing import Any

from bench.cluster import Answer, Node

Attempt = tuple[str, int]


class RawAgent:
    """Registered under `name`; speaks to `nodes` in turn when one does not answer."""

    def __init__(self, nodes: Sequence[Node], name: str, task_type: str, slots: int = 8) -> None:
        self.name = name
        self.held: set[Attempt] = set()
        self.agent_epoch = 0
        self._nodes = itertools.cycle(nodes)
        self._tries = 4 * len(nodes)
        self._node = next(self._nodes)
        self._registration = {"id": name, "task_types": [task_type], "resources": {"slots": slots}}
        self._poll_seq = 0

    def ask(self, method: str, path: str, body: object = None) -> Answer:
        """Asks one node after the other until one answers other than 503. Raises TimeoutError."""
        for _ in range(self._tries):
            answer = self._node.try_call(method, path, body, timeout_s=3.0)
            if answer is not None and answer.status not in (429, 503):
                return answer
            self._node = next(self._nodes)
        raise TimeoutError(f"no node answered {self.name}'s {method} {path}")

    def register(self) -> None:
        answer = self.ask("POST", "/agents", self._registration)
        assert answer.status in (200, 201), answer.raw
        self.agent_epoch = answer.body["agent_epoch"]

    def poll(self, wait_ms: int = 500, results: Sequence[dict[str, Any]] = ()) -> dict[str, Any]:
        """Beats, and takes what it is given into `held`; the answer."""
        self._poll_seq += 1
        held = [{"task_id": task_id, "epoch": epoch} for task_id, epoch in sorted(self.held)]
        body = {"agent_epoch": self.agent_epoch, "poll_seq": self._poll_seq, "held": held, "wait_ms": wait_ms}
        answer = self.ask("POST", f"/agents/{self.name}/poll", {**body, "results": list(results)})
        if answer.status in (404, 409):
            return {"assignments": [], "commands": [], "results": [], "gone": answer.body["code"]}
        assert answer.status == 200, answer.raw
        for command in answer.body["commands"]:
            self.held.discard((command.get("task_id"), command.get("epoch")))
        self.held |= {(item["task_id"], item["epoch"]) for item in answer.body["assignments"]}
        shown: dict[str, Any] = answer.body
        return shown

    def complete(self, attempt: Attempt, result: object) -> Answer:
        """Says that it completed this attempt, whether it holds it or not."""
        task_id, epoch = attempt
        self.held.discard(attempt)
        return self.ask("POST", f"/tasks/{task_id}/complete", {"agent_id": self.name, "epoch": epoch, "result": result})
