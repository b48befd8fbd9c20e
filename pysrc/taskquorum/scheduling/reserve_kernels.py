"""A place kept for the task that is next but does not fit: when an agent will have room, and what may run there until then.

EASY backfilling (Lifka, JSSPP 1995), with the reservation made anew in every slice for whoever is next then. One agent is
reserved at a time; all others are open to everyone.
"""

import numpy as np
from numba import njit

from taskquorum.scheduling import constants as k
from taskquorum.scheduling.columns import I16, I64, Agents, Classes, Tasks


@njit(cache=True, nogil=True, forceinline=True)
def needs_reservation(demand: I64) -> bool:
    """Whether small tasks could pass a task for ever: it asks for more than one slot or for a divisible resource. Whoever
    asks for one slot alone gets the first that is free."""
    if demand[0] > 1:
        return True
    for r in range(1, demand.size):
        if demand[r] > 0:
            return True
    return False


@njit(cache=True, nogil=True)
def predicted_end(t: Tasks, row: int, now_us: int) -> int:
    """When a running task is predicted to end; one that is past that goes on for OVERDUE of what it ran."""
    if t.ends[row] > now_us:
        return t.ends[row]
    return now_us + 1 + int((now_us - t.since[row]) * k.OVERDUE)


@njit(cache=True, nogil=True)
def room_at(t: Tasks, c: Classes, a: Agents, demand: I64, agent: int, now_us: int, extra: I64) -> int:
    """When `agent` is predicted to have room for `demand`, and in `extra` what it has left besides then; −1 for never."""
    count = 0
    row = a.tasks[agent]
    while row >= 0:
        count += 1
        row = t.after[row]
    rows = np.empty(count, np.int64)
    ends = np.empty(count, np.int64)
    row = a.tasks[agent]
    for i in range(count):
        rows[i] = row
        ends[i] = predicted_end(t, row, now_us)
        row = t.after[row]
    for r in range(demand.size):
        extra[r] = a.total[agent, r] - a.leased[agent, r] - demand[r]
    at = now_us
    # Tasks that end together all give back before the moment is told.
    for i in np.argsort(ends, kind="mergesort"):
        if ends[i] > at and extra.min() >= 0:
            break
        at = ends[i]
        klass = t.klass[rows[i]]
        for r in range(demand.size):
            extra[r] += c.demand[klass, r]
    return at if extra.min() >= 0 else -1


@njit(cache=True, nogil=True)
def reserve(t: Tasks, c: Classes, a: Agents, matches: I16, demand: I64, agents: int, now_us: int, extra: I64) -> tuple[int, int]:
    """The agent that is the first to have room for `demand` among those that can ever take it, and when (µs); (−1, 0) when
    none is predicted to. `extra` gets what the agent has left then. At most RESERVE_AGENTS are looked at, in row order."""
    best = -1
    best_at = 0
    looked = 0
    found = np.empty(demand.size, np.int64)
    for agent in range(agents):
        if matches[agent] < 0 or not a.placeable[agent]:
            continue
        looked += 1
        if looked > k.RESERVE_AGENTS:
            break
        at = room_at(t, c, a, demand, agent, now_us, found)
        if at >= 0 and (best < 0 or at < best_at or (at == best_at and a.rank[agent] < a.rank[best])):
            best = agent
            best_at = at
            extra[:] = found
    return best, best_at


@njit(cache=True, nogil=True, forceinline=True)
def may_pass(demand: I64, ends_us: float, reserved_at_us: int, extra: I64) -> bool:
    """Whether a task may run on the reserved agent: it ends in time, or needs only what the reserved task leaves."""
    if ends_us <= reserved_at_us:
        return True
    for r in range(demand.size):
        if demand[r] > extra[r]:
            return False
    return True
