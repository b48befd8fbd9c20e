"""Baselines with one rule and no policy object: a central FIFO queue, and queues bound at arrival."""

import heapq

import numpy as np
from numpy.typing import NDArray

from bench.scheduling.engine import SECOND_US


def central_waits_s(arrival: NDArray[np.int64], service: NDArray[np.int64], agents: int) -> NDArray[np.float64]:
    """Seconds each task waits in one FIFO queue before `agents` one-slot agents; arrivals in order, µs."""
    free = [0] * agents
    waits = np.empty(arrival.size)
    for i, (now, takes) in enumerate(zip(arrival.tolist(), service.tolist(), strict=True)):
        start = max(now, heapq.heappop(free))
        waits[i] = (start - now) / SECOND_US
        heapq.heappush(free, start + takes)
    return waits


def bound_waits_s(
    arrival: NDArray[np.int64], service: NDArray[np.int64], agents: int, rng: np.random.Generator, choices: int
) -> NDArray[np.float64]:
    """Seconds each task waits when it is bound at arrival to the shortest queue of `choices` random agents (all agents:
    JSQ; 1: random). Queue length counts the task that runs."""
    ends: list[list[int]] = [[] for _ in range(agents)]
    waits = np.empty(arrival.size)
    for i, (now, takes) in enumerate(zip(arrival.tolist(), service.tolist(), strict=True)):
        asked = range(agents) if choices >= agents else rng.choice(agents, choices, replace=False).tolist()
        best, shortest = -1, 1 << 60
        for agent in asked:
            queue = ends[agent]
            while queue and queue[0] <= now:
                queue.pop(0)
            if len(queue) < shortest:
                best, shortest = agent, len(queue)
        start = max(now, ends[best][-1]) if ends[best] else now
        waits[i] = (start - now) / SECOND_US
        ends[best].append(start + takes)
    return waits
