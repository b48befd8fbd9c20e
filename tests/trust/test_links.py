"""Shapes of partitions, without processes."""

import random

import pytest
from trust.links import SHAPES, Partition, both, partition

NAMES = tuple(f"node-{number}" for number in range(1, 6))


@pytest.mark.parametrize("shape", SHAPES)
def test_every_partition_leaves_a_quorum_connected(shape: str) -> None:
    """200 choices of each shape: some node can lead, links are cut, and the choice is the seed's alone."""
    with_leader = 0
    for seed in range(200):
        part = partition(shape, NAMES, "node-3", random.Random(seed))
        assert part == partition(shape, NAMES, "node-3", random.Random(seed))
        assert part.cuts and part.leaders
        with_leader += "node-3" in part.cut_off
    # The leader is often among those cut off, except where everybody can lead.
    assert with_leader == 0 if shape in ("ring", "bridge") else 20 < with_leader < 180


def test_who_is_cut_off() -> None:
    a, b, c, d, e = NAMES
    halves = Partition("full", NAMES, both((a, b), (c, d, e)))
    assert (halves.leaders, halves.cut_off) == ({c, d, e}, {a, b})
    # Only c sees both sides: with it, either side is a quorum.
    bridge = Partition("bridge", NAMES, both((a, b), (d, e)))
    assert (bridge.leaders, bridge.cut_off) == (set(NAMES), set())
    # a is not heard by anybody: it is as good as cut off, for it hears nobody's acknowledgement.
    mute = Partition("one-way", NAMES, frozenset((a, other) for other in NAMES[1:]))
    assert (mute.leaders, mute.cut_off) == ({b, c, d, e}, {a})
    alone = Partition("full", NAMES, both((a,), NAMES[1:]) | both((b,), NAMES[2:]) | both((c,), NAMES[3:]))
    assert (alone.leaders, alone.cut_off) == (set(), set(NAMES))


def test_a_ring_leaves_each_node_its_two_neighbours() -> None:
    for seed in range(20):
        part = partition("ring", NAMES, "node-1", random.Random(seed))
        assert all(sum(part.linked(one, other) for other in NAMES if other != one) == 2 for one in NAMES)


def test_an_unknown_shape_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown shape"):
        partition("star", NAMES, "node-1", random.Random(1))
