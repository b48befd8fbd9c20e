"""What the leader knows of graphs: the order of their tasks, and what is left of them.

What always holds: a graph is told once and whole; its tasks are named by their position in it; an order is a pair of numbers
(`first`, `second`), lower first, that the queue compares inside the graph. Nothing is done per task in Python.
"""

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from taskquorum.scheduling import constants as k
from taskquorum.scheduling import rank_kernels
from taskquorum.scheduling.columns import F64, I32, I64
from taskquorum.scheduling.feed import GraphTold

_DEGREE_MAX = (1 << 20) - 1


def position_of(second: I64) -> I64:
    """The positions behind `second` of tasks of graphs."""
    return second & 0xFFFFFFFF


def by_number(numbers: I64, rows: I64) -> list[tuple[int, I64]]:
    """`rows` apart by the number that stands beside each, in order of the numbers: O(n log n), however many there are."""
    if numbers.size == 0:
        return []
    order = np.argsort(numbers, kind="stable")
    found, starts = np.unique(numbers[order], return_index=True)
    return list(zip(found.tolist(), np.split(rows[order], starts[1:]), strict=True))


@dataclass
class _Graph:
    """One graph; arrays by node, in order of position."""

    position: I64
    klass: I64
    expected: I64
    """What was told, µs; −1 for nothing."""
    children_from: I32
    children: I32
    parents_from: I32
    parents: I32
    order: I32
    """Topological, of nodes."""
    duration: I64
    """What the ranks were computed from, µs."""
    first: I64
    second: I64
    done: NDArray[np.bool_]
    area: float = 0.0


