"""Batches of unequal sizes: the generalised assignment problem within a time, always feasible where a way is found."""

import time

import numpy as np

from taskquorum.scheduling import constants as k
from taskquorum.scheduling import gap_kernels, gap_search_kernels
from taskquorum.scheduling.columns import I32, I64


def solve(cost: I32, size: I64, capacity: I64, budget_ms: float) -> I32:
    """The agent of each task, i32[n], at a total cost that is as low as the time allows; −1 for all when no feasible answer
    was found.

    `cost` is i32[n, m], `size` i64[n, m, R] and not negative, `capacity` i64[m, R]. Takes at most about `budget_ms`, but never
    less than the relaxation and the first answer need (n·m·GAP_STEPS comparisons). Raises ValueError for shapes that do not fit.
    """
    until = time.perf_counter() + budget_ms / 1000.0
    n, m = cost.shape
    if size.shape[:2] != (n, m) or capacity.shape != (m, size.shape[2]):
        raise ValueError(f"cost {cost.shape}, size {size.shape} and capacity {capacity.shape} do not fit together")
    if n == 0 or m == 0:
        return np.full(n, -1, np.int32)
    width = capacity.shape[1]
    multiplier = np.zeros((m, width))
    best = np.zeros((m, width))
    gap_kernels.relax(cost, size, capacity, multiplier, best, k.GAP_STEPS)
    reduced = np.empty((n, m))
    gap_kernels.reduced_costs(cost, size, best, reduced)
    # The relaxation's own answer overloads some agents a little; the search brings that down.
    agent = reduced.argmin(axis=1).astype(np.int32)
    load = np.zeros((m, width), np.int64)
    np.add.at(load, agent, size[np.arange(n), agent])
    near = gap_kernels.nearest(reduced, min(m, k.GAP_NEAR))
    unit = best * k.GAP_PRICE + float(np.abs(cost).mean()) / np.maximum(1.0, size.mean(axis=(0, 1)))[None, :] * k.GAP_PRICE_LEAST
    members = np.zeros((m, n), np.int32)
    count = np.zeros(m, np.int32)
    place = np.zeros(n, np.int32)
    for a in range(m):
        of = np.flatnonzero(agent == a)
        members[a, : of.size] = of
        place[of] = np.arange(of.size)
        count[a] = of.size
    look = np.ones(n, np.uint8)
    kept = np.full(n, -1, np.int32)
    cell = np.zeros(gap_search_kernels.CELLS, np.int64)
    cell[gap_search_kernels.LOOK] = n
    cell[gap_search_kernels.BEST] = -1
    while time.perf_counter() < until - k.GAP_SLICE_MS / 1000.0:
        gap_search_kernels.search(
            cost, size, capacity, near, unit, agent, load, members, count, place, look, kept, cell, k.GAP_SLICE_WORK
        )
    return kept
