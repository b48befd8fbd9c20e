"""Groups of queued tasks: a table from what makes a group to its row, and one pairing heap of task rows a group.

What always holds: a group is in the table and in `active` exactly while its heap holds a row; a heap holds QUEUED and DEAD
rows only. A removal from the middle of a heap only marks the row DEAD: it is freed when it surfaces.

The heap is the pairing heap of Fredman, Sedgewick, Sleator and Tarjan (1986): O(1) push, amortised O(log n) pop.
"""

import numpy as np
from numba import njit

from taskquorum.scheduling.columns import (
    ACTIVE_COUNT,
    BATCH,
    BEST_EFFORT,
    CRITICAL,
    DEAD,
    DEAD_COUNT,
    FREE,
    FREE_HEAD,
    GROUPS_FREE,
    GROUPS_USED,
    I32,
    I64,
    INTERACTIVE,
    QUEUED,
    QUEUED_COUNT,
    U64,
    Groups,
    Queue,
    Shares,
    Tasks,
)

_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
_SHIFT = np.uint64(32)


@njit(cache=True, nogil=True, forceinline=True)
def lane_of(priority: int) -> int:
    """The service class of a priority (−10..10): 9 and more critical, 5..8 interactive, 0..4 batch, below best-effort."""
    if priority >= 9:
        return CRITICAL
    if priority >= 5:
        return INTERACTIVE
    if priority >= 0:
        return BATCH
    return BEST_EFFORT


@njit(cache=True, nogil=True, forceinline=True)
def step_of(priority: int) -> int:
    """How far a priority stands above the lowest of its lane."""
    if priority >= 9:
        return priority - 9
    if priority >= 5:
        return priority - 5
    if priority >= 0:
        return priority
    return priority + 10


# ---- the heaps --------------------------------------------------------------------------------------------------


@njit(cache=True, nogil=True, forceinline=True)
def before(t: Tasks, a: int, b: int) -> bool:
    """Whether row `a` is served before row `b` of the same group."""
    if t.first[a] != t.first[b]:
        return t.first[a] < t.first[b]
    if t.second[a] != t.second[b]:
        return t.second[a] < t.second[b]
    if t.hi[a] != t.hi[b]:
        return t.hi[a] < t.hi[b]
    return t.lo[a] < t.lo[b]


@njit(cache=True, nogil=True, forceinline=True)
def _meld(t: Tasks, a: int, b: int) -> int:
    if before(t, b, a):
        a, b = b, a
    t.sibling[b] = t.child[a]
    t.child[a] = b
    return a


@njit(cache=True, nogil=True, forceinline=True)
def push(t: Tasks, q: Queue, g: Groups, row: int) -> None:
    """Queues a row in the heap of its group, which is found or made; whether it is counted as waiting is left to the caller."""
    group = _group_row(t, q, g, row)
    t.group[row] = group
    t.child[row] = -1
    t.sibling[row] = -1
    t.state[row] = QUEUED
    q.cell[QUEUED_COUNT] += 1
    g.root[group] = row if g.root[group] < 0 else _meld(t, g.root[group], row)


@njit(cache=True, nogil=True, forceinline=True)
def pop(t: Tasks, g: Groups, group: int) -> int:
    """Takes the root of a heap out; its state and the counters are left to the caller."""
    root = g.root[group]
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
    g.root[group] = whole
    t.child[root] = -1
    t.sibling[root] = -1
    return root


@njit(cache=True, nogil=True, forceinline=True)
def head(t: Tasks, q: Queue, g: Groups, group: int) -> int:
    """The first live row of a group after freeing the dead ones above it; −1 when there is none, and the group is gone."""
    while g.root[group] >= 0 and t.state[g.root[group]] == DEAD:
        row = pop(t, g, group)
        q.cell[DEAD_COUNT] -= 1
        free_row(t, q, row)
    if g.root[group] < 0:
        last = g.active[q.cell[ACTIVE_COUNT] - 1]
        g.active[g.active_at[group]] = last
        g.active_at[last] = g.active_at[group]
        g.active_at[group] = -1
        q.cell[ACTIVE_COUNT] -= 1
        _table_remove(g, group)
        g.klass[group] = q.cell[GROUPS_FREE]
        q.cell[GROUPS_FREE] = group
        return -1
    return g.root[group]


@njit(cache=True, nogil=True)
def reorder(t: Tasks, q: Queue, g: Groups, rows: I32, first: I64) -> None:
    """Gives queued rows i32[n] of one graph another order; their groups' heaps are made anew."""
    for row in rows:
        group = t.group[row]
        while g.root[group] >= 0:
            top = pop(t, g, group)
            if t.state[top] == DEAD:
                q.cell[DEAD_COUNT] -= 1
                free_row(t, q, top)
    for i in range(rows.size):
        row = rows[i]
        t.first[row] = first[i]
        t.child[row] = -1
        t.sibling[row] = -1
        root = g.root[t.group[row]]
        g.root[t.group[row]] = row if root < 0 else _meld(t, root, row)


@njit(cache=True, nogil=True, forceinline=True)
def free_row(t: Tasks, q: Queue, row: int) -> None:
    """Gives a task row back."""
    t.state[row] = FREE
    t.sibling[row] = q.cell[FREE_HEAD]
    q.cell[FREE_HEAD] = row


# ---- who waits --------------------------------------------------------------------------------------------------


