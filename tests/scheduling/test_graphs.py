"""Graphs: the kernels against plain twins, and what a policy makes of a graph."""

import heapq
import sys
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))

from model import FakeBatch, agent_told, class_told
from test_policy import pairs

from taskquorum.scheduling import constants as k
from taskquorum.scheduling import rank_kernels
from taskquorum.scheduling.feed import GraphTold
from taskquorum.scheduling.policy import Policy
from taskquorum.scheduling.units import Units, by_number, position_of

SECOND = 1_000_000


class Plain:
    """A graph as lists."""

    def __init__(self, durations: list[int], edges: list[tuple[int, int]]) -> None:
        self.durations = durations
        self.children: list[list[int]] = [[] for _ in durations]
        self.parents: list[list[int]] = [[] for _ in durations]
        for parent, child in edges:
            self.children[parent].append(child)
            self.parents[child].append(parent)

    def arrays(self) -> tuple[np.ndarray, ...]:
        begins = np.zeros(len(self.durations) + 1, np.int32)
        begins[1:] = np.cumsum([len(of) for of in self.children])
        children = np.array([child for of in self.children for child in of], np.int32)
        return begins, children, *rank_kernels.reversed_edges(len(self.durations), begins, children)

    def rank(self, node: int) -> int:
        return self.durations[node] + max((self.rank(child) for child in self.children[node]), default=0)

    def schedule(self, key: list[int], slots: int) -> list[int]:
        """Start times of list scheduling, event by event."""
        missing = [len(of) for of in self.parents]
        order = [(key[n], -len(self.children[n]), n) for n, count in enumerate(missing) if count == 0]
        heapq.heapify(order)
        running: list[tuple[int, int]] = []
        start, now = [0] * len(key), 0
        while order or running:
            while order and len(running) < slots:
                node = heapq.heappop(order)[-1]
                start[node] = now
                heapq.heappush(running, (now + self.durations[node], node))
            now = running[0][0]
            while running and running[0][0] == now:
                ended = heapq.heappop(running)[1]
                for child in self.children[ended]:
                    missing[child] -= 1
                    if missing[child] == 0:
                        heapq.heappush(order, (key[child], -len(self.children[child]), child))
        return start


@st.composite
def graphs(draw: st.DrawFn) -> Plain:
    durations = draw(st.lists(st.integers(0, 9).map(lambda s: s * SECOND), min_size=1, max_size=14))
    pairs = [(a, b) for b in range(len(durations)) for a in range(b)]
    return Plain(durations, draw(st.lists(st.sampled_from(pairs), unique=True, max_size=30)) if pairs else [])


@settings(max_examples=150, deadline=None)
@given(graphs(), st.integers(1, 4))
def test_ranks_and_schedules_are_those_of_the_plain_twin(graph: Plain, slots: int) -> None:
    n = len(graph.durations)
    children_from, children, parents_from, parents = graph.arrays()
    duration = np.array(graph.durations, np.int64)
    order = rank_kernels.topological(n, children_from, children, parents_from)
    rank = rank_kernels.ranks(order, children_from, children, duration)
    assert rank.tolist() == [graph.rank(node) for node in range(n)]
    degree = children_from[1:] - children_from[:-1]
    start = np.zeros(n, np.int64)
    length = rank_kernels.list_schedule(children_from, children, parents_from, duration, -rank, degree, slots, start)
    assert start.tolist() == graph.schedule([-value for value in rank.tolist()], slots)
    assert length == int((start + duration).max())
    key = rank_kernels.plan(children_from, children, parents_from, parents, duration, rank, slots, 5_000)
    planned = graph.schedule(key.tolist(), slots)
    assert max(s + d for s, d in zip(planned, graph.durations, strict=True)) <= length, "a plan is never longer"
    assert (key == rank_kernels.plan(children_from, children, parents_from, parents, duration, rank, slots, 5_000)).all()


