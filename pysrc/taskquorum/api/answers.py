"""Shapes of what the API answers, for OpenAPI: the bytes themselves are rendered by the node."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

import msgspec
from msgspec import UNSET, Struct, UnsetType

from taskquorum.api.schema import RetryPolicy, Timeouts


class Problem(Struct):
    """RFC 9457. `field` is a JSON pointer, or the name of a parameter or header."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    field: str | UnsetType = UNSET


class Submitted(Struct):
    id: str
    status: str
    revision: int


class NamedId(Struct):
    name: str
    id: str


class DagSubmitted(Struct):
    id: str
    tasks: list[NamedId]
    revision: int


class SubmittedItem(Struct):
    """One of `id` or `error`."""

    id: str | UnsetType = UNSET
    status: str | UnsetType = UNSET
    tasks: list[NamedId] | UnsetType = UNSET
    error: Problem | UnsetType = UNSET


class BatchSubmitted(Struct):
    items: list[SubmittedItem]
    revision: int


class TaskError(Struct):
    code: str
    message: str
    retryable: bool


class Task(Struct):
    id: str
    parent_task_id: str | None
    name: str | None
    task_type: str
    task_data: Any
    status: str
    assigned_agent_id: str | None
    created_at: datetime
    started_at: datetime | None
    completed_at: datetime | None
    dependencies: list[str]
    priority: int
    retry_count: int
    epoch: int
    revision: int
    attempts: int
    tenant: str
    labels: dict[str, str]
    requirements: dict[str, Any]
    on_dependency_failure: str
    optional: bool
    not_before: datetime | None
    deadline: datetime | None
    timeouts: Timeouts
    retry: RetryPolicy | None
    idempotent: bool
    preemptible: bool
    size_hint: int
    cost_estimate: dict[str, int]
    progress: float
    progress_message: str | None
    error: TaskError | None
    cost: dict[str, int]
    join: dict[str, Any] | None = None
    result: Any = None
    children: list[Any] | UnsetType = UNSET
    events: list[TimelineEvent] | UnsetType = UNSET


class TimelineEvent(Struct):
    type: str
    at: datetime
    revision: int
    epoch: int
    agent_id: str | None
    reason: str | None


class TaskList(Struct):
    items: list[Task]
    next_cursor: str | None
    revision: int
    count: int | UnsetType | None = UNSET


class Timeline(Struct):
    items: list[TimelineEvent]
    next_cursor: None
    revision: int


class TaskState(Struct):
    id: str
    status: str
    epoch: int
    revision: int


class Graph(Struct):
    root: str
    nodes: list[dict[str, Any]]
    edges: list[Any]


class Registered(Struct):
    agent_id: str
    agent_epoch: int
    lease_ms: int
    heartbeat_ms: int
    revision: int


class Assignment(Struct):
    task_id: str
    epoch: int
    attempt: int
    task_type: str
    task_data: Any
    inputs: dict[str, Any]
    checkpoint: Any
    deadline: datetime | None
    run_ms: int


class AgentCommand(Struct):
    kind: Literal["cancel", "drain", "revoke", "reconcile", "budget"]
    reason: str
    task_id: str | UnsetType = UNSET
    epoch: int | UnsetType = UNSET


class ResultAnswer(Struct):
    """`accepted: true`, or the problem."""

    task_id: str
    epoch: int
    accepted: bool
    problem: Problem | UnsetType = UNSET


class PollAnswer(Struct):
    assignments: list[Assignment]
    commands: list[AgentCommand]
    results: list[ResultAnswer]
    lease_ms: int


class HeldAnswer(Struct):
    task_id: str
    epoch: int


class HeartbeatAnswer(Struct):
    held: list[HeldAnswer]
    commands: list[AgentCommand]
    lease_ms: int
    heartbeat_ms: int


class Agent(Struct):
    agent_id: str
    node_id: str | None
    agent_epoch: int
    status: str
    capabilities: dict[str, float]
    resources: dict[str, int]
    labels: dict[str, str]
    task_types: list[str]
    version: str | None
    registered_at: datetime | None
    changed_at: datetime | None
    revision: int
    completed: int
    failed: int
    leases_lost: int
    success: float | None
    held: list[dict[str, Any]]


