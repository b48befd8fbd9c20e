"""Clients and agents of the task queue for recorded histories.

Clients submit the same few tasks again and again, by idempotency key or by id, read and cancel them. Agents fetch by raw HTTP,
hold what they got for a while, complete it (some twice, some after they had let it go so that it was given to another), from any
node.
"""

import asyncio
import uuid
from collections.abc import Sequence
from typing import Any

from bench.cluster import Node

from trust.asking import Answer, Client
from trust.history import History

CLIENTS = 8
AGENTS = 4
ACTIVE = 10
# A task is left after so many operations of clients; agents may still work on it.
OPERATIONS_A_TASK = 30
POLL_MS = 150
HELD_MAX = 8
# Agents that let a task go without a word, complete twice, complete late.
FORGETS, TWICE, LATE = 0.08, 0.15, 0.5


class Tasks:
    """Which tasks are in use, and the ids that answers gave them."""

    def __init__(self, run: str, history: History, nodes: Sequence[Node], seed: int, reading: str = "") -> None:
        self.history = history
        # Set to end the clients, each after its operation: one that is cut short would be missing in the history.
        self.over = False
        self.ids: dict[str, str] = {}
        self._run = run
        self._nodes = nodes
        self._seed = seed
        self._reading = reading
        self._numbers = list(range(ACTIVE))
        self._used = [0] * ACTIVE
        self._results = 0

    def name(self, slot: int) -> str:
        """A task's name, and counts the use. Every other task has an id chosen by clients, which is its name."""
        number = self._numbers[slot]
        self._used[slot] += 1
        if self._used[slot] >= OPERATIONS_A_TASK:
            self._used[slot] = 0
            self._numbers[slot] = max(self._numbers) + 1
        if number % 2:
            return f"{self._run}-{number}"
        name = str(uuid.uuid5(uuid.NAMESPACE_OID, f"{self._run}-{number}"))
        self.named(name, name)
        return name

    def named(self, name: str, task_id: str) -> None:
        """An answer said that the task `name` has this id (the first such answer stands)."""
        self.ids.setdefault(name, task_id)

    def clients(self) -> list["asyncio.Task[None]"]:
        """Starts clients and agents."""
        clients = [asyncio.create_task(self._client(number)) for number in range(CLIENTS)]
        return clients + [asyncio.create_task(self._agent(number)) for number in range(AGENTS)]

    async def _client(self, number: int) -> None:
        client = Client(self.history, self._nodes, self._seed * 1000 + 100 + number, self._reading)
        try:
            while not self.over:
                name = self.name(client.choice.randrange(ACTIVE))
                dice = client.choice.random()
                if dice < 0.35 or name not in self.ids:
                    await self._submit(client, name)
                elif dice < 0.97:
                    await read(client, name, self.ids[name])
                else:
                    answer = await client.ask("POST", f"/tasks/{self.ids[name]}/cancel", {"mode": "kill"})
                    client.note(answer, ("task", name), "cancel", None, _changed(answer))
        finally:
            client.close()

    async def _submit(self, client: Client, name: str) -> None:
        # Agents learn the name with the task, also of one whose submit was never answered.
        body = {"task_type": self._run, "task_data": {"name": name}} | (
            {"id": name} if name in self.ids and self.ids[name] == name else {}
        )
        if "id" not in body:
            body["idempotency_key"] = name
        answer = await client.ask("POST", "/tasks/distributed", body)
        shown = None
        if answer.status == 202:
            self.named(name, answer.body["id"])
            shown = {"ok": True, "task": {"id": answer.body["id"]}}
        client.note(answer, ("task", name), "submit", None, shown or {"ok": False, "task": None})

    async def _agent(self, number: int) -> None:
        client = Client(self.history, self._nodes, self._seed * 1000 + 200 + number)
        agent = _Agent(self, client, f"{self._run}-agent-{number}", self._run)
        try:
            while not self.over:
                await agent.turn()
        finally:
            client.close()

    def result(self) -> int:
        """A result that no other completion has."""
        self._results += 1
        return self._results


