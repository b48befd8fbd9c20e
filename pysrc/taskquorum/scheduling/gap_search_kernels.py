"""Search for cheaper assignments: shifts, and chains of two moves, under a penalty for overload that adapts.

A chain moves a task to another agent and one task from there on (back to where the first came from: a swap), after the
ejection chains of Yagiura, Ibaraki and Glover (EJOR 169, 2006). Overload is allowed at a price, so that the search can pass
between feasible answers; only feasible ones are kept. See gap_kernels.py for the arrays.
"""

import numpy as np
from numba import njit

from taskquorum.scheduling import constants as k
from taskquorum.scheduling.columns import F64, I8, I32, I64

# Cells of `Search.cell` in gap.py.
TURN = 0
"""Kicks so far: the counter of the generator."""
WORK = 1
"""Pairs of moves looked at."""
AT = 2
"""The task that is tried next."""
LOOK = 3
"""Tasks that are to be tried: those of agents that changed since they last were."""
BEST = 4
"""Cost of the best feasible answer; −1 while there is none."""
CELLS = 8


@njit(cache=True, nogil=True)
def overload(size: I64, capacity: I64, load: I64, a: int, plus: int, minus: int, unit: F64) -> float:
    """Price of an agent's overload with task `plus` more and task `minus` less (−1: none)."""
    price = 0.0
    for r in range(capacity.shape[1]):
        over = load[a, r] - capacity[a, r]
        if plus >= 0:
            over += size[plus, a, r]
        if minus >= 0:
            over -= size[minus, a, r]
        if over > 0:
            price += over * unit[a, r]
    return price


@njit(cache=True, nogil=True)
def _noise(turn: int, i: int) -> int:
    """31 bits that depend on nothing but the arguments (SplitMix64; Steele, Lea and Flood, OOPSLA 2014)."""
    mixed = np.uint64(turn + 1) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(i + 1) * np.uint64(0xD1B54A32D192ED03)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return int((mixed ^ (mixed >> np.uint64(31))) >> np.uint64(33))


@njit(cache=True, nogil=True)
def _move(size: I64, load: I64, agent: I32, members: I32, count: I32, place: I32, j: int, b: int) -> None:
    """Moves task `j` to agent `b`."""
    a = agent[j]
    last = members[a, count[a] - 1]
    members[a, place[j]] = last
    place[last] = place[j]
    count[a] -= 1
    members[b, count[b]] = j
    place[j] = count[b]
    count[b] += 1
    for r in range(size.shape[2]):
        load[a, r] -= size[j, a, r]
        load[b, r] += size[j, b, r]
    agent[j] = b


@njit(cache=True, nogil=True)
def look_at(members: I32, count: I32, look: I8, cell: I64, a: int) -> None:
    """All tasks of an agent are to be tried again."""
    for at in range(count[a]):
        j = members[a, at]
        if not look[j]:
            look[j] = 1
            cell[LOOK] += 1


@njit(cache=True, nogil=True)
def _best_chain(
    cost: I32, size: I64, capacity: I64, near: I32, unit: F64, price: float,
    agent: I32, load: I64, members: I32, count: I32, alone: F64, j: int, cell: I64,
) -> tuple[float, int, int, int]:  # fmt: skip
    """The best shift or chain that begins with task `j`: (change, agent for j, other task or −1, agent for it)."""
    a = agent[j]
    best, to, other, then = -1e-9, -1, -1, -1
    freed = overload(size, capacity, load, a, -1, j, unit) - alone[a]
    for at in range(near.shape[1]):
        b = near[j, at]
        if b == a:
            continue
        first = float(cost[j, b] - cost[j, a]) + freed
        shift = first + overload(size, capacity, load, b, j, -1, unit) - alone[b]
        if shift < best:
            best, to, other, then = shift, b, -1, -1
        for place in range(count[b]):
            i = members[b, place]
            cell[WORK] += near.shape[1]
            for where in range(near.shape[1]):
                c = near[i, where]
                if c == b:
                    continue
                change = first + float(cost[i, c] - cost[i, b])
                # No chain gains more than its costs and all the overload there is.
                if change - price >= best:
                    continue
                change += overload(size, capacity, load, b, j, i, unit) - alone[b]
                if change - price >= best:
                    continue
                if c == a:
                    change += overload(size, capacity, load, a, i, j, unit) - alone[a] - freed
                else:
                    change += overload(size, capacity, load, c, i, -1, unit) - alone[c]
                if change < best:
                    best, to, other, then = change, b, i, c
    return best, to, other, then


