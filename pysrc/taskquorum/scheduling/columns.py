"""The arrays the kernels work on, grouped by what a row is.

Named tuples, because numba takes them as they are: a kernel gets five groups instead of fifty arguments. All are
C-contiguous, grow by doubling (`grown`), and keep their meaning when they do: a new row is all fill values.
"""

from typing import Any, Final, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

I8 = NDArray[np.uint8]
I16 = NDArray[np.int16]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
U32 = NDArray[np.uint32]
U64 = NDArray[np.uint64]
F64 = NDArray[np.float64]

# Row states of a task.
FREE: Final = 0
"""Not in use; `sibling` links the free rows."""
QUEUED: Final = 1
"""In its group's heap."""
STALLED: Final = 2
"""Excludes agents and found no other: out of its heap until capacity appears, so that it blocks no one."""
PENDING: Final = 3
"""Decided here, not yet confirmed by the log; its capacity counts as leased."""
HELD: Final = 4
"""Assigned by the log."""
DEAD: Final = 5
"""No longer a task, but still linked in a heap or in the stalled list; freed when it is reached."""

# Operations of a delta, as in `PolicyBatch.op`.
OP_READY: Final = 1
OP_GONE: Final = 2
OP_TAKEN: Final = 3
OP_FREED: Final = 4

# Cells of `Queue.cell`.
USED: Final = 0
"""Task rows ever used; rows beyond are untouched."""
FREE_HEAD: Final = 1
QUEUED_COUNT: Final = 2
DEAD_COUNT: Final = 3
PENDING_COUNT: Final = 4
HELD_COUNT: Final = 5
STALLED_COUNT: Final = 6
"""Entries of the stalled list, dead ones included."""
ACTIVE_COUNT: Final = 7
"""Groups in `Groups.active`."""
CAPACITY: Final = 8
"""Version that grows whenever some agent may take more than before."""
STALLED_AT: Final = 9
"""`CAPACITY` when the stalled tasks were last put back."""
MATCH_NEXT: Final = 10
"""The match row that makes room next."""
GROUPS_USED: Final = 11
"""Group rows ever used."""
GROUPS_FREE: Final = 12
"""Head of the free groups, linked through `Groups.klass`; −1 for none."""
CELLS: Final = 16

# Service classes ("lanes"), from the priority of a task.
LANES: Final = 4
CRITICAL: Final = 0
INTERACTIVE: Final = 1
BATCH: Final = 2
BEST_EFFORT: Final = 3

# Cells of `Shares.mean`.
MEAN_RUN_US: Final = 0
"""Mean duration of what finished, in microseconds."""
MEAN_COUNT: Final = 1
MEANS: Final = 4

# Rules of order.
BY_AREA: Final = 0
"""The product's: lane stride, tenant's virtual time, aged area, rank."""
BY_SUBMIT: Final = 1
"""First come, first served, whatever the tenant and priority: a baseline."""
BY_CHANCE: Final = 2
"""A fixed shuffle of the task ids: a baseline."""


class Tasks(NamedTuple):
    """One row a task the leader knows: queued, pending or held. Times are microseconds of cluster time."""

    hi: U64
    lo: U64
    klass: I32
    priority: I32
    tenant: I32
    unit: I32
    """Row of `UnitCosts` of the graph it belongs to, −1 for a lone task."""
    group: I32
    """Its row in `Groups` while it is queued."""
    first: I64
    """Order inside the group: lower `first`, then lower `second`, then lower id. Of a lone task the submit's revision, of
    a task of a graph its negative rank."""
    second: I64
    """Of a lone task its position in the submit, of a task of a graph (negative out-degree, position)."""
    ready: I64
    """When it became ready."""
    expected: I64
    """Microseconds it is expected to run by what the submitter said, 0 when nothing was said."""
    epoch: I64
    state: I8
    agent: I32
    since: I64
    """When it was proposed or taken."""
    ends: I64
    """When it is predicted to end, from `since`."""
    charge: F64
    """Share-microseconds its tenant was charged when it was placed."""
    excluded: I32
    """Where its excluded agents begin in the pool, −1 for none; a pool list ends with −1."""
    child: I32
    sibling: I32
    after: I32
    """Next task that leases from the same agent, −1 at the end."""
    previous: I32


class Queue(NamedTuple):
    """The queue itself: the id table and the counters; the heaps are in `Groups`."""

    table: I32
    """Open addressing by id, a power of two, at most half full; −1 is empty."""
    blocked: I64
    """Per class: capacity version at which it found no agent; until that version changes it is not tried again."""
    stalled: I32
    pool: I32
    """Excluded agents of tasks that have any."""
    cell: I64


