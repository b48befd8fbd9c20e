"""Feasible, then score: which agents can take a class, and how good each would be.

What always holds: integers only; no agent is chosen that lacks a hard need, a label, the task type or free capacity; equal
scores go to the tightest fit, then to the lowest agent id.
"""

import numpy as np
from numba import njit

from taskquorum.scheduling import constants as k
from taskquorum.scheduling.columns import I16, I32, I64, MATCH_NEXT, Agents, Classes, Match

_SCALE = k.SCALE
_QUANTUM = k.QUANTUM
_NEUTRAL = k.NEUTRAL
_FORGIVEN = k.LOAD_FORGIVEN


@njit(cache=True, nogil=True)
def match_of(c: Classes, a: Agents, klass: int, agent: int) -> int:
    """Weighted mean of the declared levels a class asks for, in basis points, rounded down to QUANTUM; −1 where the agent
    lacks a hard need, a label, the task type, or could not hold the demand even when empty. A class without needs is worth
    a full match everywhere."""
    kind = c.kind[klass]
    if (a.kinds[agent, kind // 64] >> np.uint64(kind % 64)) & np.uint64(1) == np.uint64(0):
        return -1
    for w in range(c.labels.shape[1]):
        if (c.labels[klass, w] & ~a.labels[agent, w]) != np.uint64(0):
            return -1
    for r in range(c.demand.shape[1]):
        if c.demand[klass, r] > a.total[agent, r]:
            return -1
    weighted = 0
    weights = 0
    for i in range(c.need_from[klass], c.need_from[klass] + c.need_count[klass]):
        level = a.capability[agent, c.need_dimension[i]]
        if level < c.need_min[i]:
            return -1
        weighted += c.need_weight[i] * max(level, 0)
        weights += c.need_weight[i]
    if weights == 0:
        return _SCALE
    return weighted // weights // _QUANTUM * _QUANTUM


@njit(cache=True, nogil=True)
def match_row(c: Classes, a: Agents, m: Match, cell: I64, agents: int, klass: int) -> int:
    """The row of `Match` for a class, computed if it is missing or older than the agents."""
    row = c.match_row[klass]
    if row < 0:
        row = cell[MATCH_NEXT]
        cell[MATCH_NEXT] = (row + 1) % m.owner.size
        if m.owner[row] >= 0:
            c.match_row[m.owner[row]] = -1
        m.owner[row] = klass
        m.at[row] = -1
        c.match_row[klass] = row
    if m.at[row] != a.version[0]:
        for agent in range(agents):
            m.value[row, agent] = match_of(c, a, klass, agent)
        m.at[row] = a.version[0]
    return row


@njit(cache=True, nogil=True)
def stand(a: Agents, first: int, end: int, standings: I64) -> None:
    """Fills, for agents `first`..`end`, what a class has no part in: the terms success (1) and 1 − load (2), and in cell 6 how
    much of the agent is free.

    Success is the mean of Beta(1 + successes, 1 + failures). Load is the larger of the reported load and the share of slots
    leased, so equal agents fill evenly. Free is the sum over resources of the share not leased, the tie-break: less is a
    tighter fit.
    """
    # Arrays are taken out of the tuple once: numba copies the whole tuple into each call it does not inline.
    succeeded, failed, load, total, leased = a.succeeded, a.failed, a.load, a.total, a.leased
    for agent in range(first, end):
        busy = max(load[agent, 0], load[agent, 1], load[agent, 2])
        if total[agent, 0] > 0:
            busy = max(busy, leased[agent, 0] * _SCALE // total[agent, 0])
        success = _SCALE * (1 + succeeded[agent]) // (2 + succeeded[agent] + failed[agent])
        standings[agent, 1] = success // _QUANTUM * _QUANTUM
        standings[agent, 2] = (_SCALE - min(max(busy, 0), _SCALE)) // _QUANTUM * _QUANTUM
        free = 0
        for r in range(total.shape[1]):
            if total[agent, r] > 0:
                free += (total[agent, r] - leased[agent, r]) * _SCALE // total[agent, r]
        standings[agent, 6] = free


@njit(cache=True, nogil=True)
def fit(total: I64, leased: I64, load: I32, measured: I32, demand: I64, agent: int) -> int:
    """The term fit of a class on an agent, −1 where a demand does not fit into what is free.

    Free is the total less what is leased, or less what the agent reports as used where a load measures the resource,
    whichever is less. Small leftovers of the divisible resources the class asks for (not slots) are worth most.
    """
    share = 0
    asked = 0
    for r in range(demand.size):
        if demand[r] <= 0:
            continue
        whole = total[agent, r]
        free = whole - leased[agent, r]
        column = measured[r]
        if column >= 0:
            used = load[agent, column] - _FORGIVEN
            if used > 0:
                free = min(free, whole * (_SCALE - min(used, _SCALE)) // _SCALE)
        if demand[r] > free:
            return -1
        if r > 0:
            share += (free - demand[r]) * _SCALE // whole
            asked += 1
    return _NEUTRAL if asked == 0 else _SCALE - min(share // asked, _SCALE)


@njit(cache=True, nogil=True)
def spread_of(a: Agents, node: int) -> int:
    """The free share of a node's slots in basis points, 0..SCALE; neutral for a node without any."""
    if a.node_total[node] <= 0:
        return _NEUTRAL
    return min(max(_SCALE - a.node_leased[node] * _SCALE // a.node_total[node], 0), _SCALE)


@njit(cache=True, nogil=True)
def evaluate(a: Agents, demand: I64, matches: I16, standings: I64, first: int, end: int, scores: I64) -> None:
    """Scores agents `first`..`end` for a class into `scores` (basis points times SCALE, without
    spread), −1 where it does not fit now."""
    total, leased, load, measured, placeable = a.total, a.leased, a.load, a.measured, a.placeable
    for agent in range(first, end):
        scores[agent] = -1
        if matches[agent] >= 0 and placeable[agent]:
            fitting = fit(total, leased, load, measured, demand, agent)
            if fitting >= 0:
                scores[agent] = (
                    k.WEIGHT_MATCH * matches[agent]
                    + k.WEIGHT_SUCCESS * standings[agent, 1]
                    + k.WEIGHT_LOAD * standings[agent, 2]
                    + k.WEIGHT_FIT * fitting
                    + k.WEIGHT_DATA * _NEUTRAL
                )


@njit(cache=True, nogil=True)
def is_excluded(pool: I32, start: int, agent: int) -> bool:
    """Whether an agent stands in the list that begins at `start` (−1: no list)."""
    if start >= 0:
        i = start
        while pool[i] >= 0:
            if pool[i] == agent:
                return True
            i += 1
    return False


@njit(cache=True, nogil=True)
def best_agent(
    scores: I64, standings: I64, spread: I64, node: I32, rank: I32, pool: I32, agents: int, excluded: int, closed: int
) -> int:
    """The agent with the best score, at ties the tightest fit, then the lowest id; −1 when none fits. `closed` is an agent
    that may not be taken (−1: none)."""
    best = -1
    best_score = -1
    for agent in range(agents):
        if scores[agent] < 0 or agent == closed or is_excluded(pool, excluded, agent):
            continue
        score = scores[agent] + k.WEIGHT_SPREAD * spread[node[agent]]
        if score < best_score:
            continue
        if score == best_score:
            if standings[agent, 6] > standings[best, 6]:
                continue
            if standings[agent, 6] == standings[best, 6] and rank[agent] > rank[best]:
                continue
        best = agent
        best_score = score
    return best
