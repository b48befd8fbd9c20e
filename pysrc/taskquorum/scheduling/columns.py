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
U64 = NDArray[np.uint64]

# Row states of a task.
FREE: Final = 0
"""Not in use; `sibling` links the free rows."""
QUEUED: Final = 1
"""In its class's heap."""
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
CAPACITY: Final = 8
"""Version that grows whenever some agent may take more than before."""
STALLED_AT: Final = 9
"""`CAPACITY` when the stalled tasks were last put back."""
MATCH_NEXT: Final = 10
"""The match row that makes room next."""
CELLS: Final = 16


class Tasks(NamedTuple):
    """One row a task the leader knows: queued, pending or held."""

    hi: U64
    lo: U64
    klass: I32
    priority: I32
    order: I64
    position: I64
    epoch: I64
    state: I8
    agent: I32
    since: I64
    """Microseconds of the runner's monotonic clock at which it was proposed."""
    excluded: I32
    """Where its excluded agents begin in the pool, −1 for none; a pool list ends with −1."""
    child: I32
    sibling: I32


class Queue(NamedTuple):
    """The queue itself: the id table, one pairing heap a class, and the counters."""

    table: I32
    """Open addressing by id, a power of two, at most half full; −1 is empty."""
    root: I32
    """Heap root per class, −1 when empty."""
    active: I32
    """Classes with a heap, in no particular order."""
    active_at: I32
    """Where a class stands in `active`, −1 when it does not."""
    blocked: I64
    """Capacity version at which the class found no agent; it is skipped until that version changes."""
    stalled: I32
    pool: I32
    """Excluded agents of tasks that have any."""
    cell: I64


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
    succeeded: I64
    failed: I64
    node_total: I64
    """Slots per node, for spreading."""
    node_leased: I64
    measured: I32
    """Per resource the column of `load` that measures it, −1 for none; row 0 only is not per agent."""
    version: I64
    """One cell: grows when anything static about an agent changes."""


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
