"""Crashes (R6): a node ends at each failpoint, as leader and as follower, and by `kill -9` at any moment.

Four of five seeds take the places of `trust/crashes.py` in turn, the fifth kills one node, two, or all at random. The crashed
process ends with its own exit code, so that a run proves that the place was reached. A cluster is founded anew for the places
that only a new cluster reaches.
"""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from trust.crashes import CASES, Reach, actions
from trust.failpoints import FailpointFleet
from trust.fleet import BUSY, PORTS
from trust.suite import Counts, RunOne, Suite
from trust.verify import Load, verify

KILL_EVERY = 5
# The ports of clusters that are founded beside the long-lived one.
FOUND_PORTS = PORTS + 100


def case_of(seed: int) -> int | None:
    """The case of a seed, or None for a random kill."""
    return None if seed % KILL_EVERY == 0 else (seed - seed // KILL_EVERY - 1) % len(CASES)


def kill(fleet: FailpointFleet, load: Load, choice: random.Random) -> None:
    """SIGKILL to one node, to two, or to all, and starts them again."""
    victims = choice.sample(list(fleet.nodes.values()), choice.choice((1, 1, 1, 2, 3)))
    load.wait_for(choice.randrange(1, 100))
    for node in victims:
        node.kill()
    for node in victims:
        fleet.start_with(node)
    fleet.wait_back()


def found(place: str, what: str, seed: int, workdir: Path) -> Counts:
    """A new cluster of which one node crashes at its first start."""
    run = f"crash-{seed}"
    victim = f"node-{seed % 3 + 1}"
    fleet = FailpointFleet(workdir / "cluster", settings=BUSY, ports=FOUND_PORTS)
    try:
        for name, node in fleet.nodes.items():
            fleet.start_with(node, f"{place}={what}" if name == victim else "")
        fleet.wait_crashed(fleet.nodes[victim])
        fleet.start_with(fleet.nodes[victim])
        fleet.wait_back()
        with Load(fleet, run, seed, clients=4, rate=200) as load:
            load.wait_for(20)
        return verify(fleet, load.ledger, run)
    finally:
        fleet.kill_all()


def run_one(fleet: FailpointFleet, seed: int, workdir: Path) -> Counts:
    """One crash."""
    choice = random.Random(seed)
    case = case_of(seed)
    if case is not None and CASES[case][0].name == "found":
        trigger, place, _ = CASES[case]
        return found(place, actions(trigger, choice), seed, workdir) | {"shape": "at a place, founding"}
    run = f"crash-{seed}"
    with Load(fleet, run, seed, clients=8, rate=400) as load:
        load.wait_for(20)
        if case is None:
            kill(fleet, load, choice)
            shape = "kill -9"
        else:
            trigger, place, role = CASES[case]
            Reach(fleet, load, choice).crash(trigger, place, role)
            shape = f"at a place, {role}"
        load.wait_for(20)
    return verify(fleet, load.ledger, run) | {"shape": shape}


@contextmanager
def session(directory: Path) -> Iterator[RunOne]:
    """One cluster of the build with failpoints."""
    with FailpointFleet(directory / "cluster", settings=BUSY) as fleet:
        yield lambda seed, workdir: run_one(fleet, seed, workdir)


SUITE = Suite(name="crash", id="R6", title="crashes at failpoints, kill -9", full=500, cut=12, session=session)
