"""Clients of keys for recorded histories: reads, writes, writes with conditions, deletes on a few keys at a time."""

import asyncio
from collections.abc import Sequence
from typing import Any

from bench.cluster import Node

from trust.asking import Answer, Client
from trust.history import History

CLIENTS = 10
ACTIVE = 6
# A key is left after so many operations: the checker's work grows with what is on one key.
OPERATIONS_A_KEY = 80


class Keys:
    """Which keys are in use, and what is known of them."""

    def __init__(self, run: str, history: History, nodes: Sequence[Node], seed: int, reading: str = "") -> None:
        self.history = history
        # Set to end the clients, each after its operation: one that is cut short would be missing in the history.
        self.over = False
        self._run = run
        self._nodes = nodes
        self._seed = seed
        self._reading = reading
        self._used = [0] * ACTIVE
        self._names = list(range(ACTIVE))
        self._values = 0
        self.left: list[str] = []

    def take(self, slot: int) -> str:
        """A key's name; counts the use."""
        name = f"{self._run}-{self._names[slot]}"
        self._used[slot] += 1
        if self._used[slot] >= OPERATIONS_A_KEY:
            self.left.append(name)
            self._used[slot] = 0
            self._names[slot] = max(self._names) + 1
        return name

    def value(self) -> int:
        """A value that no other write has."""
        self._values += 1
        return self._values

    def clients(self) -> list["asyncio.Task[None]"]:
        """Starts the clients."""
        return [asyncio.create_task(self._client(number)) for number in range(CLIENTS)]

    async def _client(self, number: int) -> None:
        client = Client(self.history, self._nodes, self._seed * 1000 + number, self._reading)
        seen: dict[str, int] = {}
        try:
            while not self.over:
                await self._one(client, self.take(client.choice.randrange(ACTIVE)), seen)
        finally:
            client.close()

    async def _one(self, client: Client, name: str, seen: dict[str, int]) -> None:
        dice = client.choice.random()
        if dice < 0.4:
            await read(client, name, seen)
        elif dice < 0.6:
            await self._put(client, name, "put", "", {}, seen)
        elif dice < 0.85 and name in seen:
            revision = seen[name]
            await self._put(client, name, "put_if", f'If-Match: "{revision}"\r\n', {"revision": revision}, seen)
        elif dice < 0.93:
            await self._put(client, name, "create", "If-None-Match: *\r\n", {}, seen)
        else:
            answer = await client.ask("DELETE", f"/state/{name}")
            client.note(answer, ("key", name), "delete", None, {"ok": answer.status == 200, "key": None})

    async def _put(
        self, client: Client, name: str, operation: str, headers: str, argument: dict[str, Any], seen: dict[str, int]
    ) -> None:
        argument = {"value": self.value(), **argument}
        answer = await client.ask("PUT", f"/state/{name}", {"value": argument["value"]}, headers)
        client.note(answer, ("key", name), operation, argument, _written(answer))
        if answer.status in (200, 201):
            seen[name] = answer.body["revision"]


def _written(answer: Answer) -> dict[str, Any] | None:
    if answer.status in (200, 201):
        return {"ok": True, "key": {"revision": answer.body["revision"], "version": answer.body["version"]}}
    current = answer.body.get("current") if answer.body else None
    shown = {"revision": current["revision"], "version": current["version"]} if current else None
    return {"ok": False, "key": shown}


async def read(client: Client, name: str, seen: dict[str, int]) -> bool:
    """Reads a key and notes its revision; whether an answer came."""
    answer = await client.ask("GET", f"/state/{name}{client.reading}")
    shown = None
    if answer.status == 200:
        shown = {field: answer.body[field] for field in ("value", "revision", "version")}
        seen[name] = shown["revision"]
    client.note(answer, ("key", name), "get", None, {"ok": True, "key": shown})
    return answer.outcome == "answered"