class AgentList(Struct):
    items: list[Agent]
    next_cursor: str | None
    revision: int
    count: int | UnsetType | None = UNSET


class AgentState(Struct):
    agent_id: str
    status: str
    revision: int


class Key(Struct):
    key: str
    value: Any
    revision: int
    create_revision: int
    version: int
    lease: None = None


class KeyWritten(Struct):
    key: str
    revision: int
    create_revision: int
    version: int


class KeyDeleted(Struct):
    key: str
    revision: int


class Node(Struct):
    node_id: str
    node_role: str
    status: str
    role: str | None
    state: str | None
    parent: str | None
    """Whom an observer follows."""
    address: str | None
    load_factor: float | None
    capabilities: dict[str, float]
    last_heartbeat: datetime | None
    match_index: int | None
    lag: int | None
    agents: int


class MemberProgress(Struct):
    node_id: str
    progress: str


class Membership(Struct):
    voters: list[str]
    learners: list[str]
    joint: bool
    voters_outgoing: list[str]
    changes: list[MemberProgress]


class MemberChange(Struct):
    node_id: str
    done: bool
    progress: str
    revision: int


class Quorum(Struct):
    voters: int
    healthy: int
    has_quorum: bool


class NodeHash(Struct):
    """The newest state hash of a node that could be compared with this node's at an equal index."""

    node_id: str
    index: int | None
    hash: str | None
    agrees: bool | None


class StateHash(Struct):
    index: int
    hash: str
    agrees: bool | None
    nodes: list[NodeHash]


class VerifiedNode(Struct):
    """What a node's rows add up to (`computed`), and what apply had kept (`kept`); null until it has answered."""

    node_id: str
    kept: str | None
    computed: str | None
    rows: int | None
    bytes: int | None
    error: str | None
    agrees: bool | None


class Verification(Struct):
    index: int
    complete: bool
    agrees: bool
    nodes: list[VerifiedNode]


class SnapshotTransfer(Struct, omit_defaults=True):
    """A snapshot on its way: `to` and `bytes_sent` where it leaves, `from` and `bytes_received` where it arrives."""

    index: int
    bytes_total: int
    rate: int
    """Bytes a second since this attempt began."""
    phase: Literal["checking", "sending", "receiving", "installing"]
    to: str | None = None
    from_: str | None = msgspec.field(default=None, name="from")
    bytes_sent: int | None = None
    bytes_received: int | None = None


class ClusterStatus(Struct):
    cluster_id: str | None
    leader: str | None
    term: int
    commit_index: int
    applied_index: int
    quorum: Quorum
    membership: Membership
    state_hash: StateHash
    nodes: list[Node]
    alerts: list[str]
    fenced: str | None
    writes_stopped: str | None
    kept_aside: list[str]
    verification: Verification | None
    version: str
    snapshot: SnapshotTransfer | None
    snapshot_in: SnapshotTransfer | None
    observed_by: str
    observed_at: datetime


class NodeList(Struct):
    nodes: list[Node]
    snapshot: SnapshotTransfer | None
    snapshot_in: SnapshotTransfer | None
    observed_by: str
    observed_at: datetime


class NodeDrain(Struct):
    node_id: str
    state: str
    remaining: int | None
    deadline: datetime | None
    revision: int


class Done(Struct):
    done: bool
    detail: str


class LogRow(Struct):
    log_index: int
    term: int
    command_type: str
    command_data: Any
    committed: bool
    timestamp: datetime | None


class LogRows(Struct):
    items: list[LogRow]
    next_index: int
    first_index: int
    commit_index: int


class Health(Struct):
    status: str
    detail: str | UnsetType = UNSET


class Stats(Struct):
    observed_by: str
    observed_at: datetime
    node: dict[str, Any]
    http: dict[str, Any]
    tasks: dict[str, int] = msgspec.field(default_factory=dict)