@njit(cache=True, nogil=True, forceinline=True)
def count_queued(t: Tasks, s: Shares, row: int) -> None:
    """Counts a row as waiting (queued or stalled). A lane or tenant that had nothing starts where the least served one that
    waits or runs stands: being away earns no credit."""
    tenant = t.tenant[row]
    lane = lane_of(t.priority[row])
    if s.queued[tenant] == 0 and s.leased[tenant] == 0:
        least = np.inf
        for other in range(s.virtual.size):
            if (s.queued[other] > 0 or s.leased[other] > 0) and s.virtual[other] < least:
                least = s.virtual[other]
        if least < np.inf and s.virtual[tenant] < least:
            s.virtual[tenant] = least
    s.queued[tenant] += 1
    if s.lane_queued[lane] == 0 and s.lane_slots[lane] == 0:
        least = np.inf
        for other in range(s.lane_pass.size):
            if (s.lane_queued[other] > 0 or s.lane_slots[other] > 0) and s.lane_pass[other] < least:
                least = s.lane_pass[other]
        if least < np.inf and s.lane_pass[lane] < least:
            s.lane_pass[lane] = least
    s.lane_queued[lane] += 1


@njit(cache=True, nogil=True, forceinline=True)
def uncount_queued(t: Tasks, s: Shares, row: int) -> None:
    """The row waits no more."""
    s.queued[t.tenant[row]] -= 1
    s.lane_queued[lane_of(t.priority[row])] -= 1


# ---- the table --------------------------------------------------------------------------------------------------


@njit(cache=True, nogil=True, forceinline=True)
def _home(table: I32, unit: int, tenant: int, klass: int, priority: int, expected: int) -> int:
    mixed = np.uint64(klass) | (np.uint64(priority + 10) << np.uint64(32)) | (np.uint64(tenant) << np.uint64(40))
    mixed = (mixed ^ (np.uint64(unit + 1) * _MULTIPLIER)) * _MULTIPLIER
    mixed = (mixed ^ np.uint64(expected)) * _MULTIPLIER
    return int(np.int64(mixed >> _SHIFT) & (table.size - 1))


@njit(cache=True, nogil=True, forceinline=True)
def _home_of(g: Groups, group: int) -> int:
    return _home(g.table, g.unit[group], g.tenant[group], g.klass[group], g.priority[group], g.expected[group])


@njit(cache=True, nogil=True, forceinline=True)
def _group_row(t: Tasks, q: Queue, g: Groups, row: int) -> int:
    """The group a row belongs to, made if nobody else waits in it."""
    unit, tenant, klass, priority, expected = t.unit[row], t.tenant[row], t.klass[row], t.priority[row], t.expected[row]
    if unit >= 0:
        expected = 0  # Inside a graph the rank orders, whatever a single task is expected to take.
    table = g.table
    at = _home(table, unit, tenant, klass, priority, expected)
    while table[at] >= 0:
        group = table[at]
        if (
            g.klass[group] == klass
            and g.tenant[group] == tenant
            and g.unit[group] == unit
            and g.priority[group] == priority
            and g.expected[group] == expected
        ):
            return group
        at = (at + 1) & (table.size - 1)
    group = q.cell[GROUPS_FREE]
    if group >= 0:
        q.cell[GROUPS_FREE] = g.klass[group]
    else:
        group = q.cell[GROUPS_USED]
        q.cell[GROUPS_USED] += 1
    table[at] = group
    g.unit[group] = unit
    g.tenant[group] = tenant
    g.klass[group] = klass
    g.priority[group] = priority
    g.expected[group] = expected
    g.root[group] = -1
    g.active_at[group] = q.cell[ACTIVE_COUNT]
    g.active[q.cell[ACTIVE_COUNT]] = group
    q.cell[ACTIVE_COUNT] += 1
    return group


@njit(cache=True, nogil=True, forceinline=True)
def _table_remove(g: Groups, group: int) -> None:
    """Takes a group out and moves later entries of its run back, so that no tombstones pile up."""
    table = g.table
    mask = table.size - 1
    at = _home_of(g, group)
    while table[at] != group:
        at = (at + 1) & mask
    hole = at
    at = (at + 1) & mask
    while table[at] >= 0:
        if ((at - _home_of(g, table[at])) & mask) >= ((at - hole) & mask):
            table[hole] = table[at]
            hole = at
        at = (at + 1) & mask
    table[hole] = -1


@njit(cache=True, nogil=True)
def forget_groups(q: Queue, g: Groups) -> None:
    """Empties the table, before every queued row is pushed anew."""
    g.table[:] = -1
    g.root[:] = -1
    g.active_at[:] = -1
    q.cell[ACTIVE_COUNT] = 0
    q.cell[GROUPS_USED] = 0
    q.cell[GROUPS_FREE] = -1


@njit(cache=True, nogil=True)
def stepped(expected: I64, steps: int) -> None:
    """Rounds expected durations (µs) down in place to `steps` steps an octave, so that near-equal ones share a group."""
    for i in range(expected.size):
        if expected[i] > 0:
            octave = np.floor(np.log2(expected[i]) * steps) / steps
            expected[i] = max(1, int(2.0**octave))


@njit(cache=True, nogil=True)
def shuffled(ids: U64) -> I64:
    """Numbers i64[n] that depend on the ids u64[n, 2] alone and have no order, for the baseline BY_CHANCE."""
    found = np.empty(ids.shape[0], np.int64)
    for i in range(ids.shape[0]):
        mixed = (ids[i, 0] ^ (ids[i, 1] * _MULTIPLIER)) * _MULTIPLIER
        mixed = (mixed ^ (mixed >> _SHIFT)) * _MULTIPLIER
        found[i] = np.int64(mixed >> np.uint64(12))
    return found
