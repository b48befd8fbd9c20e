"""Generalised assignment: never over a capacity, all placed, and close to the optimum where that can be counted."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taskquorum.scheduling.gap import solve


@pytest.fixture(scope="module", autouse=True)
def compiled() -> None:
    """The kernels, so that no budget is spent on compiling them."""
    for _ in range(2):
        solve(np.ones((2, 2), np.int32), np.ones((2, 2, 1), np.int64), np.ones((2, 1), np.int64), 5.0)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 6), st.integers(2, 3), st.sampled_from([1, 4]))
def test_small_batches_are_placed_at_the_optimum(seed: int, n: int, m: int, width: int) -> None:
    """Capacities leave room for a planted answer; every answer is tried for the optimum."""
    rng = np.random.default_rng(seed)
    cost = rng.integers(1, 50, (n, m)).astype(np.int32)
    size = rng.integers(1, 20, (n, m, width))
    capacity = np.zeros((m, width), np.int64)
    planted = rng.integers(0, m, n)
    np.add.at(capacity, planted, size[np.arange(n), planted])
    agent = solve(cost, size, capacity, 8.0)
    assert (agent >= 0).all()
    load = np.zeros_like(capacity)
    np.add.at(load, agent, size[np.arange(n), agent])
    assert (load <= capacity).all()
    best = min(
        sum(int(cost[j, a]) for j, a in enumerate(choice))
        for choice in itertools.product(range(m), repeat=n)
        if all((sum(size[j, b] for j, b in enumerate(choice) if b == a) <= capacity[a]).all() for a in set(choice))
    )
    assert int(cost[np.arange(n), agent].sum()) <= 1.1 * best + 1


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="do not fit"):
        solve(np.ones((2, 3), np.int32), np.ones((2, 2, 1), np.int64), np.ones((3, 1), np.int64), 1.0)
    assert solve(np.ones((0, 3), np.int32), np.ones((0, 3, 1), np.int64), np.ones((3, 1), np.int64), 1.0).size == 0
