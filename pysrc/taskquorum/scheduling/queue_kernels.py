"""The ready queue: a table from task id to row, and one pairing heap a class, all in arrays.

What always holds: a row is in the table exactly while its state is QUEUED, STALLED, PENDING or HELD; a heap holds QUEUED and
DEAD rows only; the capacity of PENDING and HELD rows, and of no others, counts as leased. A removal from the middle of a
heap only marks the row DEAD: it is freed when it surfaces, and `rebuild` sweeps when dead rows outnumber live ones.

The heap is the pairing heap of Fredman, Sedgewick, Sleator and Tarjan (1986): O(1) push, amortised O(log n) pop. Order:
higher priority, then earlier submit, then earlier position in the submit.
"""

import numpy as np
from numba import njit

from taskquorum.scheduling.columns import (
    ACTIVE_COUNT,
    CAPACITY,
    DEAD,
    DEAD_COUNT,
    FREE,
    FREE_HEAD,
    HELD,
    HELD_COUNT,
    I8,
    I32,
    I64,
    OP_FREED,
    OP_GONE,
    OP_READY,
    OP_TAKEN,
    PENDING,
    PENDING_COUNT,
    QUEUED,
    QUEUED_COUNT,
    STALLED,
    STALLED_AT,
    STALLED_COUNT,
    U64,
    USED,
    Agents,
    Classes,
    Queue,
    Tasks,
)

_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
_SHIFT = np.uint64(32)


# ---- the table --------------------------------------------------------------------------------------------------


@njit(cache=True, nogil=True)
def _home(table: I32, hi: np.uint64, lo: np.uint64) -> int:
    mixed = (lo ^ (hi * _MULTIPLIER)) * _MULTIPLIER
    return int(np.int64(mixed >> _SHIFT) & (table.size - 1))


@njit(cache=True, nogil=True)
def find(t: Tasks, table: I32, hi: np.uint64, lo: np.uint64) -> int:
    """The row of a task id, −1 when it is not known."""
    at = _home(table, hi, lo)
    while table[at] >= 0:
        row = table[at]
        if t.lo[row] == lo and t.hi[row] == hi:
            return row
        at = (at + 1) & (table.size - 1)
    return -1


@njit(cache=True, nogil=True)
def table_insert(t: Tasks, table: I32, row: int) -> None:
    at = _home(table, t.hi[row], t.lo[row])
    while table[at] >= 0:
        at = (at + 1) & (table.size - 1)
    table[at] = row


@njit(cache=True, nogil=True)
def table_remove(t: Tasks, table: I32, row: int) -> None:
    """Takes a row out and moves later entries of its run back, so that no tombstones pile up."""
    mask = table.size - 1
    at = _home(table, t.hi[row], t.lo[row])
    while table[at] != row:
        at = (at + 1) & mask
    hole = at
    at = (at + 1) & mask
    while table[at] >= 0:
        home = _home(table, t.hi[table[at]], t.lo[table[at]])
        if ((at - home) & mask) >= ((at - hole) & mask):
            table[hole] = table[at]
            hole = at
        at = (at + 1) & mask
    table[hole] = -1


# ---- the heaps --------------------------------------------------------------------------------------------------


@njit(cache=True, nogil=True)
def before(t: Tasks, a: int, b: int) -> bool:
    """Whether row `a` is served before row `b`."""
    if t.priority[a] != t.priority[b]:
        return t.priority[a] > t.priority[b]
    if t.order[a] != t.order[b]:
        return t.order[a] < t.order[b]
    return t.position[a] < t.position[b]


@njit(cache=True, nogil=True)
def _meld(t: Tasks, a: int, b: int) -> int:
    if before(t, b, a):
        a, b = b, a
    t.sibling[b] = t.child[a]
    t.child[a] = b
    return a


@njit(cache=True, nogil=True)
def push(t: Tasks, q: Queue, row: int) -> None:
    """Queues a row in its class's heap; the class becomes active and is tried again."""
    klass = t.klass[row]
    t.child[row] = -1
    t.sibling[row] = -1
    t.state[row] = QUEUED
    q.cell[QUEUED_COUNT] += 1
    if q.root[klass] < 0:
        q.root[klass] = row
        if q.active_at[klass] < 0:
            q.active_at[klass] = q.cell[ACTIVE_COUNT]
            q.active[q.cell[ACTIVE_COUNT]] = klass
            q.cell[ACTIVE_COUNT] += 1
    else:
        q.root[klass] = _meld(t, q.root[klass], row)