class _Agent:
    """What it holds: (task id, epoch) → polls until it completes; what it let go may be completed late.

    `names` is bounded by the tasks of a run.
    """

    def __init__(self, tasks: Tasks, client: Client, name: str, task_type: str) -> None:
        self.tasks = tasks
        self.client = client
        self.name = name
        self.task_type = task_type
        self.agent_epoch = 0
        self.poll_seq = 0
        self.held: dict[tuple[str, int], int] = {}
        self.names: dict[str, str] = {}
        self.let_go: list[tuple[str, int]] = []

    async def turn(self) -> None:
        """Registers if it has to, else completes what is due and polls."""
        client = self.client
        if not self.agent_epoch:
            body = {"id": self.name, "task_types": [self.task_type], "resources": {"slots": HELD_MAX}}
            answer = await client.ask("POST", "/agents", body)
            self.agent_epoch = answer.body["agent_epoch"] if answer.status in (200, 201) else 0
            self.held.clear()
            return
        due = [attempt for attempt, polls in self.held.items() if polls <= 0]
        for attempt in due:
            del self.held[attempt]
            if client.choice.random() < FORGETS:
                self.let_go.append(attempt)
                continue
            await self._complete(attempt)
            if client.choice.random() < TWICE:
                await self._complete(attempt)
        if self.let_go and client.choice.random() < 0.02:
            attempt = self.let_go.pop(0)
            if client.choice.random() < LATE:
                await self._complete(attempt)
        await self._poll()

    async def _complete(self, attempt: tuple[str, int]) -> None:
        task_id, epoch = attempt
        argument = {"agent": self.name, "epoch": epoch, "result": self.tasks.result()}
        body = {"agent_id": self.name, "epoch": epoch, "result": argument["result"]}
        answer = await self.client.ask("POST", f"/tasks/{task_id}/complete", body)
        self.client.note(answer, ("task", self.names[task_id]), "complete", argument, _completed(answer))

    async def _poll(self) -> None:
        client = self.client
        self.poll_seq += 1
        held = [{"task_id": task_id, "epoch": epoch} for task_id, epoch in self.held]
        body = {"agent_epoch": self.agent_epoch, "poll_seq": self.poll_seq, "held": held, "max": HELD_MAX, "wait_ms": POLL_MS}
        answer = await client.ask("POST", f"/agents/{self.name}/poll", body)
        for attempt in self.held:
            self.held[attempt] -= 1
        if answer.status in (404, 409):
            self.agent_epoch = 0
            return
        if answer.status != 200:
            return
        for command in answer.body["commands"]:
            if command["kind"] in ("revoke", "reconcile", "cancel"):
                self.held.pop((command.get("task_id"), command.get("epoch")), None)
        for item in answer.body["assignments"]:
            self.held[item["task_id"], item["epoch"]] = client.choice.randrange(4)
            name = self.names[item["task_id"]] = item["task_data"]["name"]
            argument = {"agent": self.name, "epoch": item["epoch"]}
            client.note(answer, ("task", name), "hand_over", argument, {"ok": True})


def _changed(answer: Answer) -> dict[str, Any]:
    """The task as a cancel left it, or as a refusal found it."""
    body = answer.body or {}
    if answer.status == 200:
        return {"ok": True, "task": {"id": body["id"], "status": body["status"], "epoch": body["epoch"]}}
    if answer.status == 409:
        holder = body["holder"] or {}
        return {"ok": False, "task": {"status": body["task_status"], "epoch": body["epoch"], "agent": holder.get("agent_id")}}
    return {"ok": False, "task": None}


def _completed(answer: Answer) -> dict[str, Any]:
    return {"ok": True, "task": None} if answer.status == 200 else _changed(answer)


async def read(client: Client, name: str, task_id: str) -> bool:
    """Reads a task; whether an answer came."""
    answer = await client.ask("GET", f"/tasks/distributed/{task_id}{client.reading}")
    shown = None
    if answer.status == 200:
        task = answer.body
        shown = {"id": task["id"], "status": task["status"], "epoch": task["epoch"], "agent": task["assigned_agent_id"]}
        if task["status"] == "completed":
            shown["result"] = task["result"]
    client.note(answer, ("task", name), "get", None, {"ok": True, "task": shown})
    return answer.outcome == "answered"