@njit(cache=True, nogil=True)
def search(
    cost: I32, size: I64, capacity: I64, near: I32, unit: F64,
    agent: I32, load: I64, members: I32, count: I32, place: I32, look: I8, kept: I32, cell: I64, work_max: int,
) -> None:  # fmt: skip
    """Goes on from where the last call ended until about `work_max` pairs of moves were looked at. `kept` i32[n] and
    `cell[BEST]` hold the best feasible answer so far; `unit` f64[m, R] is the price of a unit of overload; `look` u8[n] marks
    the tasks that are to be tried."""
    n = agent.size
    m = capacity.shape[0]
    alone = np.empty(m)
    for a in range(m):
        alone[a] = overload(size, capacity, load, a, -1, -1, unit)
    end = cell[WORK] + work_max
    while cell[WORK] < end:
        if cell[LOOK] == 0:
            _kick(cost, size, capacity, near, unit, agent, load, members, count, place, look, kept, cell)
            cell[WORK] += n
            for a in range(m):
                alone[a] = overload(size, capacity, load, a, -1, -1, unit)
        j = cell[AT]
        cell[AT] = (j + 1) % n
        if not look[j]:
            continue
        cell[WORK] += near.shape[1]
        _, b, i, c = _best_chain(cost, size, capacity, near, unit, alone.sum(), agent, load, members, count, alone, j, cell)
        if b < 0:
            look[j] = 0
            cell[LOOK] -= 1
            continue
        a = agent[j]
        _move(size, load, agent, members, count, place, j, b)
        if i >= 0:
            _move(size, load, agent, members, count, place, i, c)
            alone[c] = overload(size, capacity, load, c, -1, -1, unit)
            look_at(members, count, look, cell, c)
        alone[a] = overload(size, capacity, load, a, -1, -1, unit)
        alone[b] = overload(size, capacity, load, b, -1, -1, unit)
        look_at(members, count, look, cell, a)
        look_at(members, count, look, cell, b)


@njit(cache=True, nogil=True)
def _kick(
    cost: I32, size: I64, capacity: I64, near: I32, unit: F64,
    agent: I32, load: I64, members: I32, count: I32, place: I32, look: I8, kept: I32, cell: I64,
) -> None:  # fmt: skip
    """A local optimum: it is kept if it is the best, the price of overload follows, and a few tasks of the best answer
    are moved anywhere."""
    n = agent.size
    feasible = True
    for a in range(capacity.shape[0]):
        for r in range(capacity.shape[1]):
            if load[a, r] > capacity[a, r]:
                feasible = False
    if feasible:
        total = 0
        for task in range(n):
            total += cost[task, agent[task]]
        if cell[BEST] < 0 or total <= cell[BEST]:
            cell[BEST] = total
            kept[:] = agent
        unit *= k.GAP_CHEAPER
    else:
        unit *= k.GAP_DEARER
    cell[TURN] += 1
    if cell[BEST] >= 0:
        for task in range(n):
            if agent[task] != kept[task]:
                _move(size, load, agent, members, count, place, task, kept[task])
    for kick in range(2 + _noise(cell[TURN], 0) % max(1, n // k.GAP_KICK)):
        task = _noise(cell[TURN], 2 * kick + 1) % n
        to = near[task, _noise(cell[TURN], 2 * kick + 2) % near.shape[1]]
        a = agent[task]
        if to != a:
            _move(size, load, agent, members, count, place, task, to)
        look_at(members, count, look, cell, a)
        look_at(members, count, look, cell, to)
