"""Graphs as the bench holds them, and a run of the policy over one graph on identical one-slot agents."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from bench.scheduling.engine import Engine, Task, agent_told, class_told
from taskquorum.scheduling.policy import Policy


@dataclass
class Graph:
    """A graph of tasks by node number; durations in µs."""

    names: list[int | str]
    duration_us: list[int]
    parents: list[list[int]]
    klass: list[int] = field(default_factory=list)
    """Per node; empty: all of one class."""
    told_us: list[int] = field(default_factory=list)
    """What the policy is told a node takes; empty: nothing."""

    def critical_path_us(self) -> int:
        """The longest path. Raises ValueError for a cycle."""
        ends = [-1] * len(self.names)
        for node in topological(self.parents):
            ends[node] = self.duration_us[node] + max((ends[parent] for parent in self.parents[node]), default=0)
        return max(ends, default=0)

    def bound_us(self, agents: int) -> float:
        """No schedule is shorter: the critical path, or the work over the agents."""
        return max(self.critical_path_us(), sum(self.duration_us) / agents)


def topological(parents: Sequence[Sequence[int]]) -> list[int]:
    """Nodes after their parents. Raises ValueError for a cycle."""
    children: list[list[int]] = [[] for _ in parents]
    missing = [len(of) for of in parents]
    for node, of in enumerate(parents):
        for parent in of:
            children[parent].append(node)
    order = [node for node, count in enumerate(missing) if count == 0]
    for node in order:
        for child in children[node]:
            missing[child] -= 1
            if missing[child] == 0:
                order.append(child)
    if len(order) < len(parents):
        raise ValueError("the graph has a cycle")
    return order


def schedule(graph: Graph, agents: int, policy: Policy, **more: Any) -> Engine:
    """Runs one graph to its end."""
    klass = graph.klass or [0] * len(graph.names)
    tasks = [
        Task(name, klass[node], 0, graph.duration_us[node], unit=1, position=node, waits_for=len(set(graph.parents[node])))
        for node, name in enumerate(graph.names)
    ]
    edges = []
    for node, of in enumerate(graph.parents):
        for parent in sorted(set(of)):
            tasks[parent].children.append(node)
            edges.append((parent, node))
    told = {"unit": 1, "tasks": list(enumerate(klass)), "edges": edges, "expected_us": list(enumerate(graph.told_us))}
    classes = [class_told(number) for number in range(max(klass) + 1)]
    engine = Engine(policy, [agent_told(number) for number in range(agents)], classes, tasks, graphs=[told], **more)
    engine.run()
    return engine


def makespan_us(engine: Engine) -> int:
    """When the last task ended."""
    return max(task.end_us for task in engine.tasks)
