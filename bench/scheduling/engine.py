"""A node without a log: drives the policy that serves, under a clock of the bench.

What always holds: an event is told to the policy not before its time; every decision is the policy's; what a task really
takes is known here and told only by its end. Times are whole microseconds.
"""

import heapq
import json
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bench.scheduling.contract import Decisions
from taskquorum.scheduling import columns as col
from taskquorum.scheduling.policy import Policy

SECOND_US = 1_000_000
_TURNS_MAX = 100_000
"""Slices at one moment; more than that is a policy that does not stop."""


@dataclass(slots=True)
class Task:
    """One task. `run_us` is what it really takes on an agent of speed 1, known to nobody but the engine."""

    name: int | str
    klass: int
    ready_us: int
    run_us: int
    priority: int = 0
    tenant: int = 0
    unit: int = 0
    """Its graph, 0 for none."""
    position: int = 0
    expected_us: int = 0
    """What its submitter says it takes, 0 for nothing."""
    children: list[int] = field(default_factory=list)
    waits_for: int = 0
    """Parents that have not ended: it is ready with the last one."""
    agent: int = -1
    start_us: int = -1
    end_us: int = -1


@dataclass
class Told:
    """A batch of deltas, filled by the engine and read by the policy (`feed.Batch`)."""

    reset: bool = False
    leader: bool = True
    term: int = 1
    cluster_us: int = 0
    classes: bytes = b""
    agents: bytes = b""
    graphs: bytes = b""
    graphs_ended: bytes = b""
    excluded: bytes = b""
    load_agent: bytes = b""
    load_bp: bytes = b""
    rows: list[tuple[int, ...]] = field(default_factory=list)
    """(op, number, klass, agent, priority, tenant, ready_us, run_us, unit, position, expected_us)"""

    def seal(self) -> None:
        """Makes the columns of the rows."""
        rows = np.array(self.rows, np.int64).reshape(-1, 11)
        n = len(rows)
        ids = np.zeros((n, 2), np.uint64)
        ids[:, 1] = rows[:, 1]
        self.task = ids.tobytes()
        self.op = rows[:, 0].astype(np.uint8).tobytes()
        self.epoch = np.zeros(n, np.uint32).tobytes()
        self.klass = rows[:, 2].astype(np.uint32).tobytes()
        self.agent = rows[:, 3].astype(np.uint32).tobytes()
        self.priority = rows[:, 4].astype(np.int32).tobytes()
        self.tenant = rows[:, 5].astype(np.uint32).tobytes()
        self.order = rows[:, 1].astype(np.uint64).tobytes()
        self.ready_us = rows[:, 6].astype(np.uint64).tobytes()
        self.run_us = rows[:, 7].astype(np.uint64).tobytes()
        self.success = np.ones(n, np.uint8).tobytes()
        self.unit = rows[:, 8].astype(np.uint32).tobytes()
        self.position = rows[:, 9].astype(np.uint32).tobytes()
        self.expected_us = rows[:, 10].astype(np.uint64).tobytes()


def agent_told(number: int, slots: int = 1, **told: Any) -> dict[str, Any]:
    """An agent as the feed tells it."""
    return {
        "agent": number, "agent_id": f"a{number:06}", "agent_epoch": 1, "node_id": "n", "placeable": True,
        "resources": [["slots", slots]], **told,
    }  # fmt: skip


def class_told(number: int, slots: int = 1, **told: Any) -> dict[str, Any]:
    """A requirement class as the feed tells it."""
    return {"klass": number, "task_type": f"t{number}", "resources": [["slots", slots]], **told}


class Engine:
    """One run of a policy over tasks. `runs_us` tells how long a task really takes on an agent when it starts at a moment;
    `started` is told of every start and answers with tasks that become ready then."""

    def __init__(
        self, policy: Policy, agents: Sequence[dict[str, Any]], classes: Sequence[dict[str, Any]], tasks: Sequence[Task],
        runs_us: Callable[[Task, int, int], int] | None = None, started: Callable[[Task, int], list[Task]] | None = None,
        graphs: Sequence[dict[str, Any]] = (),
    ) -> None:  # fmt: skip
        self.policy = policy
        self.tasks = list(tasks)
        self._started = started
        self.decide_ms: list[float] = []
        self._runs_us = runs_us or (lambda task, agent, now: task.run_us)
        self._told = Told(reset=True, agents=json.dumps(agents).encode(), classes=json.dumps(classes).encode())
        self._told.graphs = json.dumps(list(graphs)).encode()
        self._events = [(task.ready_us, number, 0) for number, task in enumerate(tasks) if task.waits_for == 0]
        heapq.heapify(self._events)

    def run(self, until_us: int | None = None) -> None:
        """Runs to the last end (or until a moment). Raises RuntimeError when tasks are left that nobody can take."""
        events, tasks = self._events, self.tasks
        while events and (until_us is None or events[0][0] <= until_us):
            now = events[0][0]
            while events and events[0][0] == now:
                _, number, ended = heapq.heappop(events)
                if ended:
                    self._end(number, now)
                else:
                    self._ready(number, now)
            self._turn(now)
        left = sum(task.end_us < 0 for task in tasks)
        if left and until_us is None:
            raise RuntimeError(f"{left} of {len(tasks)} tasks were never placed")

    def _ready(self, number: int, now: int) -> None:
        task = self.tasks[number]
        task.ready_us = now
        self._told.rows.append(
            (col.OP_READY, number, task.klass, 0, task.priority, task.tenant, now, 0, task.unit, task.position, task.expected_us)
        )

    def _end(self, number: int, now: int) -> None:
        task = self.tasks[number]
        self._told.rows.append((col.OP_FREED, number, 0, task.agent, 0, 0, 0, max(1, now - task.start_us), 0, 0, 0))
        for child in task.children:
            self.tasks[child].waits_for -= 1
            if self.tasks[child].waits_for == 0:
                self._ready(child, now)

    def _turn(self, now: int) -> None:
        told, self._told = self._told, Told()
        told.cluster_us = now
        told.seal()
        began = time.perf_counter()
        self.policy.apply(told, now)
        for _ in range(_TURNS_MAX):
            decisions = self.policy.decide(now)
            if decisions is None:
                break
            numbers = np.frombuffer(decisions.task_ids, np.uint64)[1::2].tolist()
            agents = np.frombuffer(decisions.agents, np.uint32).tolist()
            for number, agent in zip(numbers, agents, strict=True):
                task = self.tasks[number]
                task.agent, task.start_us = agent, now
                task.end_us = now + self._runs_us(task, agent, now)
                heapq.heappush(self._events, (task.end_us, number, 1))
                for more in self._started(task, now) if self._started else ():
                    heapq.heappush(self._events, (more.ready_us, len(self.tasks), 0))
                    self.tasks.append(more)
        else:
            raise RuntimeError("the policy decides without end")
        self.decide_ms.append((time.perf_counter() - began) * 1000)

    def write(self, decisions: Decisions, instance: str, policy: str, **more: Any) -> None:
        """Writes what was decided, in order of the starts."""
        if not decisions.wanted:
            return
        for task in sorted((task for task in self.tasks if task.start_us >= 0), key=lambda task: task.start_us):
            start, end = task.start_us / SECOND_US, task.end_us / SECOND_US
            decisions.write(instance, policy, start, task.name, task.agent, start=start, end=end, **more)


def waits_s(tasks: Iterable[Task]) -> np.ndarray:
    """Seconds each task waited, f64[n]."""
    return np.array([(task.start_us - task.ready_us) / SECOND_US for task in tasks])
