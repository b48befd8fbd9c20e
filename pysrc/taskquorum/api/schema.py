"""Shapes of what requests carry: decoded and checked by msgspec, and rendered into OpenAPI.

Every object refuses members it does not know. Fields that API.md gives to later issues are not
here; `problems.py` tells such a field from a misspelt one. A user's own JSON stays `Raw`: it is
checked to be JSON, never turned into objects.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from taskquorum.model import BATCH_ITEMS_MAX, DAG_TASKS_MAX, WAIT_MS_MAX

_TEN_YEARS_MS = 315_360_000_000
_INTEGER_MAX = (1 << 63) - 1

Uuid = Annotated[
    str,
    Meta(pattern="^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$", min_length=36, max_length=36),
]
Name = Annotated[str, Meta(min_length=1, max_length=255)]
TaskType = Annotated[str, Meta(min_length=1, max_length=50)]
Text = Annotated[str, Meta(max_length=4096)]
Milliseconds = Annotated[int, Meta(ge=0, le=_TEN_YEARS_MS)]
Amount = Annotated[int, Meta(ge=0, le=_INTEGER_MAX)]
Level = Annotated[float, Meta(ge=0, le=1)]
Priority = Annotated[int, Meta(ge=-10, le=10)]
Epoch = Annotated[int, Meta(ge=0, le=(1 << 32) - 1)]
AgentEpoch = Annotated[int, Meta(ge=0, le=_INTEGER_MAX)]
Moment = Annotated[datetime, Meta(tz=True, description="RFC 3339 with a time zone")]
Labels = Annotated[dict[Name, Annotated[str, Meta(max_length=255)]], Meta(max_length=64)]
Resources = Annotated[dict[Name, Amount], Meta(max_length=64)]
Costs = Annotated[dict[Name, Amount], Meta(max_length=64)]
WaitMs = Annotated[int, Meta(ge=0, le=WAIT_MS_MAX)]
NodeId = Annotated[str, Meta(pattern="^[A-Za-z0-9._-]{1,255}$")]
RaftAddress = Annotated[str, Meta(pattern="^.+:[0-9]{1,5}$", max_length=512)]
MemberRole = Literal["voter", "learner", "observer"]
MEMBER_WAIT_MS = 5_000
"""How long a change of the members is waited for unless the call says otherwise."""


def _empty_object() -> Raw:
    return Raw(b"{}")


def _null() -> Raw:
    return Raw(b"null")


class CapabilityNeed(Struct, forbid_unknown_fields=True):
    """`min` is a hard minimum of the declared level; without it only a preference."""

    min: Level = 0.0
    weight: Annotated[float, Meta(ge=0, le=1000)] = 1.0


class Requirements(Struct, forbid_unknown_fields=True):
    """What an agent must have to get the task."""

    capabilities: Annotated[dict[Name, Level | CapabilityNeed], Meta(max_length=64)] = {}
    resources: Resources = {}
    labels: Labels = {}


class Timeouts(Struct, forbid_unknown_fields=True):
    """0 is none. In `ready`; of one attempt; from submit to end."""

    queue_ms: Milliseconds = 0
    run_ms: Milliseconds = 0
    total_ms: Milliseconds = 0


class RetryPolicy(Struct, forbid_unknown_fields=True):
    """`max_attempts` counts the first one; the pause before retry k is `backoff_ms · factor^(k−1)`."""

    max_attempts: Annotated[int, Meta(ge=1, le=1000)] = 3
    backoff_ms: Milliseconds = 200
    factor: Annotated[float, Meta(ge=1, le=1000)] = 2.0
    max_backoff_ms: Milliseconds = 60_000
    non_retryable: Annotated[list[Name], Meta(max_length=64)] = []


class TaskSubmit(Struct, forbid_unknown_fields=True):
    """One task."""

    task_type: TaskType
    id: Uuid | UnsetType = UNSET
    name: Annotated[str, Meta(max_length=255)] = ""
    task_data: Raw = msgspec.field(default_factory=_empty_object)
    priority: Priority | UnsetType = UNSET
    requirements: Requirements | UnsetType = UNSET
    dependencies: Annotated[list[Name], Meta(max_length=DAG_TASKS_MAX)] = []
    on_dependency_failure: Literal["fail", "skip", "run"] = "fail"
    optional: bool = False
    not_before: Moment | UnsetType = UNSET
    deadline: Moment | UnsetType = UNSET
    timeouts: Timeouts | UnsetType = UNSET
    retry: RetryPolicy | UnsetType = UNSET
    idempotent: bool = False
    preemptible: bool = False
    size_hint: Amount = 0
    cost_estimate: Costs = {}
    tenant: Name | UnsetType = UNSET
    labels: Labels | UnsetType = UNSET
    idempotency_key: Name | UnsetType = UNSET


class Join(Struct, forbid_unknown_fields=True):
    """When the parent is done; `count` belongs to `quorum`."""

    policy: Literal["all", "any", "quorum"] = "all"
    count: Annotated[int, Meta(ge=1, le=DAG_TASKS_MAX)] | UnsetType = UNSET


class DagSubmit(Struct, forbid_unknown_fields=True):
    """A DAG: a parent and its tasks, taken whole or not at all. Priority, labels and deadline are also
    the defaults of tasks that name none."""

    tasks: Annotated[list[TaskSubmit], Meta(min_length=1, max_length=DAG_TASKS_MAX)]
    id: Uuid | UnsetType = UNSET
    name: Annotated[str, Meta(max_length=255)] = ""
    task_type: TaskType = "dag"
    join: Join | UnsetType = UNSET
    priority: Priority | UnsetType = UNSET
    labels: Labels | UnsetType = UNSET
    tenant: Name | UnsetType = UNSET
    deadline: Moment | UnsetType = UNSET
    idempotency_key: Name | UnsetType = UNSET


class HasTasks(Struct):
    """Tells a DAG from a task."""

    tasks: Raw | UnsetType = UNSET


class CancelBody(Struct, forbid_unknown_fields=True):
    mode: Literal["cooperative", "kill"] = "cooperative"
    grace_ms: Milliseconds = 30_000


class RescheduleBody(Struct, forbid_unknown_fields=True):
    exclude_agents: Annotated[list[Name], Meta(max_length=64)] = []
    priority: Priority | UnsetType = UNSET
    not_before: Moment | UnsetType = UNSET


class EmptyBody(Struct, forbid_unknown_fields=True):
    """Nothing, or an empty object."""


class AgentRegister(Struct, forbid_unknown_fields=True):
    """Capabilities are levels 0..1. `node_id` is the node whose failure domain the agent shares."""

    id: Name | UnsetType = UNSET
    node_id: Name | UnsetType = UNSET
    capabilities: Annotated[dict[Name, Level], Meta(max_length=64)] = {}
    resources: Resources = {}
    labels: Labels = {}
    task_types: Annotated[list[TaskType], Meta(max_length=1000)] = []
    version: Annotated[str, Meta(max_length=255)] = ""


class Held(Struct, forbid_unknown_fields=True):
    task_id: Uuid
    epoch: Epoch


class Load(Struct, forbid_unknown_fields=True):
    """Utilisation 0..1."""

    cpu: Level = 0.0
    memory: Level = 0.0
    network: Level = 0.0


class FailureError(Struct, forbid_unknown_fields=True):
    code: Name
    message: Text = ""
    retryable: bool = True
    retry_after_ms: Milliseconds | UnsetType = UNSET


class LogLine(Struct, forbid_unknown_fields=True):
    text: Annotated[str, Meta(max_length=16384)]
    t: Moment | UnsetType = UNSET
    level: Annotated[str, Meta(max_length=16)] = "info"


class TaskFinished(Struct, forbid_unknown_fields=True):
    """How an attempt ended: `result` with `completed`, `error` with `failed`."""

    task_id: Uuid
    epoch: Epoch
    status: Literal["completed", "failed"]
    result: Raw = msgspec.field(default_factory=_null)
    error: FailureError | UnsetType = UNSET
    cost: Costs = {}
    quality: Level | UnsetType = UNSET


class TaskProgress(Struct, forbid_unknown_fields=True):
    task_id: Uuid
    epoch: Epoch
    progress: Level | UnsetType = UNSET
    message: Text = ""
    checkpoint: Raw | UnsetType = UNSET
    log: Annotated[list[LogLine], Meta(max_length=1000)] = []


class PollBody(Struct, forbid_unknown_fields=True):
    """A newer `poll_seq` ends the poll before it. `bids` come with a later issue: an empty list only."""

    agent_epoch: AgentEpoch
    poll_seq: Annotated[int, Meta(ge=0, le=_INTEGER_MAX)] = 0
    held: Annotated[list[Held], Meta(max_length=1000)] = []
    load: Load | None = None
    results: Annotated[list[TaskFinished], Meta(max_length=BATCH_ITEMS_MAX)] = []
    progress: Annotated[list[TaskProgress], Meta(max_length=BATCH_ITEMS_MAX)] = []
    bids: Annotated[list[Any], Meta(max_length=0)] = []
    max: Annotated[int, Meta(ge=0, le=1000)] = 100
    wait_ms: WaitMs = 0


class HeartbeatBody(Struct, forbid_unknown_fields=True):
    agent_epoch: AgentEpoch
    held: Annotated[list[Held], Meta(max_length=1000)] = []
    load: Load | None = None


class StartBody(Struct, forbid_unknown_fields=True):
    agent_id: Name
    epoch: Epoch


class ProgressBody(Struct, forbid_unknown_fields=True):
    agent_id: Name
    epoch: Epoch
    progress: Level | UnsetType = UNSET
    message: Text = ""
    checkpoint: Raw | UnsetType = UNSET
    log: Annotated[list[LogLine], Meta(max_length=1000)] = []


class CompleteBody(Struct, forbid_unknown_fields=True):
    agent_id: Name
    epoch: Epoch
    result: Raw = msgspec.field(default_factory=_null)
    cost: Costs = {}
    quality: Level | UnsetType = UNSET


class FailBody(Struct, forbid_unknown_fields=True):
    agent_id: Name
    epoch: Epoch
    error: FailureError
    cost: Costs = {}


class KeyPut(Struct, forbid_unknown_fields=True):
    value: Raw


class DrainBody(Struct, forbid_unknown_fields=True):
    deadline_ms: Annotated[int, Meta(ge=0, le=_TEN_YEARS_MS)] = 3_600_000


class VerifyBody(Struct, forbid_unknown_fields=True):
    """`timeout_ms`: how long to wait for the nodes; what is there by then is answered."""

    timeout_ms: Annotated[int, Meta(ge=100, le=3_600_000)] = 60_000


class MemberAdd(Struct, forbid_unknown_fields=True):
    node_id: NodeId
    address: RaftAddress | None = None
    role: MemberRole = "voter"
    replace: NodeId | None = None
    wait_ms: WaitMs = MEMBER_WAIT_MS


class TransferBody(Struct, forbid_unknown_fields=True):
    to: Name | None = None
