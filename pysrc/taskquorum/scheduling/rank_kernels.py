"""Graphs of tasks: upward ranks, list scheduling, and better orders for small graphs.

A graph is arrays: `children_from` i32[n+1] and `children` i32[e] hold the children of node i at
`children[children_from[i]:children_from[i+1]]`, `parents_from` and `parents` likewise. Durations are whole microseconds.
Everything is deterministic: ties go to the larger out-degree, then to the lower node.
"""

import numpy as np
from numba import njit

from taskquorum.scheduling import constants as k
from taskquorum.scheduling.columns import I32, I64


@njit(cache=True, nogil=True)
def reversed_edges(n: int, children_from: I32, children: I32) -> tuple[I32, I32]:
    """The same edges by their heads: (parents_from i32[n+1], parents i32[e])."""
    parents_from = np.zeros(n + 1, np.int32)
    for child in children:
        parents_from[child + 1] += 1
    for i in range(n):
        parents_from[i + 1] += parents_from[i]
    place = parents_from[:n].copy()
    parents = np.empty(children.size, np.int32)
    for node in range(n):
        for at in range(children_from[node], children_from[node + 1]):
            parents[place[children[at]]] = node
            place[children[at]] += 1
    return parents_from, parents


@njit(cache=True, nogil=True)
def topological(n: int, children_from: I32, children: I32, parents_from: I32) -> I32:
    """Nodes so that parents come before children; shorter than n when there is a cycle (Kahn, CACM 1962)."""
    open_parents = parents_from[1:] - parents_from[:-1]
    order = np.empty(n, np.int32)
    count = 0
    for node in range(n):
        if open_parents[node] == 0:
            order[count] = node
            count += 1
    at = 0
    while at < count:
        node = order[at]
        at += 1
        for i in range(children_from[node], children_from[node + 1]):
            child = children[i]
            open_parents[child] -= 1
            if open_parents[child] == 0:
                order[count] = child
                count += 1
    return order[:count]


@njit(cache=True, nogil=True)
def ranks(order: I32, children_from: I32, children: I32, duration: I64) -> I64:
    """Upward rank of each node, its duration plus the largest rank of its children, in µs (rank_u of Topcuoglu, Hariri and Wu,
    TPDS 13(3), 2002, without transfer): the length of the critical path from it on."""
    rank = np.zeros(duration.size, np.int64)
    for i in range(order.size - 1, -1, -1):
        node = order[i]
        longest = 0
        for at in range(children_from[node], children_from[node + 1]):
            longest = max(longest, rank[children[at]])
        rank[node] = duration[node] + longest
    return rank


@njit(cache=True, nogil=True)
def _before(key: I64, degree: I32, a: int, b: int) -> bool:
    if key[a] != key[b]:
        return key[a] < key[b]
    if degree[a] != degree[b]:
        return degree[a] > degree[b]
    return a < b


@njit(cache=True, nogil=True)
def _put(heap: I32, size: int, node: int, key: I64, degree: I32) -> None:
    at = size
    while at > 0:
        up = (at - 1) // 2
        if not _before(key, degree, node, heap[up]):
            break
        heap[at] = heap[up]
        at = up
    heap[at] = node


@njit(cache=True, nogil=True)
def _take(heap: I32, size: int, key: I64, degree: I32) -> int:
    """Takes the first of `size` nodes out of the heap."""
    first = heap[0]
    last = heap[size - 1]
    at = 0
    while True:
        child = 2 * at + 1
        if child >= size - 1:
            break
        if child + 1 < size - 1 and _before(key, degree, heap[child + 1], heap[child]):
            child += 1
        if not _before(key, degree, heap[child], last):
            break
        heap[at] = heap[child]
        at = child
    heap[at] = last
    return first


