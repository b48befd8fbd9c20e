"""The policy against its plain twin on random histories, and the cases a history would rarely meet."""

import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))

from model import FakeBatch, Model, agent_told, class_told, task_id

from taskquorum.scheduling import constants as k
from taskquorum.scheduling.policy import Decisions, Policy
from taskquorum.scheduling.runner import run_policy

TOLD = ("klass", "priority", "order", "position", "tenant", "ready", "expected")
NUMBER_OF = {task_id(number): number for number in range(4096)}


def pairs(decisions: Decisions | None) -> list[tuple[int, int, list[int]]]:
    """(task, agent, terms) of a slice."""
    if decisions is None:
        return []
    ids = [NUMBER_OF[decisions.task_ids[at : at + 16]] for at in range(0, len(decisions.task_ids), 16)]
    agents = np.frombuffer(decisions.agents, np.uint32).tolist()
    terms = np.frombuffer(decisions.terms, np.int16).reshape(-1, k.TERMS).tolist()
    return list(zip(ids, agents, terms, strict=True))


def start(classes: list[dict], agents: list[dict]) -> tuple[Policy, FakeBatch]:
    return Policy(), FakeBatch(reset=True, told_classes=classes, told_agents=agents)


DIMENSIONS = st.sampled_from(["nlp", "vision", "code"])
LEVEL = st.integers(0, 20).map(lambda step: step * 500)
LABELS = st.lists(st.sampled_from([["zone", "a"], ["zone", "b"], ["gpu", "yes"]]), max_size=2, unique_by=tuple)


@st.composite
def agents_told(draw: st.DrawFn, number: int) -> dict:
    return agent_told(
        number,
        placeable=draw(st.sampled_from([True, True, True, False])),
        capabilities=[[name, draw(LEVEL)] for name in draw(st.lists(DIMENSIONS, unique=True))],
        resources=[["slots", draw(st.integers(0, 3))], ["memory_mb", draw(st.sampled_from([0, 512, 4096]))]],
        labels=draw(LABELS),
        task_types=draw(st.sampled_from([[], [], ["t"], ["u"]])),
    )


@st.composite
def classes_told(draw: st.DrawFn, number: int) -> dict:
    return class_told(
        number,
        task_type=draw(st.sampled_from(["t", "u"])),
        capabilities=[
            [name, draw(st.sampled_from([0, 2000, 6000])), draw(st.integers(0, 3)) * 500]
            for name in draw(st.lists(DIMENSIONS, unique=True, max_size=2))
        ],
        resources=[["slots", 1]] + ([["memory_mb", draw(st.sampled_from([100, 400]))]] if draw(st.booleans()) else []),
        labels=draw(st.sampled_from([[], [], [["zone", "a"]]])),
    )


@st.composite
def histories(draw: st.DrawFn) -> list[FakeBatch]:
    """A reset with agents and classes, then batches of deltas over few tasks, so that they meet each other in every state."""
    agents = draw(st.integers(1, 5))
    classes = draw(st.integers(1, 3))
    first = FakeBatch(reset=True)
    first.told_agents = [draw(agents_told(number)) for number in range(agents)]
    first.told_classes = [draw(classes_told(number)) for number in range(classes)]
    batches = [first]
    for turn in range(draw(st.integers(1, 6))):
        batch = FakeBatch()
        for place in range(draw(st.integers(0, 12))):
            number = draw(st.integers(0, 11))
            op = draw(st.sampled_from(["ready", "ready", "ready", "gone", "taken", "freed"]))
            fields = {"klass": draw(st.integers(0, classes - 1)), "agent": draw(st.integers(0, agents - 1))}
            if op == "ready":
                fields |= {"priority": draw(st.sampled_from([-2, 0, 1, 6, 9, 10])), "order": turn, "position": place}
                fields |= {"tenant": draw(st.integers(0, 2)), "ready": turn * 1_000_000}
                fields |= {"expected": draw(st.sampled_from([0, 0, 1 << 20, 1 << 24]))}
                if draw(st.integers(0, 4)) == 0:
                    batch.told_excluded = [item for item in batch.told_excluded if item[0] != task_id(number).hex()]
                    batch.told_excluded.append((task_id(number).hex(), [f"agent-{draw(st.integers(0, agents)):03}"]))
            if op == "freed":
                fields |= {"run_us": draw(st.sampled_from([0, 5000])), "success": draw(st.integers(0, 1))}
            batch.add(op, number, **fields)
        if draw(st.booleans()):
            batch.told_loads = [(draw(st.integers(0, agents - 1)), (draw(LEVEL), draw(LEVEL), 0))]
        if draw(st.integers(0, 3)) == 0:
            batch.told_agents = [draw(agents_told(draw(st.integers(0, agents - 1))))]
        batches.append(batch)
    return batches


