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
    from taskquorum.context import Context as Context
    from taskquorum.errors import ApiError as ApiError
    from taskquorum.errors import Cancelled as Cancelled
    from taskquorum.errors import LeaseLost as LeaseLost
    from taskquorum.errors import TaskFailed as TaskFailed
    from taskquorum.errors import TaskquorumError as TaskquorumError
    from taskquorum.errors import Unavailable as Unavailable
    from taskquorum.sync import Client as Client
    from taskquorum.task import Dag as Dag
    from taskquorum.task import Task as Task
    from taskquorum.task import TaskState as TaskState

__version__ = "0.1.0"

_HOMES = {
    "Agent": "agent",
    "ApiError": "errors",
    "AsyncClient": "client",
    "Cancelled": "errors",
    "Client": "sync",
    "Context": "context",
    "Dag": "task",
    "LeaseLost": "errors",
    "Task": "task",
    "TaskFailed": "errors",
    "TaskState": "task",
    "TaskquorumError": "errors",
    "Unavailable": "errors",
}

__all__ = [
    "Agent",
    "ApiError",
    "AsyncClient",
    "Cancelled",
    "Client",
    "Context",
    "Dag",
    "LeaseLost",
    "Task",
    "TaskFailed",
    "TaskState",
    "TaskquorumError",
    "Unavailable",
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