def test_a_plan_beats_the_ranks_where_they_are_not_optimal() -> None:
    """Of forty random graphs on three slots a plan shortens some, and never passes the lower bound."""
    rng = np.random.default_rng(4)
    shorter = 0
    for _ in range(40):
        n = 30
        edges = [(a, b) for b in range(n) for a in range(b) if rng.random() < 0.08]
        graph = Plain((rng.integers(1, 10, n) * SECOND).tolist(), edges)
        children_from, children, parents_from, parents = graph.arrays()
        duration = np.array(graph.durations, np.int64)
        order = rank_kernels.topological(n, children_from, children, parents_from)
        rank = rank_kernels.ranks(order, children_from, children, duration)
        lengths = []
        for key in (-rank, rank_kernels.plan(children_from, children, parents_from, parents, duration, rank, 3, 50_000)):
            start = np.array(graph.schedule(key.tolist(), 3))
            lengths.append(int((start + duration).max()))
        assert lengths[1] >= max(rank.max(), -(-duration.sum() // 3))
        shorter += lengths[1] < lengths[0]
    assert shorter >= 5


def test_a_cycle_is_not_ordered() -> None:
    begins, children = np.array([0, 1, 2, 3], np.int32), np.array([1, 0, 0], np.int32)
    parents_from, _ = rank_kernels.reversed_edges(3, begins, children)
    assert rank_kernels.topological(3, begins, children, parents_from).tolist() == [2]


MEDIAN, SHARE = np.array([1.0, 4.0]) * SECOND, np.array([0.5, 0.25])


def test_a_unit_knows_what_is_left_of_it() -> None:
    """0 → 1 → 3 and 0 → 2 → 3; 2 is of the longer class."""
    units = Units()
    edges = [(0, 1), (0, 2), (1, 3), (2, 3)]
    units.tell(GraphTold(7, [(0, 0), (1, 0), (2, 1), (3, 0)], edges), MEDIAN, SHARE, 2)
    assert units.area(7) == (0.5 + 0.5 + 1.0 + 0.5) * SECOND
    first, second = units.keys(7, np.array([2, 1]))
    assert first[0] < first[1], "the longer branch goes first"
    assert position_of(second).tolist() == [2, 1]
    units.finished(7, np.array([0, 0]), SHARE)
    units.finished(7, np.array([0, 99]), SHARE)
    assert units.area(7) == 2.0 * SECOND, "a task ends once"
    units.forget(7)
    assert units.area(7) == 0.0 and len(units) == 0
    units.moved(MEDIAN, SHARE)
    assert units.moved(MEDIAN * 9, SHARE) == [], "what is forgotten is not ranked"


def test_ranks_are_made_anew_a_few_at_a_time() -> None:
    units = Units()
    units.moved(MEDIAN, SHARE)
    for unit in range(1, k.RANKED_AT_ONCE + 11):
        units.tell(GraphTold(unit, [(0, 0)], []), MEDIAN, SHARE, 2)
    turns = [units.moved(MEDIAN * 2, SHARE) for _ in range(3)]
    assert [len(turn) for turn in turns] == [k.RANKED_AT_ONCE, 10, 0]
    assert sorted(turns[0] + turns[1]) == list(range(1, k.RANKED_AT_ONCE + 11))


def test_numbers_stand_apart_with_their_rows() -> None:
    found = by_number(np.array([3, 1, 3, 1, 2]), np.arange(5) * 10)
    assert [(number, rows.tolist()) for number, rows in found] == [(1, [10, 30]), (2, [40]), (3, [0, 20])]
    assert by_number(np.zeros(0, np.int64), np.zeros(0, np.int64)) == []


def test_a_graph_that_ended_is_forgotten() -> None:
    policy = Policy()
    batch = FakeBatch(reset=True, told_classes=[class_told(0)], told_agents=[agent_told(0)])
    batch.told_graphs = [{"unit": 1, "tasks": [[0, 0], [1, 0]], "edges": []}]
    batch.add("ready", 1, unit=1, position=0)
    policy.apply(batch, 0)
    assert len(policy.view.graphs) == 1
    ended = FakeBatch(told_graphs_ended=[1, 1, 7])
    ended.add("gone", 1)
    policy.apply(ended, 0)
    assert len(policy.view.graphs) == 0


def test_ranks_follow_the_predictions() -> None:
    units = Units()
    assert units.moved(MEDIAN, SHARE) == []
    units.tell(GraphTold(1, [(0, 0), (1, 1)], []), MEDIAN, SHARE, 2)
    first, _ = units.keys(1, np.array([0, 1]))
    assert first[0] > first[1]
    assert units.moved(MEDIAN * 1.1, SHARE) == [], "a tenth more is no news"
    assert units.moved(np.array([9.0, 4.0]) * SECOND, SHARE) == [1]
    first, _ = units.keys(1, np.array([0, 1]))
    assert first[0] < first[1]


def test_tasks_of_a_graph_are_served_by_rank_across_classes() -> None:
    """A chain behind position 2 makes it the most urgent of four ready tasks; a lone task submitted before waits for none."""
    policy = Policy()
    batch = FakeBatch(
        reset=True, told_classes=[class_told(0), class_told(1)], told_agents=[agent_told(0, resources=[["slots", 1]])]
    )
    batch.told_graphs = [{"unit": 1, "tasks": [[p, p % 2] for p in range(6)], "edges": [[2, 4], [4, 5]]}]
    for number in range(4):
        batch.add("ready", 10 + number, unit=1, klass=number % 2, order=5, position=number)
    policy.apply(batch, 0)
    assert [task for task, *_ in pairs(policy.decide(0))] == [12]


def test_what_finished_changes_the_order_of_what_waits() -> None:
    """Both heads look alike until three runs of class 1 show that it takes a hundred times longer."""
    policy = Policy()
    told = [agent_told(number, resources=[["slots", 1]]) for number in range(1)]
    batch = FakeBatch(reset=True, told_classes=[class_told(0), class_told(1)], told_agents=told)
    batch.told_graphs = [{"unit": 1, "tasks": [[0, 0], [1, 1], [2, 1], [3, 1], [4, 1]], "edges": []}]
    batch.add("taken", 2, unit=1, klass=1, order=5, position=2)
    batch.add("ready", 0, unit=1, klass=0, order=5, position=0)
    batch.add("ready", 1, unit=1, klass=1, order=5, position=1)
    policy.apply(batch, 0)
    for task in (2, 3, 4):
        ended = FakeBatch()
        ended.add("taken", task, unit=1, klass=1, order=5, position=task)
        ended.add("freed", task, run_us=100 * SECOND, success=1)
        policy.apply(ended, SECOND)
    quick = FakeBatch()
    for task in (20, 21, 22):
        quick.add("taken", task, klass=0, order=6)
        quick.add("freed", task, run_us=SECOND, success=1)
    policy.apply(quick, SECOND)
    assert [task for task, *_ in pairs(policy.decide(SECOND))] == [1]


def test_many_graphs_keep_their_orders() -> None:
    """Of twenty graphs told one after the other, each still serves its longest branch first."""
    policy = Policy()
    agent = agent_told(0, resources=[["slots", 100]])
    policy.apply(FakeBatch(reset=True, told_classes=[class_told(0)], told_agents=[agent]), 0)
    for unit in range(1, 21):
        batch = FakeBatch(told_graphs=[{"unit": unit, "tasks": [[0, 0], [1, 0], [2, 0]], "edges": [[1, 2]]}])
        batch.add("ready", 10 * unit, unit=unit, order=unit, position=0)
        batch.add("ready", 10 * unit + 1, unit=unit, order=unit, position=1)
        policy.apply(batch, 0)
    assert (policy.view.units.area[:20] > 0).all()
    served = [task for task, *_ in pairs(policy.decide(0))]
    for unit in range(1, 21):
        assert served.index(10 * unit + 1) < served.index(10 * unit)
    # They still know what ends.
    ended = FakeBatch()
    ended.add("freed", 11, run_us=SECOND, success=1)
    left = float(policy.view.units.area[0])
    policy.apply(ended, SECOND)
    assert 0 < policy.view.units.area[0] < left