@settings(max_examples=200, deadline=None)
@given(histories(), st.randoms(use_true_random=False))
def test_kernels_decide_as_the_plain_model(batches: list[FakeBatch], random) -> None:
    """After every batch both decide the same tasks, agents and terms in the same order, and hold the same capacity;
    what was decided is then confirmed, refused or left open at random."""
    policy, model = Policy(), Model()
    now = 0
    for batch in batches:
        now += 3_000_000
        policy.apply(batch, now)
        model.apply(batch, now)
        decided = pairs(policy.decide(now))
        assert decided == model.decide(k.SLICE_TASKS, now)
        assert pairs(policy.decide(now)) == [], "what cannot be placed stays unplaced"
        answer = FakeBatch()
        for task, agent, _ in decided:
            fate = random.choice(["taken", "refused", "open"])
            fields = {name: model.tasks[task].get(name, 0) for name in TOLD}
            if fate == "taken":
                answer.add("taken", task, agent=agent, **fields)
            elif fate == "refused":
                answer.add("freed", task, agent=agent)
                answer.add("ready", task, **fields)
        policy.apply(answer, now)
        model.apply(answer, now)
        states = [task["state"] for task in model.tasks.values()]
        view = policy.view
        stalled = int((view.tasks.state == 2).sum())
        assert (view.queued + stalled, view.pending, view.held) == tuple(states.count(s) for s in ("queued", "pending", "held"))
        for number in model.agents:
            assert view.agents.leased[number, 0] == model.leased(number, "slots")


def test_of_equal_tasks_a_slice_serves_priority_then_submit_order() -> None:
    policy, batch = start([class_told(0)], [agent_told(0, resources=[["slots", 100]])])
    for number in range(30):
        batch.add("ready", number, priority=number % 3, order=number // 6, position=number % 6)
    policy.apply(batch, 0)
    served = [task for task, *_ in pairs(policy.decide(0))]
    assert served == sorted(range(30), key=lambda number: (-(number % 3), number))


def test_a_class_nobody_can_take_holds_up_no_other() -> None:
    """100,000 tasks that need what no agent has stand before one that can run: it is placed in the first slice."""
    policy, batch = start([class_told(0, capabilities=[["rare", 9000, 1000]]), class_told(1)], [agent_told(0)])
    policy.apply(batch, 0)
    blocked = FakeBatch()
    for number in range(3000):
        blocked.add("ready", number, klass=0, priority=5)
    blocked.add("ready", 4000, klass=1)
    policy.apply(blocked, 0)
    assert [task for task, *_ in pairs(policy.decide(0))] == [4000]
    told = FakeBatch(told_agents=[agent_told(1, capabilities=[["rare", 9500]])])
    policy.apply(told, 0)
    assert len(pairs(policy.decide(0))) == 2, "an agent that can do it opens the class again"


def test_many_removals_leave_no_rows_behind() -> None:
    policy, batch = start([class_told(0)], [agent_told(0, placeable=False)])
    policy.apply(batch, 0)
    for turn in range(20):
        batch = FakeBatch()
        for number in range(1000):
            batch.add("ready", number, order=turn)
        for number in range(1000):
            batch.add("gone", number)
        policy.apply(batch, 0)
    assert policy.view.queued == 0
    assert policy.view.tasks.state.size <= 8192, "dead rows are swept, not kept"


def test_an_unanswered_decision_is_taken_back() -> None:
    policy, batch = start([class_told(0)], [agent_told(0)])
    batch.add("ready", 1, epoch=7)
    policy.apply(batch, 0)
    decisions = policy.decide(1000)
    assert decisions is not None and np.frombuffer(decisions.epochs, np.uint32).tolist() == [7]
    assert np.frombuffer(decisions.agent_epochs, np.uint64).tolist() == [10]
    assert policy.expire(1000 + k.PENDING_US) == 0
    assert policy.expire(1001 + k.PENDING_US) == 1
    assert len(pairs(policy.decide(0))) == 1


class FullQueue(Exception):
    pass


class ScriptedFeed:
    """Plays batches, refuses the first proposal as too busy, and stops the thread at the end."""

    def __init__(self, batches: list[FakeBatch], stop: threading.Event) -> None:
        self.batches = batches
        self.stop = stop
        self.proposed: list[tuple[int, bytes]] = []
        self.refusals = 1

    def policy_wait(self, timeout_ms: int) -> FakeBatch | None:
        if self.batches:
            return self.batches.pop(0)
        if timeout_ms > 0:
            self.stop.set()
        return None

    def policy_assign(self, term: int, task_ids: bytes, *columns: bytes) -> None:
        if self.refusals:
            self.refusals -= 1
            raise FullQueue
        self.proposed.append((term, task_ids))


def test_the_runner_retries_a_full_queue_and_stops_when_deposed() -> None:
    stop = threading.Event()
    first = FakeBatch(reset=True, term=3, told_classes=[class_told(0)], told_agents=[agent_told(0)])
    first.add("ready", 1)
    deposed = FakeBatch(leader=False)
    feed = ScriptedFeed([first], stop)
    run_policy(feed, stop, busy=FullQueue)
    assert feed.proposed == [(3, task_id(1))]
    stop.clear()
    feed = ScriptedFeed([deposed], stop)
    run_policy(feed, stop, busy=FullQueue)
    assert feed.proposed == []


@pytest.mark.parametrize("spread", [0.2, 1.0])
def test_the_bound_covers_nine_of_ten(spread: float) -> None:
    """Lognormal durations of one class: the 0.9 bound asked before each finish covers 88–92 % of 4,000."""
    policy, batch = start([class_told(0)], [agent_told(0)])
    policy.apply(batch, 0)
    durations = np.random.default_rng(1).lognormal(3, spread, 4000)
    predictor = policy.view.predictor
    covered = asked = 0
    zero = np.zeros(1, np.int64)
    for ms in durations:
        bound = predictor.bound_ms(0, 0)
        if bound is not None:
            asked += 1
            covered += ms <= bound
        predictor.learn(zero, zero, np.array([int(ms * 1000)], np.int64))
    assert asked == 4000 - k.SAMPLES_MIN
    assert 0.88 <= covered / asked <= 0.92
