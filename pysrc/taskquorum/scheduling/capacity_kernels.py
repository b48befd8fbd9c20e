"""What an agent has left: a task's lease on it, and the charge of that lease to the task's tenant and lane.

What always holds: the capacity of PENDING and HELD rows, and of no others, counts as leased, and exactly these rows are
linked at their agent. A charge is what was predicted; the end settles it by what was used.
"""

import numpy as np
from numba import njit

from taskquorum.scheduling import constants as k
from taskquorum.scheduling.columns import (
    CAPACITY,
    MEAN_COUNT,
    MEAN_RUN_US,
    Agents,
    Classes,
    Queue,
    Shares,
    Tasks,
)
from taskquorum.scheduling.group_kernels import lane_of

_LANE_WEIGHTS = np.array(k.LANE_WEIGHTS)


@njit(cache=True, nogil=True, forceinline=True)
def duration_of(t: Tasks, s: Shares, row: int) -> float:
    """How long a task is predicted to run, in microseconds: what was said of it, else the p50 of its class."""
    return float(t.expected[row]) if t.expected[row] > 0 else s.median[t.klass[row]]


@njit(cache=True, nogil=True, forceinline=True)
def lease(t: Tasks, c: Classes, a: Agents, s: Shares, row: int, agent: int, now_us: int) -> None:
    """Counts the demand of a task against an agent from `now_us`, and charges its tenant and lane what it is predicted to
    use: dominant share times duration (the stride form of dominant resource fairness; Ghodsi et al., NSDI 2011)."""
    klass = t.klass[row]
    t.agent[row] = agent
    for r in range(c.demand.shape[1]):
        a.leased[agent, r] += c.demand[klass, r]
    a.node_leased[a.node[agent]] += c.demand[klass, 0]
    first = a.tasks[agent]
    t.after[row] = first
    t.previous[row] = -1
    if first >= 0:
        t.previous[first] = row
    a.tasks[agent] = row
    duration = duration_of(t, s, row)
    t.since[row] = now_us
    t.ends[row] = now_us + int(duration)
    lane = lane_of(t.priority[row])
    s.leased[t.tenant[row]] += 1
    s.lane_slots[lane] += c.demand[klass, 0]
    t.charge[row] = 0.0
    charge(t, s, row, s.share[klass] * duration)


@njit(cache=True, nogil=True, forceinline=True)
def charge(t: Tasks, s: Shares, row: int, used: float) -> None:
    """Sets what a task is charged, in share-microseconds."""
    more = used - t.charge[row]
    lane = lane_of(t.priority[row])
    s.virtual[t.tenant[row]] += more / s.weight[t.tenant[row]]
    s.lane_pass[lane] += more / _LANE_WEIGHTS[lane]
    t.charge[row] = used


@njit(cache=True, nogil=True, forceinline=True)
def release(t: Tasks, q: Queue, c: Classes, a: Agents, s: Shares, row: int, run_us: int) -> None:
    """Gives back what `lease` took and settles the charge at `run_us` microseconds of use (0: it never ran); blocked classes
    are tried again."""
    klass = t.klass[row]
    agent = t.agent[row]
    for r in range(c.demand.shape[1]):
        a.leased[agent, r] -= c.demand[klass, r]
    a.node_leased[a.node[agent]] -= c.demand[klass, 0]
    after, previous = t.after[row], t.previous[row]
    if previous >= 0:
        t.after[previous] = after
    else:
        a.tasks[agent] = after
    if after >= 0:
        t.previous[after] = previous
    charge(t, s, row, s.share[klass] * run_us)
    s.leased[t.tenant[row]] -= 1
    s.lane_slots[lane_of(t.priority[row])] -= c.demand[klass, 0]
    t.agent[row] = -1
    q.cell[CAPACITY] += 1


@njit(cache=True, nogil=True, forceinline=True)
def learn_mean(s: Shares, run_us: int) -> None:
    """Moves the mean duration by one that ended; the newest MEAN_SAMPLES weigh most."""
    if s.mean[MEAN_COUNT] < k.MEAN_SAMPLES:
        s.mean[MEAN_COUNT] += 1
    s.mean[MEAN_RUN_US] += (run_us - s.mean[MEAN_RUN_US]) / s.mean[MEAN_COUNT]