@njit(cache=True, nogil=True)
def pop(t: Tasks, q: Queue, klass: int) -> int:
    """Takes the root of a heap out; its state is left to the caller."""
    root = q.root[klass]
    paired = -1
    at = t.child[root]
    while at >= 0:
        second = t.sibling[at]
        if second >= 0:
            after = t.sibling[second]
            at = _meld(t, at, second)
        else:
            after = second
        t.sibling[at] = paired
        paired = at
        at = after
    whole = -1
    while paired >= 0:
        after = t.sibling[paired]
        t.sibling[paired] = -1
        whole = paired if whole < 0 else _meld(t, whole, paired)
        paired = after
    q.root[klass] = whole
    t.child[root] = -1
    t.sibling[root] = -1
    return root


@njit(cache=True, nogil=True)
def head(t: Tasks, q: Queue, klass: int) -> int:
    """The first live row of a class after freeing the dead ones above it, −1 when there is none."""
    while q.root[klass] >= 0 and t.state[q.root[klass]] == DEAD:
        row = pop(t, q, klass)
        q.cell[DEAD_COUNT] -= 1
        free_row(t, q, row)
    if q.root[klass] < 0 and q.active_at[klass] >= 0:
        last = q.active[q.cell[ACTIVE_COUNT] - 1]
        q.active[q.active_at[klass]] = last
        q.active_at[last] = q.active_at[klass]
        q.active_at[klass] = -1
        q.cell[ACTIVE_COUNT] -= 1
    return q.root[klass]


# ---- rows -------------------------------------------------------------------------------------------------------


@njit(cache=True, nogil=True)
def free_row(t: Tasks, q: Queue, row: int) -> None:
    t.state[row] = FREE
    t.sibling[row] = q.cell[FREE_HEAD]
    q.cell[FREE_HEAD] = row


@njit(cache=True, nogil=True)
def new_row(t: Tasks, q: Queue) -> int:
    row = q.cell[FREE_HEAD]
    if row >= 0:
        q.cell[FREE_HEAD] = t.sibling[row]
    else:
        row = q.cell[USED]
        q.cell[USED] += 1
    t.excluded[row] = -1
    t.agent[row] = -1
    t.since[row] = 0
    return row


@njit(cache=True, nogil=True)
def lease(t: Tasks, c: Classes, a: Agents, row: int, agent: int) -> None:
    """Counts the demand of a task against an agent."""
    klass = t.klass[row]
    t.agent[row] = agent
    for r in range(c.demand.shape[1]):
        a.leased[agent, r] += c.demand[klass, r]
    a.node_leased[a.node[agent]] += c.demand[klass, 0]


@njit(cache=True, nogil=True)
def release(t: Tasks, q: Queue, c: Classes, a: Agents, row: int) -> None:
    """Gives back what `lease` took; blocked classes are tried again."""
    klass = t.klass[row]
    agent = t.agent[row]
    for r in range(c.demand.shape[1]):
        a.leased[agent, r] -= c.demand[klass, r]
    a.node_leased[a.node[agent]] -= c.demand[klass, 0]
    t.agent[row] = -1
    q.cell[CAPACITY] += 1


@njit(cache=True, nogil=True)
def _leave(t: Tasks, q: Queue, c: Classes, a: Agents, row: int) -> None:
    """Ends a row's present state: its lease is given back, a PENDING or HELD row is freed, a linked one becomes DEAD."""
    table_remove(t, q.table, row)
    if t.state[row] == PENDING or t.state[row] == HELD:
        q.cell[PENDING_COUNT if t.state[row] == PENDING else HELD_COUNT] -= 1
        release(t, q, c, a, row)
        free_row(t, q, row)
    else:
        if t.state[row] == QUEUED:
            q.cell[QUEUED_COUNT] -= 1
            q.cell[DEAD_COUNT] += 1
        t.state[row] = DEAD


@njit(cache=True, nogil=True)
def requeue(t: Tasks, q: Queue, c: Classes, a: Agents, row: int) -> None:
    """A PENDING decision did not come true: back into the queue."""
    q.cell[PENDING_COUNT] -= 1
    release(t, q, c, a, row)
    push(t, q, row)


# ---- deltas -----------------------------------------------------------------------------------------------------


