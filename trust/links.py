"""Shapes of partitions: which links are cut, and what must still work. No processes, no clocks.

A cut is directed. Two nodes are *linked* if neither direction between them is cut. A node *can lead* if it is linked to enough
others for a quorum; a node is *cut off* if it neither can lead nor is linked to one that can: it must refuse writes.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass

Cut = tuple[str, str]

SHAPES = ("full", "one-way", "bridge", "ring", "flap")


@dataclass(frozen=True)
class Partition:
    """One partition of a cluster."""

    shape: str
    names: tuple[str, ...]
    cuts: frozenset[Cut]

    def linked(self, one: str, other: str) -> bool:
        return (one, other) not in self.cuts and (other, one) not in self.cuts

    @property
    def leaders(self) -> set[str]:
        """Nodes that can lead."""
        quorum = len(self.names) // 2 + 1
        return {one for one in self.names if sum(self.linked(one, other) for other in self.names) >= quorum}

    @property
    def cut_off(self) -> set[str]:
        leaders = self.leaders
        return {one for one in self.names if not any(self.linked(one, leader) for leader in leaders)}

    def text(self) -> str:
        """`a>b` for each cut."""
        return " ".join(f"{source}>{target}" for source, target in sorted(self.cuts))


def both(sources: Sequence[str], targets: Sequence[str]) -> frozenset[Cut]:
    """Every link between the two sides, in both directions."""
    return frozenset({(a, b) for a in sources for b in targets} | {(b, a) for a in sources for b in targets})


def partition(shape: str, names: Sequence[str], leader: str, choice: random.Random) -> Partition:
    """A partition of this shape, chosen at random. Half of the time it takes the leader from its majority.

    - full: a minority of any size sees no one of the majority;
    - one-way: packets between a minority (or one pair) and the rest pass in one direction only;
    - bridge: two sides that do not see each other, and one node between that sees both;
    - ring: every node sees its two neighbours alone;
    - flap: like full, to be cut and healed in turn.

    `names` are 3 or more; a ring of 3 cuts nothing.
    """
    others = [name for name in names if name != leader]
    choice.shuffle(others)
    with_leader = choice.random() < 0.5
    size = choice.randint(1, (len(names) - 1) // 2)
    minority = [leader, *others[: size - 1]] if with_leader else others[:size]
    majority = [name for name in names if name not in minority]
    cuts: frozenset[Cut]
    match shape:
        case "full" | "flap":
            cuts = both(minority, majority)
        case "one-way":
            sources, targets = (minority, majority) if choice.random() < 0.5 else (majority, minority)
            if choice.random() < 0.25:
                sources, targets = [leader], [others[0]]
            cuts = frozenset((a, b) for a in sources for b in targets)
        case "bridge":
            # The leader is the bridge, or on a side.
            order = [leader, *others] if with_leader else [others[0], leader, *others[1:]]
            side = 1 + (len(names) - 1) // 2
            cuts = both(order[1:side], order[side:])
        case "ring":
            order = list(names)
            choice.shuffle(order)
            near = {(a, b) for a, b in zip(order, order[1:] + order[:1], strict=True)}
            cuts = frozenset((a, b) for a in names for b in names if a != b and (a, b) not in near and (b, a) not in near)
        case _:
            raise ValueError(f"unknown shape {shape!r}: one of {', '.join(SHAPES)}")
    return Partition(shape, tuple(names), cuts)
