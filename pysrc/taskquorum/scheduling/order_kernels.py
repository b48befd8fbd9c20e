"""Who is next: lanes by stride, their tenants by virtual time, a tenant's groups by aged area, inside a group its heap.

Every slice orders the groups anew, because waiting changes their order; a slice costs O(groups) and a decision O(log groups).
A tenant's groups of one lane are a *flow*.
"""

import numpy as np
from numba import njit

from taskquorum.scheduling import constants as k
from taskquorum.scheduling.capacity_kernels import duration_of
from taskquorum.scheduling.columns import (
    ACTIVE_COUNT,
    BY_AREA,
    BY_SUBMIT,
    CRITICAL,
    F64,
    I32,
    LANES,
    MEAN_COUNT,
    MEAN_RUN_US,
    Groups,
    Queue,
    Shares,
    Tasks,
    UnitCosts,
)
from taskquorum.scheduling.group_kernels import head, lane_of, step_of

_BY_STEP = k.PRIORITY_FACTOR ** -np.arange(11.0)
"""What a step of priority inside its lane makes of an area."""


@njit(cache=True, nogil=True, forceinline=True)
def aged(area: float, waited_us: float, mean_us: float) -> float:
    """Area (share-microseconds) that shrinks with waiting: area / (1 + (waited / τ)²), τ = AGEING_DURATIONS mean
    durations. Small areas go first, and nothing waits for ever."""
    if mean_us <= 0.0 or waited_us <= 0.0:
        return area
    turns = waited_us / (k.AGEING_DURATIONS * mean_us)
    return area / (1.0 + turns * turns)


@njit(cache=True, nogil=True, forceinline=True)
def value_of(t: Tasks, g: Groups, s: Shares, u: UnitCosts, group: int, now_us: int, order: int) -> float:
    """The value that orders a group among its tenant's: lower is served first."""
    row = g.root[group]
    if order == BY_SUBMIT:
        return float(t.ready[row])
    if order != BY_AREA:
        return float(t.first[row])
    unit = g.unit[group]
    # A task that outlives its graph (one that was retried) counts for itself.
    if unit >= 0 and u.area[unit] > 0.0:
        area = u.area[unit]
        since = u.since[unit]
    else:
        area = s.share[g.klass[group]] * duration_of(t, s, row)
        since = t.ready[row]
    mean_us = s.mean[MEAN_RUN_US] if s.mean[MEAN_COUNT] > 0 else 0.0
    return aged(area, float(now_us - since), mean_us) * _BY_STEP[step_of(g.priority[group])]


@njit(cache=True, nogil=True, forceinline=True)
def _less(t: Tasks, g: Groups, values: F64, a: int, b: int) -> bool:
    """Whether group `a` goes before group `b` of its flow; at equal values whose head is ready earlier (but inside a graph
    by its order), then whose was submitted earlier, then the row."""
    if values[a] != values[b]:
        return values[a] < values[b]
    row_a, row_b = g.root[a], g.root[b]
    same = g.unit[a] >= 0 and g.unit[a] == g.unit[b]
    if not same and t.ready[row_a] != t.ready[row_b]:
        return t.ready[row_a] < t.ready[row_b]
    if t.first[row_a] != t.first[row_b]:
        return t.first[row_a] < t.first[row_b]
    if t.second[row_a] != t.second[row_b]:
        return t.second[row_a] < t.second[row_b]
    return a < b


@njit(cache=True, nogil=True, forceinline=True)
def sift_down(t: Tasks, g: Groups, values: F64, heaps: I32, start: int, size: int, at: int) -> None:
    """Restores the binary heap of groups in `heaps[start : start + size]` below place `at`."""
    while True:
        first = at
        for child in (2 * at + 1, 2 * at + 2):
            if child < size and _less(t, g, values, heaps[start + child], heaps[start + first]):
                first = child
        if first == at:
            return
        heaps[start + at], heaps[start + first] = heaps[start + first], heaps[start + at]
        at = first


@njit(cache=True, nogil=True)
def open_flows(
    t: Tasks, q: Queue, g: Groups, s: Shares, u: UnitCosts, now_us: int, order: int, values: F64, heaps: I32, flows: I32
) -> int:
    """Orders all groups that have a task. `values` f64[group rows] gets their values, `heaps` i32[group rows] one heap a
    flow, `flows` i32[flows, 4] per flow (lane, tenant, start, size); how many flows. Baselines have one flow."""
    tenants = s.virtual.size
    count = np.zeros(LANES * tenants, np.int32)
    i = 0
    while i < q.cell[ACTIVE_COUNT]:
        group = g.active[i]
        if head(t, q, g, group) < 0:
            continue  # `head` moved another group into this place
        values[group] = value_of(t, g, s, u, group, now_us, order)
        count[_flow_of(g, group, tenants, order)] += 1
        i += 1
    found = 0
    start = 0
    place = np.empty(LANES * tenants, np.int32)
    for flow in range(count.size):
        if count[flow] > 0:
            flows[found, 0] = flow // tenants
            flows[found, 1] = flow % tenants
            flows[found, 2] = start
            flows[found, 3] = 0
            place[flow] = found
            start += count[flow]
            found += 1
    for i in range(q.cell[ACTIVE_COUNT]):
        group = g.active[i]
        at = place[_flow_of(g, group, tenants, order)]
        heaps[flows[at, 2] + flows[at, 3]] = group
        flows[at, 3] += 1
    for at in range(found):
        for i in range(flows[at, 3] // 2 - 1, -1, -1):
            sift_down(t, g, values, heaps, flows[at, 2], flows[at, 3], i)
    return found


@njit(cache=True, nogil=True, forceinline=True)
def _flow_of(g: Groups, group: int, tenants: int, order: int) -> int:
    if order != BY_AREA:
        return 0
    return lane_of(g.priority[group]) * tenants + g.tenant[group]


@njit(cache=True, nogil=True, forceinline=True)
def next_flow(s: Shares, flows: I32, count: int, slots: int) -> int:
    """The flow that is served next, −1 when none has a group left: the lane with the least stride (critical work only up
    to CRITICAL_SLOTS of all `slots` while another lane waits), in it the tenant with the least virtual time."""
    best = -1
    others = False
    for at in range(count):
        if flows[at, 3] > 0 and flows[at, 0] != CRITICAL:
            others = True
    capped = others and s.lane_slots[CRITICAL] >= k.CRITICAL_SLOTS * slots
    for at in range(count):
        if flows[at, 3] == 0 or (capped and flows[at, 0] == CRITICAL):
            continue
        if best < 0:
            best = at
            continue
        lane, best_lane = flows[at, 0], flows[best, 0]
        if lane != best_lane:
            if s.lane_pass[lane] < s.lane_pass[best_lane]:
                best = at
        elif s.virtual[flows[at, 1]] < s.virtual[flows[best, 1]]:
            best = at
    return best
