"""The ready queue: a table from task id to row, and what a delta of the log does to a row.

What always holds: a row is in the table exactly while its state is QUEUED, STALLED, PENDING or HELD. `rebuild` sweeps when
dead rows outnumber live ones.
"""

import numpy as np
from numba import njit

from taskquorum.scheduling.capacity_kernels import learn_mean, lease, release
from taskquorum.scheduling.columns import (
    CAPACITY,
    DEAD,
    DEAD_COUNT,
    FREE,
    FREE_HEAD,
    HELD,
    HELD_COUNT,
    I32,
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
    USED,
    Agents,
    Classes,
    Deltas,
    Groups,
    Queue,
    Shares,
    Tasks,
    UnitCosts,
)
from taskquorum.scheduling.group_kernels import count_queued, forget_groups, free_row, push, uncount_queued

_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
_SHIFT = np.uint64(32)


# ---- the table --------------------------------------------------------------------------------------------------


@njit(cache=True, nogil=True, forceinline=True)
def _home(table: I32, hi: np.uint64, lo: np.uint64) -> int:
    mixed = (lo ^ (hi * _MULTIPLIER)) * _MULTIPLIER
    return int(np.int64(mixed >> _SHIFT) & (table.size - 1))


@njit(cache=True, nogil=True, forceinline=True)
def find(t: Tasks, table: I32, hi: np.uint64, lo: np.uint64) -> int:
    """The row of a task id, −1 when it is not known."""
    at = _home(table, hi, lo)
    while table[at] >= 0:
        row = table[at]
        if t.lo[row] == lo and t.hi[row] == hi:
            return row
        at = (at + 1) & (table.size - 1)
    return -1


@njit(cache=True, nogil=True, forceinline=True)
def table_insert(t: Tasks, table: I32, row: int) -> None:
    at = _home(table, t.hi[row], t.lo[row])
    while table[at] >= 0:
        at = (at + 1) & (table.size - 1)
    table[at] = row


@njit(cache=True, nogil=True, forceinline=True)
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


# ---- rows -------------------------------------------------------------------------------------------------------


@njit(cache=True, nogil=True, forceinline=True)
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


@njit(cache=True, nogil=True, forceinline=True)
def _leave(t: Tasks, q: Queue, c: Classes, a: Agents, s: Shares, row: int, run_us: int) -> None:
    """Ends a row's present state: its lease is given back, a PENDING or HELD row is freed, a linked one becomes DEAD."""
    table_remove(t, q.table, row)
    if t.state[row] == PENDING or t.state[row] == HELD:
        q.cell[PENDING_COUNT if t.state[row] == PENDING else HELD_COUNT] -= 1
        release(t, q, c, a, s, row, run_us)
        free_row(t, q, row)
    else:
        if t.state[row] == QUEUED:
            q.cell[QUEUED_COUNT] -= 1
            q.cell[DEAD_COUNT] += 1
        uncount_queued(t, s, row)
        t.state[row] = DEAD


@njit(cache=True, nogil=True, forceinline=True)
def _requeue(t: Tasks, q: Queue, g: Groups, c: Classes, a: Agents, s: Shares, row: int) -> None:
    q.cell[PENDING_COUNT] -= 1
    release(t, q, c, a, s, row, 0)
    count_queued(t, s, row)
    push(t, q, g, row)


@njit(cache=True, nogil=True)
def requeue(t: Tasks, q: Queue, g: Groups, c: Classes, a: Agents, s: Shares, rows: I32) -> None:
    """PENDING decisions, i32[n], did not come true: back into the queue."""
    for row in rows:
        _requeue(t, q, g, c, a, s, row)


# ---- deltas -----------------------------------------------------------------------------------------------------


