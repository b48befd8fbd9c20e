"""Generalised assignment: tasks of unequal sizes to agents of limited capacity at the least total cost.

Arrays: `cost` i32[n, m], `size` i64[n, m, R], `capacity` i64[m, R], `agent` i32[n] (−1: not placed), `load` i64[m, R]. The
relaxation is here, the search in gap_search_kernels.py. Floats order only; what is placed is integers.
"""

import numpy as np
from numba import njit

from taskquorum.scheduling import constants as k
from taskquorum.scheduling.columns import F64, I32, I64


@njit(cache=True, nogil=True)
def reduced_costs(cost: I32, size: I64, multiplier: F64, reduced: F64) -> None:
    """cost + Σ_r multiplier · size, into `reduced` f64[n, m]."""
    n, m = cost.shape
    width = size.shape[2]
    for j in range(n):
        for a in range(m):
            value = float(cost[j, a])
            for r in range(width):
                value += multiplier[a, r] * size[j, a, r]
            reduced[j, a] = value


@njit(cache=True, nogil=True)
def relax(cost: I32, size: I64, capacity: I64, multiplier: F64, best: F64, steps: int) -> float:
    """Subgradient ascent on the capacities' multipliers f64[m, R] from their present values (Fisher, Management Science 27(1),
    1981, section 3). Leaves the multipliers of the best bound in `best`; the bound."""
    n, m = cost.shape
    width = size.shape[2]
    load = np.empty((m, width))
    bound = -np.inf
    theta = k.GAP_STEP
    stale = 0
    for _ in range(steps):
        load[:] = 0.0
        total = 0.0
        for j in range(n):
            chosen = 0
            least = np.inf
            for a in range(m):
                value = float(cost[j, a])
                for r in range(width):
                    value += multiplier[a, r] * size[j, a, r]
                if value < least:
                    least = value
                    chosen = a
            total += least
            for r in range(width):
                load[chosen, r] += size[j, chosen, r]
        norm = 0.0
        for a in range(m):
            for r in range(width):
                total -= multiplier[a, r] * capacity[a, r]
                if capacity[a, r] > 0:
                    over = load[a, r] / capacity[a, r] - 1.0
                    if over > 0.0 or multiplier[a, r] > 0.0:
                        norm += over * over
        if total > bound:
            bound = total
            best[:] = multiplier
            stale = 0
        else:
            stale += 1
            if stale >= k.GAP_STALE:
                theta *= 0.5
                stale = 0
                multiplier[:] = best
                continue
        if norm < 1e-12:
            break
        # The target lies a little above the bound: what the best answers of such instances cost.
        step = theta * (k.GAP_TARGET * max(abs(bound), 1.0) + max(bound - total, 0.0)) / norm
        for a in range(m):
            for r in range(width):
                if capacity[a, r] > 0:
                    over = load[a, r] / capacity[a, r] - 1.0
                    multiplier[a, r] = max(0.0, multiplier[a, r] + step * over / capacity[a, r])
    return bound


@njit(cache=True, nogil=True)
def nearest(reduced: F64, count: int) -> I32:
    """The `count` agents of least reduced cost of each task, i32[n, count], nearest first."""
    n = reduced.shape[0]
    found = np.empty((n, count), np.int32)
    for j in range(n):
        order = np.argsort(reduced[j], kind="mergesort")
        for i in range(count):
            found[j, i] = order[i]
    return found