@njit(cache=True, nogil=True)
def apply_deltas(
    t: Tasks,
    q: Queue,
    c: Classes,
    a: Agents,
    op: I8,
    ids: U64,
    epoch: I64,
    klass: I64,
    agent: I64,
    priority: I64,
    order: I64,
    position: I64,
    success: I8,
    run_us: I64,
) -> None:
    """Brings the queue up to the log. `ids` is u64[n, 2] in native byte order of the two halves as stored.

    The caller has made room: n more task rows, every class and agent index known. A delta that repeats what is
    known changes nothing, and none is refused: the log is right and this view follows. The class of a freed row is written
    to `klass` (−1 when the task is not known), for the feed does not tell it.
    """
    for i in range(op.size):
        hi = ids[i, 0]
        lo = ids[i, 1]
        row = find(t, q.table, hi, lo)
        if op[i] == OP_READY:
            if row >= 0:
                _leave(t, q, c, a, row)
            _enter(t, q, hi, lo, klass[i], epoch[i], priority[i], order[i], position[i])
            push(t, q, find(t, q.table, hi, lo))
        elif op[i] == OP_GONE:
            # What an agent holds is not in the queue, so it cannot leave it: its end is told as freed.
            if row >= 0 and t.state[row] != HELD:
                _leave(t, q, c, a, row)
        elif op[i] == OP_TAKEN:
            if row >= 0 and t.state[row] == PENDING and t.agent[row] == agent[i]:
                t.state[row] = HELD
                t.epoch[row] = epoch[i]
                q.cell[PENDING_COUNT] -= 1
                q.cell[HELD_COUNT] += 1
            else:
                if row >= 0:
                    _leave(t, q, c, a, row)
                row = _enter(t, q, hi, lo, klass[i], epoch[i], priority[i], order[i], position[i])
                t.state[row] = HELD
                q.cell[HELD_COUNT] += 1
                lease(t, c, a, row, agent[i])
        elif op[i] == OP_FREED:
            klass[i] = t.klass[row] if row >= 0 else -1
            if run_us[i] > 0:
                if success[i]:
                    a.succeeded[agent[i]] += 1
                else:
                    a.failed[agent[i]] += 1
            # A task that is already queued again was released when it came back.
            if row >= 0 and (t.state[row] == HELD or t.state[row] == PENDING) and t.agent[row] == agent[i]:
                _leave(t, q, c, a, row)


@njit(cache=True, nogil=True)
def _enter(
    t: Tasks, q: Queue, hi: np.uint64, lo: np.uint64, klass: int, epoch: int, priority: int, order: int, position: int
) -> int:
    row = new_row(t, q)
    t.hi[row] = hi
    t.lo[row] = lo
    t.klass[row] = klass
    t.epoch[row] = epoch
    t.priority[row] = priority
    t.order[row] = order
    t.position[row] = position
    table_insert(t, q.table, row)
    return row


@njit(cache=True, nogil=True)
def expire(t: Tasks, q: Queue, c: Classes, a: Agents, proposed_before_us: int) -> int:
    """Takes back decisions proposed before a moment and never confirmed or refused; how many."""
    count = 0
    for row in range(q.cell[USED]):
        if t.state[row] == PENDING and t.since[row] < proposed_before_us:
            requeue(t, q, c, a, row)
            count += 1
    return count


@njit(cache=True, nogil=True)
def unstall(t: Tasks, q: Queue) -> None:
    """Puts stalled tasks back into their heaps once capacity has appeared since they were set aside."""
    if q.cell[STALLED_COUNT] == 0 or q.cell[STALLED_AT] == q.cell[CAPACITY]:
        return
    for i in range(q.cell[STALLED_COUNT]):
        row = q.stalled[i]
        if t.state[row] == DEAD:
            free_row(t, q, row)
        elif t.state[row] == STALLED:
            push(t, q, row)
    q.cell[STALLED_COUNT] = 0
    q.cell[STALLED_AT] = q.cell[CAPACITY]


@njit(cache=True, nogil=True)
def rebuild(t: Tasks, q: Queue) -> None:
    """Links every live row anew and frees the dead ones, for a larger table or after many removals from the middle."""
    q.table[:] = -1
    q.root[:] = -1
    q.active_at[:] = -1
    q.cell[ACTIVE_COUNT] = 0
    q.cell[QUEUED_COUNT] = 0
    q.cell[DEAD_COUNT] = 0
    q.cell[STALLED_COUNT] = 0
    q.cell[FREE_HEAD] = -1
    for row in range(q.cell[USED]):
        state = t.state[row]
        if state in (DEAD, FREE):
            free_row(t, q, row)
        else:
            table_insert(t, q.table, row)
            if state in (QUEUED, STALLED):
                push(t, q, row)