@njit(cache=True, nogil=True)
def apply_deltas(t: Tasks, q: Queue, g: Groups, c: Classes, a: Agents, s: Shares, u: UnitCosts, d: Deltas, now_us: int) -> None:
    """Brings the queue up to the log at cluster time `now_us`.

    The caller has made room: n more task rows, every class, agent, tenant and unit known. A delta that repeats what is
    known changes nothing, and none is refused: the log is right and this view follows. The feed does not tell the class,
    unit and place of a row that leaves: they are written to `d` (class −1 when the task is not known).
    """
    for i in range(d.op.size):
        row = find(t, q.table, d.ids[i, 0], d.ids[i, 1])
        if d.op[i] == OP_READY:
            if row >= 0:
                _leave(t, q, c, a, s, row, 0)
            row = _enter(t, q, u, d, i)
            count_queued(t, s, row)
            push(t, q, g, row)
        elif d.op[i] == OP_GONE:
            # What an agent holds is not in the queue, so it cannot leave it: its end is told as freed.
            if row >= 0 and t.state[row] != HELD:
                d.unit[i], d.second[i] = t.unit[row], t.second[row]
                _leave(t, q, c, a, s, row, 0)
        elif d.op[i] == OP_TAKEN:
            if row >= 0 and t.state[row] == PENDING and t.agent[row] == d.agent[i]:
                t.state[row] = HELD
                t.epoch[row] = d.epoch[i]
                q.cell[PENDING_COUNT] -= 1
                q.cell[HELD_COUNT] += 1
            else:
                if row >= 0:
                    _leave(t, q, c, a, s, row, 0)
                row = _enter(t, q, u, d, i)
                t.state[row] = HELD
                q.cell[HELD_COUNT] += 1
                lease(t, c, a, s, row, int(np.int64(d.agent[i])), now_us)
        elif d.op[i] == OP_FREED:
            d.klass[i] = -1
            if row >= 0:
                d.klass[i], d.unit[i], d.second[i] = t.klass[row], t.unit[row], t.second[row]
            if d.run_us[i] > 0:
                learn_mean(s, int(np.int64(d.run_us[i])))
                if d.success[i]:
                    a.succeeded[d.agent[i]] += 1
                else:
                    a.failed[d.agent[i]] += 1
            # A task that is already queued again was released when it came back.
            if row >= 0 and (t.state[row] == HELD or t.state[row] == PENDING) and t.agent[row] == d.agent[i]:
                _leave(t, q, c, a, s, row, int(np.int64(d.run_us[i])))


@njit(cache=True, nogil=True, forceinline=True)
def _enter(t: Tasks, q: Queue, u: UnitCosts, d: Deltas, i: int) -> int:
    row = new_row(t, q)
    t.hi[row] = d.ids[i, 0]
    t.lo[row] = d.ids[i, 1]
    t.klass[row] = d.klass[i]
    t.epoch[row] = d.epoch[i]
    t.priority[row] = d.priority[i]
    t.tenant[row] = d.tenant[i]
    t.unit[row] = d.unit[i]
    t.first[row] = d.first[i]
    t.second[row] = d.second[i]
    t.ready[row] = d.ready[i]
    t.expected[row] = d.expected[i]
    if d.unit[i] >= 0 and u.since[d.unit[i]] == 0:
        u.since[d.unit[i]] = d.ready[i]
    table_insert(t, q.table, row)
    return row


@njit(cache=True, nogil=True)
def expire(t: Tasks, q: Queue, g: Groups, c: Classes, a: Agents, s: Shares, proposed_before_us: int) -> int:
    """Takes back decisions proposed before a moment and never confirmed or refused; how many."""
    count = 0
    for row in range(q.cell[USED]):
        if t.state[row] == PENDING and t.since[row] < proposed_before_us:
            _requeue(t, q, g, c, a, s, row)
            count += 1
    return count


@njit(cache=True, nogil=True)
def unstall(t: Tasks, q: Queue, g: Groups) -> None:
    """Puts stalled tasks back into their heaps once capacity has appeared since they were set aside."""
    if q.cell[STALLED_COUNT] == 0 or q.cell[STALLED_AT] == q.cell[CAPACITY]:
        return
    for i in range(q.cell[STALLED_COUNT]):
        row = q.stalled[i]
        if t.state[row] == DEAD:
            free_row(t, q, row)
        elif t.state[row] == STALLED:
            push(t, q, g, row)
    q.cell[STALLED_COUNT] = 0
    q.cell[STALLED_AT] = q.cell[CAPACITY]


@njit(cache=True, nogil=True)
def rebuild(t: Tasks, q: Queue, g: Groups) -> None:
    """Links every live row anew and frees the dead ones, for a larger table or after many removals from the middle."""
    q.table[:] = -1
    forget_groups(q, g)
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
                push(t, q, g, row)
