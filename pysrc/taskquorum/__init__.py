"""taskquorum: a task coordinator for fleets of AI agents that keeps its promise when machines die.

Importing the package costs next to nothing: each public name is loaded when it is first used, so
that an agent never pays for the server, nor a client for the agent.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from taskquorum.agent import Agent as Agent
    from taskquorum.client import AsyncClient as AsyncClient
    from taskquorum.context import Cancelled as Cancelled
    from taskquorum.context import Context as Context
    from taskquorum.context import LeaseLost as LeaseLost
    from taskquorum.context import TaskFailed as TaskFailed
    from taskquorum.errors import ProblemError as ProblemError
    from taskquorum.errors import ServerUnreachableError as ServerUnreachableError
    from taskquorum.errors import TaskquorumError as TaskquorumError
    from taskquorum.sync import Client as Client
    from taskquorum.task import Dag as Dag
    from taskquorum.task import Task as Task
    from taskquorum.task import TaskState as TaskState

__version__ = "0.1.0"

_HOMES = {
    "Agent": "agent",
    "ProblemError": "errors",
    "AsyncClient": "client",
    "Cancelled": "context",
    "Client": "sync",
    "Context": "context",
    "Dag": "task",
    "LeaseLost": "context",
    "Task": "task",
    "TaskFailed": "context",
    "TaskState": "task",
    "TaskquorumError": "errors",
    "ServerUnreachableError": "errors",
}

__all__ = [
    "Agent",
    "AsyncClient",
    "Cancelled",
    "Client",
    "Context",
    "Dag",
    "LeaseLost",
    "ProblemError",
    "ServerUnreachableError",
    "Task",
    "TaskFailed",
    "TaskState",
    "TaskquorumError",
    "__version__",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'taskquorum' has no attribute {name!r}")
    value = getattr(import_module(f"taskquorum.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
