"""What a client submits (`Task`, `Dag`) and what it gets back (`TaskState`, `Submitted`).

A spec is written to the wire with the fields that were set and no others, so that the server's
defaults hold and a field of a later release does no harm while it is not used.
"""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

ENDED = frozenset({"completed", "failed", "skipped", "cancelled"})
"""Statuses that a task never leaves by itself."""

SETTLED = ENDED | {"parked"}
"""Statuses that end a wait: parked needs somebody to act."""


def uuid7() -> str:
    """A fresh UUIDv7: 48 bits of milliseconds, then random bits, so that ids sort by time."""
    value = (time.time_ns() // 1_000_000) << 80 | int.from_bytes(os.urandom(10), "big")
    value = value & ~(0xF << 76) | 7 << 76
    value = value & ~(0x3 << 62) | 2 << 62
    return str(uuid.UUID(int=value))


def rfc3339(moment: datetime | str) -> str:
    """A time as the API writes it. A naive datetime is refused with ValueError: it names no instant."""
    if isinstance(moment, str):
        return moment
    if moment.tzinfo is None:
        raise ValueError("a time needs its zone, for example datetime.now(UTC)")
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


@dataclass(slots=True)
class Task:
    """One task to submit; only `task_type` is required.

    `capabilities` maps a dimension to a least level 0..1 (or `{"min", "weight"}`), `resources` a
    name to an amount (`slots` defaults to 1), `agent_labels` are labels that the agent must carry.
    Times are milliseconds where the name says so; 0 means no limit.
    """

    task_type: str
    data: Any = None
    capabilities: Mapping[str, float | Mapping[str, float]] = field(default_factory=dict)
    name: str | None = None
    """Local name in a DAG."""
    id: str | None = None
    """A UUID of the caller's; made by `submit` when absent, so that a repeat is the same task."""
    priority: int = 0
    """-10..10, higher first."""
    resources: Mapping[str, int] = field(default_factory=dict)
    agent_labels: Mapping[str, str] = field(default_factory=dict)
    dependencies: Sequence[str] = ()
    """Names in the same DAG, or ids of existing tasks."""
    on_dependency_failure: str | None = None
    """`fail` (default), `skip` or `run`."""
    optional: bool = False
    not_before: datetime | str | None = None
    deadline: datetime | str | None = None
    queue_ms: int = 0
    run_ms: int = 0
    total_ms: int = 0
    retry: Mapping[str, Any] = field(default_factory=dict)
    """`max_attempts`, `backoff_ms`, `factor`, `max_backoff_ms`, `non_retryable`."""
    idempotent: bool = False
    preemptible: bool = False
    size_hint: int = 0
    tenant: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Further fields of the API, sent as they are."""

    def to_wire(self) -> dict[str, Any]:
        """The object that `POST /tasks/distributed` takes."""
        wire: dict[str, Any] = {"task_type": self.task_type}
        if self.data is not None:
            wire["task_data"] = self.data
        requirements = {
            "capabilities": dict(self.capabilities),
            "resources": dict(self.resources),
            "labels": dict(self.agent_labels),
        }
        timeouts = {"queue_ms": self.queue_ms, "run_ms": self.run_ms, "total_ms": self.total_ms}
        optional: dict[str, Any] = {
            "id": self.id,
            "name": self.name,
            "priority": self.priority,
            "requirements": {key: value for key, value in requirements.items() if value},
            "dependencies": list(self.dependencies),
            "on_dependency_failure": self.on_dependency_failure,
            "optional": self.optional,
            "not_before": None if self.not_before is None else rfc3339(self.not_before),
            "deadline": None if self.deadline is None else rfc3339(self.deadline),
            "timeouts": {key: value for key, value in timeouts.items() if value},
            "retry": dict(self.retry),
            "idempotent": self.idempotent,
            "preemptible": self.preemptible,
            "size_hint": self.size_hint,
            "tenant": self.tenant,
            "labels": dict(self.labels),
        }
        wire.update({key: value for key, value in optional.items() if value})
        wire.update(self.extra)
        return wire


@dataclass(slots=True)
class Dag:
    """Tasks that depend on each other by name; they enter whole or not at all (≤ 10,000 tasks)."""

    tasks: list[Task] = field(default_factory=list)
    join: str | None = None
    """When the parent completes: `all` (default), `any` or `quorum` (then `count`)."""
    count: int | None = None
    priority: int = 0
    labels: Mapping[str, str] = field(default_factory=dict)
    tenant: str | None = None
    deadline: datetime | str | None = None

    def add(self, task: Task, *, after: Sequence[str] = ()) -> str:
        """Adds a task behind those named in `after` and returns its name (made up when it has none)."""
        if task.name is None:
            task.name = f"{task.task_type}-{len(self.tasks)}"
        task.dependencies = [*task.dependencies, *after]
        self.tasks.append(task)
        return task.name

    def to_wire(self) -> dict[str, Any]:
        """The object that `POST /tasks/distributed` takes."""
        wire: dict[str, Any] = {"tasks": [task.to_wire() for task in self.tasks]}
        if self.join is not None:
            wire["join"] = {"policy": self.join} | ({} if self.count is None else {"count": self.count})
        optional: dict[str, Any] = {
            "priority": self.priority,
            "labels": dict(self.labels),
            "tenant": self.tenant,
            "deadline": None if self.deadline is None else rfc3339(self.deadline),
        }
        wire.update({key: value for key, value in optional.items() if value})
        return wire


@dataclass(frozen=True, slots=True)
class TaskState:
    """A task as the server described it; `raw` has every field of the answer."""

    raw: Mapping[str, Any]

    @property
    def id(self) -> str:
        return str(self.raw["id"])

    @property
    def status(self) -> str:
        return str(self.raw["status"])

    @property
    def ended(self) -> bool:
        """Completed, failed, skipped or cancelled."""
        return self.status in ENDED

    @property
    def succeeded(self) -> bool:
        return self.status == "completed"

    @property
    def result(self) -> Any:
        """The result, or None while there is none."""
        return self.raw.get("result")

    @property
    def error(self) -> Mapping[str, Any] | None:
        """`{"code", "message", "retryable"}` of the last failure, if any."""
        error: Mapping[str, Any] | None = self.raw.get("error")
        return error

    @property
    def assigned_agent_id(self) -> str | None:
        agent = self.raw.get("assigned_agent_id")
        return None if agent is None else str(agent)

    def __getitem__(self, name: str) -> Any:
        return self.raw[name]


@dataclass(frozen=True, slots=True)
class Submitted:
    """The answer to a submit: the task's (or the DAG parent's) id, and the ids by name of a DAG."""

    id: str
    revision: int
    status: str | None = None
    tasks: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a list, newest first."""

    items: Sequence[Mapping[str, Any]]
    next_cursor: str | None
    revision: int
    count: int | None = None


@dataclass(frozen=True, slots=True)
class Value:
    """A key's value with what `If-Match` needs."""

    key: str
    value: Any
    revision: int
    create_revision: int
    version: int


@dataclass(frozen=True, slots=True)
class WatchEvent:
    """One thing that happened at `revision`; several can share it."""

    revision: int
    kind: str
    type: str
    id: str
    object: Mapping[str, Any]
