"""Kernels: what a delta and a decision cost, per batch of 64 and alone."""

import itertools
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests" / "scheduling"))

from model import FakeBatch, agent_told, class_told

from taskquorum.scheduling.constants import SLICE_TASKS
from taskquorum.scheduling.policy import Policy
from taskquorum.scheduling.runner import warm

_COLUMNS = {
    "op": "u1", "epoch": "u4", "klass": "u4", "agent": "u4", "priority": "i4", "tenant": "u4", "unit": "u4", "order": "u8",
    "position": "u4", "ready_us": "u8", "run_us": "u8", "success": "u1",
}  # fmt: skip
"""Columns of one number a delta, and their types."""
_OTHERS = (
    "task", "reset", "leader", "term", "cluster_us", "load_agent", "load_bp", "classes", "agents", "graphs", "graphs_ended",
    "excluded",
)  # fmt: skip


class Frozen:
    """A batch whose columns are bytes already, as the node hands them over."""

    def __init__(self, batch: FakeBatch) -> None:
        for name in (*_COLUMNS, *_OTHERS):
            setattr(self, name, getattr(batch, name))


@pytest.mark.parametrize("size", [1, 64])
@pytest.mark.parametrize("agents", [8, 64, 1000])
def test_ready_decide_free(benchmark, agents: int, size: int) -> None:
    """One turn: `size` tasks become ready, are placed, and are freed again by their end."""
    warm()
    policy = Policy()
    told = [agent_told(number, resources=[["slots", 64]]) for number in range(agents)]
    policy.apply(Frozen(FakeBatch(reset=True, told_classes=[class_told(0)], told_agents=told)), 0)
    ready, gone = FakeBatch(), FakeBatch()
    for number in range(size):
        ready.add("ready", number, position=number)
        gone.add("gone", number)
    ready, gone = Frozen(ready), Frozen(gone)

    def turn() -> None:
        policy.apply(ready, 0)
        placed = 0
        while placed < size:  # A slice ends early when its work is used up (SLICE_WORK).
            placed += len(policy.decide(0))
        policy.apply(gone, 0)

    benchmark(turn)


def test_decide_in_a_long_queue(benchmark) -> None:
    """A slice out of 100,000 queued tasks of 64 classes over 1,000 agents."""
    warm()
    policy = Policy()
    classes = [class_told(number, capabilities=[[f"c{number % 8}", 1000, 1000]]) for number in range(64)]
    agents = [
        agent_told(number, resources=[["slots", 1 << 20]], capabilities=[[f"c{at}", 500 * (number % 20)] for at in range(8)])
        for number in range(1000)
    ]
    policy.apply(Frozen(FakeBatch(reset=True, told_classes=classes, told_agents=agents)), 0)
    count = 100_000
    batch = Frozen(FakeBatch())
    numbers = np.arange(count, dtype=np.uint64)
    for name, kind in _COLUMNS.items():
        setattr(batch, name, np.zeros(count, kind).tobytes())
    batch.op = bytes([1]) * count
    batch.task = np.stack([numbers, numbers * 7919], 1).astype(np.uint64).tobytes()
    batch.klass = (numbers % 64).astype(np.uint32).tobytes()
    batch.order = numbers.tobytes()
    policy.apply(batch, 0)
    turns = itertools.count()

    def turn() -> None:
        next(turns)
        decisions = policy.decide(0)
        assert 0 < len(decisions) <= SLICE_TASKS
        policy.take_back(decisions)

    benchmark(turn)