class Groups(NamedTuple):
    """Queued tasks that differ only in their arrival (or, within a graph, their rank): one pairing heap each.

    Every rule of order above the task compares groups, so a decision looks at groups, not at tasks.
    """

    table: I32
    """Open addressing by key, a power of two, at most half full; −1 is empty."""
    unit: I32
    tenant: I32
    klass: I32
    priority: I32
    expected: I64
    """Expected duration in microseconds, in steps of ESTIMATE_STEPS an octave; 0 for the class's prediction."""
    root: I32
    """Heap root, −1 when empty."""
    active: I32
    """Groups with a heap, in no particular order."""
    active_at: I32
    """Where a group stands in `active`, −1 when it does not."""


class Shares(NamedTuple):
    """What lanes and tenants were given, and what a class is predicted to cost."""

    weight: F64
    """Per tenant: its weight."""
    virtual: F64
    """Per tenant: virtual time, share-microseconds per weight."""
    queued: I64
    """Per tenant: tasks queued or stalled."""
    leased: I64
    """Per tenant: tasks pending or held."""
    lane_pass: F64
    """Per lane: its stride, share-microseconds per weight."""
    lane_queued: I64
    lane_slots: I64
    """Per lane: slots leased."""
    median: F64
    """Per class: predicted p50 in microseconds."""
    share: F64
    """Per class: dominant share of the whole cluster, max over resources of demand / total."""
    total: I64
    """Per resource: what all placeable agents have."""
    mean: F64


class UnitCosts(NamedTuple):
    """One row a graph of which some task is known."""

    area: F64
    """Predicted share-microseconds of what has not finished."""
    since: I64
    """When its first task became ready."""


class Classes(NamedTuple):
    """One row a requirement class; capability needs lie in a pool, for few of many dimensions are asked for."""

    need_from: I32
    need_count: I32
    need_dimension: I32
    need_min: I32
    need_weight: I64
    demand: I64
    labels: U64
    kind: I32
    """Index of the task type."""
    match_row: I32
    """Row of `Match`, −1 when none is kept."""


class Agents(NamedTuple):
    """One row an agent, by the index the feed gives it."""

    capability: I32
    """Declared level per asked-for dimension in basis points, −1 when not declared."""
    total: I64
    leased: I64
    labels: U64
    kinds: U64
    """Bit set of the asked-for task types it takes."""
    placeable: I8
    epoch: I64
    load: I32
    """Running mean of reported cpu, memory and network load in basis points."""
    node: I32
    rank: I32
    """Its place in the order of agent ids: the last tie-break."""
    tasks: I32
    """First of the tasks that lease from it, linked through `Tasks.after`; −1 for none."""
    succeeded: I64
    failed: I64
    node_total: I64
    """Slots per node, for spreading."""
    node_leased: I64
    measured: I32
    """Per resource the column of `load` that measures it, −1 for none; row 0 only is not per agent."""
    version: I64
    """One cell: grows when anything static about an agent changes."""


class Deltas(NamedTuple):
    """The deltas of one batch, one row each; what an operation does not have is 0 (−1 for no unit)."""

    op: I8
    ids: U64
    """u64[n, 2]: the halves of the task id in native byte order, as stored."""
    epoch: U32
    klass: I64
    agent: U32
    priority: I32
    tenant: U32
    unit: I64
    first: I64
    second: I64
    ready: U64
    expected: I64
    success: I8
    run_us: U64


class Match(NamedTuple):
    """Static match of a class with every agent, kept for the classes in use."""

    value: I16
    """Basis points, −1 where the agent can never take the class."""
    at: I64
    """`Agents.version` the row was computed at."""
    owner: I32


Group = TypeVar("Group", bound=NamedTuple)


def grown(array: NDArray[Any], shape: tuple[int, ...], fill: int) -> NDArray[Any]:
    """A copy of `array` enlarged to at least `shape`, each short dimension doubled until it fits; `array` if it fits."""
    now = list(array.shape)
    for axis, wanted in enumerate(shape):
        while now[axis] < wanted:
            now[axis] = max(4, now[axis] * 2)
    if tuple(now) == array.shape:
        return array
    larger = np.full(now, fill, dtype=array.dtype)
    larger[tuple(slice(0, size) for size in array.shape)] = array
    return larger