class Units:
    """The graphs of which some task is known. One owner: the view. Without `plans` every graph is ordered by rank."""

    def __init__(self, plans: bool = True) -> None:
        self._plans = plans
        self._of_class: dict[int, set[int]] = {}
        """Graphs that wait for a prediction, by the classes of their tasks."""
        self._ranked_at: F64 = np.zeros(0)
        """Per class: the prediction when graphs were last ranked for it."""
        self._graphs: dict[int, _Graph] = {}
        self._due: dict[int, None] = {}
        """Graphs that are to be ranked anew, in order."""

    def __len__(self) -> int:
        return len(self._graphs)

    def tell(self, told: GraphTold, median: F64, share: F64, slots: int) -> None:
        """Takes in a graph. `median` f64[classes] is the predicted p50 in µs, `share` the dominant share of each class,
        `slots` how many tasks run at once at most. An edge that names an unknown position is left out, and of a cycle
        nothing is ordered: the log admits neither."""
        rows = np.array(told.tasks, np.int64).reshape(-1, 2)
        rows = rows[np.argsort(rows[:, 0], kind="stable")]
        expected = np.full(len(rows), -1, np.int64)
        if told.expected_us:
            by_position = dict(told.expected_us)
            expected[:] = [by_position.get(position, -1) for position in rows[:, 0].tolist()]
        edges = np.array(told.edges, np.int64).reshape(-1, 2)
        nodes = np.searchsorted(rows[:, 0], edges)
        there = np.append(rows[:, 0], -1)[np.minimum(nodes, len(rows))] == edges
        nodes = nodes[there.all(axis=1)]
        nodes = nodes[np.argsort(nodes[:, 0], kind="stable")]
        children_from = np.zeros(len(rows) + 1, np.int32)
        np.cumsum(np.bincount(nodes[:, 0], minlength=len(rows)), out=children_from[1:])
        children = np.ascontiguousarray(nodes[:, 1], np.int32)
        parents_from, parents = rank_kernels.reversed_edges(len(rows), children_from, children)
        degree = np.minimum(children_from[1:] - children_from[:-1], _DEGREE_MAX).astype(np.int64)
        graph = _Graph(
            position=rows[:, 0].copy(), klass=rows[:, 1].copy(), expected=expected, children_from=children_from,
            children=children, parents_from=parents_from, parents=parents,
            order=rank_kernels.topological(len(rows), children_from, children, parents_from),
            duration=expected, first=np.zeros(len(rows), np.int64),
            second=(_DEGREE_MAX - degree) << 32 | rows[:, 0], done=np.zeros(len(rows), np.bool_),
        )  # fmt: skip
        self._rank(graph, median, share, slots)
        self._graphs[told.unit] = graph
        for klass in np.unique(graph.klass[graph.expected < 0]).tolist():
            self._of_class.setdefault(klass, set()).add(told.unit)

    def _rank(self, graph: _Graph, median: F64, share: F64, slots: int) -> None:
        """Orders a graph by the predictions of now: a small one whose durations were all told by a plan, any other by rank."""
        predicted = np.maximum(1, median[graph.klass]).astype(np.int64)
        graph.duration = np.where(graph.expected >= 0, graph.expected, predicted)
        graph.area = float((share[graph.klass] * graph.duration)[~graph.done].sum())
        rank = rank_kernels.ranks(graph.order, graph.children_from, graph.children, graph.duration)
        small = len(graph.order) == len(graph.done) <= k.PLAN_NODES
        if self._plans and small and slots > 0 and (graph.expected >= 0).all():
            graph.first[:] = rank_kernels.plan(
                graph.children_from, graph.children, graph.parents_from, graph.parents, graph.duration, rank, slots, k.PLAN_WORK
            )
        else:
            graph.first[:] = -rank

    def keys(self, unit: int, position: I64) -> tuple[I64, I64]:
        """(`first`, `second`) of tasks of a graph, by position; of a task that the graph was told without, the last place."""
        graph = self._graphs.get(unit)
        if graph is None:
            return np.zeros(position.size, np.int64), position
        node = np.minimum(np.searchsorted(graph.position, position), graph.position.size - 1)
        known = graph.position[node] == position
        return np.where(known, graph.first[node], 0), np.where(known, graph.second[node], _DEGREE_MAX << 32 | position)

    def area(self, unit: int) -> float:
        """Predicted share-microseconds of what has not finished."""
        graph = self._graphs.get(unit)
        return 0.0 if graph is None else max(graph.area, 0.0)

    def finished(self, unit: int, position: I64, share: F64) -> None:
        """Tasks of a graph ended. One that ended before, or that the graph was told without, changes nothing."""
        graph = self._graphs.get(unit)
        if graph is None:
            return
        node = np.searchsorted(graph.position, position)
        node = node[np.append(graph.position, -1)[node] == position]
        node = np.unique(node[~graph.done[node]])
        graph.done[node] = True
        graph.area -= float((share[graph.klass[node]] * graph.duration[node]).sum())

    def forget(self, unit: int) -> None:
        """The graph ended."""
        graph = self._graphs.pop(unit, None)
        if graph is None:
            return
        self._due.pop(unit, None)
        for klass in np.unique(graph.klass[graph.expected < 0]).tolist():
            self._of_class[klass].discard(unit)

    def moved(self, median: F64, share: F64) -> list[int]:
        """Ranks graphs anew whose classes are predicted to take more than RANK_MOVED longer or shorter than when graphs were
        last ranked for it; which. At most RANKED_AT_ONCE of them a call, the rest with the next."""
        known = self._ranked_at.size
        if known < median.size:
            self._ranked_at = np.append(self._ranked_at, median[known:])
        classes = np.flatnonzero(np.abs(median - self._ranked_at) > k.RANK_MOVED * self._ranked_at).tolist()
        self._ranked_at[classes] = median[classes]
        for klass in classes:
            self._due.update(dict.fromkeys(sorted(self._of_class.get(klass, ()))))
        found = list(itertools.islice(self._due, k.RANKED_AT_ONCE))
        for unit in found:
            del self._due[unit]
            self._rank(self._graphs[unit], median, share, 0)
        return found