@njit(cache=True, nogil=True)
def list_schedule(
    children_from: I32, children: I32, parents_from: I32, duration: I64, key: I64, degree: I32, slots: int, start: I64
) -> int:
    """Starts the ready node with the lowest `key` whenever one of `slots` identical slots is free (Graham 1969). Fills `start`
    i64[n]; the makespan in µs."""
    n = duration.size
    open_parents = parents_from[1:] - parents_from[:-1]
    ready = np.empty(n, np.int32)
    waiting = 0
    for node in range(n):
        if open_parents[node] == 0:
            _put(ready, waiting, node, key, degree)
            waiting += 1
    running = np.empty(min(slots, n), np.int32)
    busy = 0
    now = 0
    end = 0
    done = 0
    while done < n:
        while waiting > 0 and busy < slots:
            node = _take(ready, waiting, key, degree)
            waiting -= 1
            start[node] = now
            end = max(end, now + duration[node])
            running[busy] = node
            busy += 1
        now = start[running[0]] + duration[running[0]]
        for i in range(1, busy):
            now = min(now, start[running[i]] + duration[running[i]])
        i = 0
        while i < busy:
            node = running[i]
            if start[node] + duration[node] > now:
                i += 1
                continue
            busy -= 1
            running[i] = running[busy]
            done += 1
            for at in range(children_from[node], children_from[node + 1]):
                child = children[at]
                open_parents[child] -= 1
                if open_parents[child] == 0:
                    _put(ready, waiting, child, key, degree)
                    waiting += 1
    return end


@njit(cache=True, nogil=True)
def _noise(seed: int, node: int) -> int:
    """A number in 0..1023 that depends on nothing but its arguments (SplitMix64; Steele, Lea and Flood, OOPSLA 2014)."""
    mixed = np.uint64(seed) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(node + 1) * np.uint64(0xD1B54A32D192ED03)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return int((mixed ^ (mixed >> np.uint64(31))) >> np.uint64(54))


@njit(cache=True, nogil=True)
def plan(
    children_from: I32, children: I32, parents_from: I32, parents: I32, duration: I64, rank: I64, slots: int, work_max: int
) -> I64:
    """Keys i64[n] for `list_schedule` (lower first) with a makespan no longer than that of the ranks.

    Forward–backward improvement (Li and Willis, EJOR 56, 1992; Tormos and Lova, Annals of OR 102, 2001): schedule the
    reversed graph by the ends of the last schedule, then the graph by the starts of that one, until nothing gets shorter;
    begun anew from ranks with growing noise, until the lower bound max(critical path, work / slots) is reached or about
    `work_max` nodes were scheduled.
    """
    n = duration.size
    degree = children_from[1:] - children_from[:-1]
    back_degree = parents_from[1:] - parents_from[:-1]
    best = -rank
    start = np.zeros(n, np.int64)
    shortest = list_schedule(children_from, children, parents_from, duration, best, degree, slots, start)
    bound = max(rank.max(), -(-duration.sum() // slots)) if n > 0 else 0
    key = best.copy()
    back = np.zeros(n, np.int64)
    work = n
    turn = 0
    while shortest > bound and work < work_max:
        if turn > 0:
            # A thousandth of noise at first, and up to a quarter.
            spread = 1 + turn % k.PLAN_SPREADS
            for node in range(n):
                key[node] = -(rank[node] + rank[node] * _noise(turn, node) * spread // (1024 * 4 * k.PLAN_SPREADS))
        length = list_schedule(children_from, children, parents_from, duration, key, degree, slots, start)
        work += n
        for _ in range(k.PLAN_PASSES):
            if length < shortest:
                shortest = length
                best = key.copy()
            back_key = -(start + duration)
            list_schedule(parents_from, parents, children_from, duration, back_key, back_degree, slots, back)
            # What ends last in the reversed schedule starts first.
            forward = -(back + duration)
            again = list_schedule(children_from, children, parents_from, duration, forward, degree, slots, start)
            work += 2 * n
            if again >= length:
                if again < shortest:
                    shortest = again
                    best = forward
                break
            length = again
            key[:] = forward
        turn += 1
    return best
