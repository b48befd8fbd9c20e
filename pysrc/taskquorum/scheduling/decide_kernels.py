"""The placement of one slice: order and score put together.

What always holds: a decision leases its capacity before the next one is taken; a task that can be placed is never passed
over for one that is served after it, but where a place is kept for who is next and does not fit (reserve_kernels.py).
"""

import numpy as np
from numba import njit

from taskquorum.scheduling import constants as k
from taskquorum.scheduling.capacity_kernels import duration_of, lease
from taskquorum.scheduling.columns import (
    CAPACITY,
    F64,
    I16,
    I32,
    PENDING,
    PENDING_COUNT,
    QUEUED_COUNT,
    STALLED,
    STALLED_COUNT,
    Agents,
    Classes,
    Groups,
    Match,
    Queue,
    Shares,
    Tasks,
    UnitCosts,
)
from taskquorum.scheduling.group_kernels import head, pop, uncount_queued
from taskquorum.scheduling.kernels import best_agent, evaluate, fit, match_row, spread_of, stand
from taskquorum.scheduling.order_kernels import next_flow, open_flows, sift_down, value_of
from taskquorum.scheduling.reserve_kernels import may_pass, needs_reservation, reserve


@njit(cache=True, nogil=True)
def _has_slot(a: Agents, agents: int) -> bool:
    for agent in range(agents):
        if a.placeable[agent] and a.leased[agent, 0] < a.total[agent, 0]:
            return True
    return False


@njit(cache=True, nogil=True)
def decide(
    t: Tasks,
    q: Queue,
    g: Groups,
    c: Classes,
    a: Agents,
    m: Match,
    s: Shares,
    u: UnitCosts,
    agents: int,
    now_us: int,
    work_max: int,
    order: int,
    values: F64,
    heaps: I32,
    flows: I32,
    out_task: I32,
    out_agent: I32,
    out_terms: I16,
) -> int:
    """Places up to `out_task.size` tasks at cluster time `now_us` and marks them PENDING; returns how many.

    Stops early when nothing that is queued can be placed or when about `work_max` pairs were looked at; what was learned
    (blocked classes, stalled tasks) stands until capacity appears, so calling again goes on where this ended. `values`,
    `heaps` and `flows` are room to work in, see `open_flows`.
    """
    if q.cell[QUEUED_COUNT] == 0 or not _has_slot(a, agents):
        return 0
    flow_count = open_flows(t, q, g, s, u, now_us, order, values, heaps, flows)
    standings = np.zeros((agents, k.TERMS + 1), np.int64)
    stand(a, 0, agents, standings)
    spread = np.empty(a.node_total.size, np.int64)
    for node in range(spread.size):
        spread[node] = spread_of(a, node)
    scores = np.empty(agents, np.int64)
    extra = np.zeros(s.total.size, np.int64)
    reserved = -1
    reserved_at = 0
    scored = -1
    placed = 0
    work = 0
    while placed < out_task.size and work < work_max:
        flow = next_flow(s, flows, flow_count, s.total[0])
        if flow < 0:
            break
        start = flows[flow, 2]
        group = heaps[start]
        klass = g.klass[group]
        row = g.root[group]
        demand = c.demand[klass]
        agent = -1
        blocked = q.blocked[klass] == q.cell[CAPACITY]
        if not blocked or (reserved < 0 and needs_reservation(demand)):
            matches = m.value[match_row(c, a, m, q.cell, agents, klass)]
        if not blocked:
            if klass != scored:
                evaluate(a, demand, matches, standings, 0, agents, scores)
                scored = klass
            closed = -1
            if reserved >= 0 and not may_pass(demand, now_us + duration_of(t, s, row), reserved_at, extra):
                closed = reserved
            agent = best_agent(scores, standings, spread, a.node, a.rank, q.pool, agents, t.excluded[row], closed)
            work += agents
            if agent < 0 and t.excluded[row] < 0 and (closed < 0 or scores[closed] < 0):
                blocked = True
                q.blocked[klass] = q.cell[CAPACITY]
        if agent < 0 and t.excluded[row] >= 0:
            pop(t, g, group)
            q.cell[QUEUED_COUNT] -= 1
            t.state[row] = STALLED
            q.stalled[q.cell[STALLED_COUNT]] = row
            q.cell[STALLED_COUNT] += 1
        elif agent < 0:
            if reserved < 0 and blocked and needs_reservation(demand):
                reserved, reserved_at = reserve(t, c, a, matches, demand, agents, now_us, extra)
                work += agents
            _close(t, g, values, heaps, flows, flow)
            continue
        else:
            pop(t, g, group)
            q.cell[QUEUED_COUNT] -= 1
            uncount_queued(t, s, row)
            out_terms[placed, 0] = matches[agent]
            out_terms[placed, 1] = standings[agent, 1]
            out_terms[placed, 2] = standings[agent, 2]
            out_terms[placed, 3] = fit(a.total, a.leased, a.load, a.measured, demand, agent)
            out_terms[placed, 4] = k.NEUTRAL
            out_terms[placed, 5] = spread[a.node[agent]]
            out_task[placed] = row
            out_agent[placed] = agent
            placed += 1
            t.state[row] = PENDING
            q.cell[PENDING_COUNT] += 1
            lease(t, c, a, s, row, agent, now_us)
            if agent == reserved and t.ends[row] > reserved_at:
                for r in range(demand.size):
                    extra[r] -= demand[r]
            spread[a.node[agent]] = spread_of(a, a.node[agent])
            stand(a, agent, agent + 1, standings)
            evaluate(a, demand, matches, standings, agent, agent + 1, scores)
        if head(t, q, g, group) < 0:
            _close(t, g, values, heaps, flows, flow)
        else:
            values[group] = value_of(t, g, s, u, group, now_us, order)
            sift_down(t, g, values, heaps, start, flows[flow, 3], 0)
    return placed


@njit(cache=True, nogil=True, forceinline=True)
def _close(t: Tasks, g: Groups, values: F64, heaps: I32, flows: I32, flow: int) -> None:
    """Takes the first group of a flow out of this slice."""
    start = flows[flow, 2]
    flows[flow, 3] -= 1
    heaps[start] = heaps[start + flows[flow, 3]]
    sift_down(t, g, values, heaps, start, flows[flow, 3], 0)
