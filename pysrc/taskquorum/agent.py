"""Agents: functions of yours that do tasks.

    agent = Agent("http://127.0.0.1:8080", capabilities={"nlp": 0.8}, slots=4)

    @agent.task("summarize")
    async def summarize(ctx, data):
        return {"text": data["text"][:100]}

    agent.run()

An agent needs nothing but HTTP to some server of the cluster, and moves to the next one when its
server fails. `AgentLoop` (agent_loop.py) does the work; this file is what a program declares.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from taskquorum.context import Context

TaskFunction = Callable[["Context", Any], Any | Awaitable[Any]]
"""Called with the context and the task's data; returns JSON (or an awaitable of it)."""
F = TypeVar("F", bound=Callable[..., Any])

DEFAULT_SERVER = "http://127.0.0.1:8080"
log = logging.getLogger("taskquorum.agent")


@dataclass(slots=True)
class Counts:
    """What an agent did since it started."""

    completed: int = 0
    failed: int = 0
    refused: int = 0
    """Results that the cluster refused, because another attempt holds or did the task."""
    lost: int = 0
    """Attempts given up because the lease was lost."""


@dataclass(slots=True)
class AgentConfig:
    """How an agent presents itself. Levels are 0..1, amounts whole numbers."""

    servers: str | list[str] = DEFAULT_SERVER
    id: str = ""
    node_id: str | None = None
    capabilities: Mapping[str, float] = field(default_factory=dict)
    slots: int = 1
    """Attempts at once, and threads for plain functions."""
    resources: Mapping[str, int] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    version: str = ""
    drain_grace_s: float = 30.0
    """After SIGTERM, how long running attempts may go on before their tasks go back to the queue."""

    def validate(self) -> None:
        """Raises ValueError that names the field."""
        if self.slots < 1:
            raise ValueError("slots: at least 1")
        if len(self.id) > 255:
            raise ValueError("id: at most 255 characters")
        for dimension, level in self.capabilities.items():
            if not 0.0 <= level <= 1.0:
                raise ValueError(f"capabilities: {dimension} is {level}, not between 0 and 1")


class Agent:
    """Task functions by type, and where to run them for."""

    def __init__(
        self,
        servers: str | list[str] = DEFAULT_SERVER,
        *,
        id: str | None = None,
        node_id: str | None = None,
        capabilities: Mapping[str, float] | None = None,
        slots: int = 1,
        resources: Mapping[str, int] | None = None,
        labels: Mapping[str, str] | None = None,
        version: str = "",
        drain_grace_s: float = 30.0,
    ) -> None:
        """`id` defaults to one made of host, process and chance. Raises ValueError for a bad field."""
        self.config = AgentConfig(
            servers=servers,
            id=id or default_agent_id(),
            node_id=node_id,
            capabilities=dict(capabilities or {}),
            slots=slots,
            resources=dict(resources or {}),
            labels=dict(labels or {}),
            version=version,
            drain_grace_s=drain_grace_s,
        )
        self.config.validate()
        self.functions: dict[str, TaskFunction] = {}
        self.counts = Counts()

    def task(self, task_type: str) -> Callable[[F], F]:
        """Registers the function for tasks of this type. Raises ValueError when the type has one."""

        def register(function: F) -> F:
            self.add(task_type, function)
            return function

        return register

    def add(self, task_type: str, function: TaskFunction) -> None:
        """What `task` does, without a decorator. Types are ≤ 50 characters."""
        if not 0 < len(task_type) <= 50:
            raise ValueError(f"task type {task_type!r}: 1 to 50 characters")
        if task_type in self.functions:
            raise ValueError(f"task type {task_type!r} has a function already")
        self.functions[task_type] = function

    def run(self) -> Counts:
        """Runs until SIGTERM or SIGINT, then drains; a second signal ends it at once."""
        return asyncio.run(self._run_until_signal())

    async def serve(self, stop: asyncio.Event) -> Counts:
        """Runs in the current event loop until `stop` is set, then drains."""
        from taskquorum.agent_loop import AgentLoop

        self.config.validate()
        if not self.functions:
            raise ValueError("an agent needs at least one task function")
        await AgentLoop(self.config, self.functions, self.counts).run(stop)
        return self.counts

    async def _run_until_signal(self) -> Counts:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()

        def on_signal(number: int) -> None:
            if stop.is_set():
                log.warning("second signal: leaving at once")
                os._exit(128 + number)
            stop.set()

        for number in (signal.SIGTERM, signal.SIGINT):
            if sys.platform != "win32":
                loop.add_signal_handler(number, on_signal, number)
        return await self.serve(stop)


def default_agent_id() -> str:
    """Unique for this process on this machine, and readable in a list."""
    return f"{socket.gethostname()[:64]}-{os.getpid()}-{os.urandom(3).hex()}"
