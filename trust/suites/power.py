"""Power loss (R4): of one node or of all at once, under load, with pauses before it, and with torn writes.

Each node's data lies on a lossy disk. The power goes at a random moment, or exactly at a chosen write or sync: the disk
answers nothing from there on, the processes are killed, and what was not synced is dropped or torn. Then they start again,
and every acknowledged write must be on every node exactly once. Seeds give the shape in turn and everything else by chance.
"""

import itertools
import random
import signal
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from bench.cluster import Node

from trust.fleet import BUSY, Fleet
from trust.lossy import LOSSES, LossyDisk
from trust.suite import Counts, RunOne, Suite
from trust.verify import Load, verify

NODES = ("node-1", "node-2", "node-3")
# Who loses power, after a pause or not.
WHO = ("one", "all", "one paused", "all paused")
SHAPES = tuple(itertools.product(WHO, LOSSES))
# At which operation the power goes; `None` is at once.
MOMENTS = (
    None,
    ("sync", "log/"),
    ("write", "log/"),
    ("sync", "witness"),
    ("sync", "state-"),
    ("write", "state-"),
    ("rename", ""),
)
FREEZE_S = 1.0


def cut(disks: Mapping[str, LossyDisk], victims: list[Node], loss: str, seed: int) -> dict[str, int]:
    """The power of these nodes goes: they die, then their disks settle what is lost. Sums of what was."""
    for node in victims:
        assert node.process is not None
        node.process.kill()
    total: dict[str, int] = {}
    for node in victims:
        # Its threads may wait for the disk; they end when it answers, and run no code any more.
        disks[node.name].obey("kill")
    for number, node in enumerate(victims):
        assert node.process is not None
        node.process.wait(30)
        for name, value in disks[node.name].obey(f"lose {loss} {seed * 8 + number}").items():
            total[name] = total.get(name, 0) + value
    return total


def run_one(fleet: Fleet, disks: Mapping[str, LossyDisk], seed: int) -> Counts:
    """One loss of power."""
    who, loss = SHAPES[seed % len(SHAPES)]
    choice = random.Random(seed)
    run = f"power-{seed}"
    with Load(fleet, run, seed, clients=8, rate=400) as load:
        load.wait_for(choice.randrange(20, 120))
        nodes = list(fleet.nodes.values())
        victims = nodes if who.startswith("all") else [fleet.leader() if choice.random() < 0.5 else choice.choice(nodes)]
        if who.endswith("paused"):
            paused = choice.choice(victims)
            paused.process.send_signal(signal.SIGSTOP)
            # The others go on, with a new leader if it was the leader that sleeps.
            load.wait_for(choice.randrange(10, 60))
            paused.process.send_signal(signal.SIGCONT)
        moment = choice.choice(MOMENTS)
        if moment is not None:
            operation, path = moment
            trigger = disks[choice.choice(victims).name]
            trigger.rule(operation, "freeze", path, skip=choice.randrange(0, 12), count=1)
            trigger.wait_frozen(FREEZE_S)
        lost = cut(disks, victims, loss, seed)
        for node in victims:
            node.start()
        fleet.wait_back()
        load.wait_for(20)
    counts = verify(fleet, load.ledger, run)
    return counts | {f"operations_{name}": lost[name] for name in ("lost", "kept", "torn")} | {"shape": f"{who}, {loss}"}


@contextmanager
def session(
    directory: Path, environment: Mapping[str, str] | None = None, settings: Mapping[str, int] = BUSY
) -> Iterator[RunOne]:
    """Three lossy disks and a cluster on them, for many losses."""
    with ExitStack() as stack:
        disks = {name: stack.enter_context(LossyDisk(directory / f"disk-{name}")) for name in NODES}
        data = {name: disk.root / "data" for name, disk in disks.items()}
        fleet = stack.enter_context(Fleet(directory / "cluster", len(NODES), environment, data, settings))
        stack.callback(_keep, directory, fleet, disks)
        yield lambda seed, _: run_one(fleet, disks, seed)


def _keep(directory: Path, fleet: Fleet, disks: Mapping[str, LossyDisk]) -> None:
    """Copies the disks out before they are unmounted: they are what a bad run is studied by."""
    fleet.kill_all()
    for name, disk in disks.items():
        disk.obey("kill")
        disk.obey(f"save {directory / 'kept' / name}")


SUITE = Suite(name="power", id="R4", title="power loss under load", full=200, cut=6, session=session)
