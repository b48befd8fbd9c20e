"""A disk that fails or is slow on a minority (R8): EIO, ENOSPC, short writes, 100 ms to 5 s.

A node whose write or sync failed stops with a message that names the file, and tries nothing again; the others go on. It comes
back by a start, and after a failed sync the power goes, too: what the disk only pretended to hold must not have counted. A
short write is finished, and a slow disk on a minority stops nobody.
"""

import random
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from trust.fleet import BUSY, Fleet
from trust.lossy import LossyDisk
from trust.suite import Counts, RunOne, Suite, Violation
from trust.suites.power import NODES, cut
from trust.verify import Load, verify

# Operation and action, and whether the node must stop.
SHAPES = (
    ("sync", "error=EIO", True),
    ("write", "error=EIO", True),
    ("write", "error=ENOSPC", True),
    ("write", "short", False),
    ("short, then full", "", True),
    ("sync", "delay", False),
    ("write", "delay", False),
)
# Parts of the paths of files that matter: WAL and tables of the log, the witness, any table, any numbered file. RocksDB's own
# text log is not among them: that it cannot be written stops nobody.
PATHS = ("log/0", "log/0", "witness", ".sst", "/0")
# Their syncs have one caller: a second failure would be a second try.
ONE_CALLER = ("log/0", "witness")
STOP_S = 20.0
# Acknowledged writes that a cluster with one slow disk must reach, and by when.
GO_ON, GO_ON_S = 60, 20.0
SAYS = ("this node stops", "cannot")


def inject(disk: LossyDisk, shape: tuple[str, str, bool], path: str, choice: random.Random) -> None:
    """Sets the rules of a shape."""
    operation, action, _ = shape
    skip = choice.randrange(0, 6)
    if operation == "short, then full":
        # A full disk takes the part that fits, and then nothing.
        disk.rule("write", "short", path, skip=skip, count=1)
        disk.rule("write", "error=ENOSPC", path)
    elif action == "delay":
        disk.rule(operation, f"delay={choice.choice((100, 250, 1000, 2500, 5000))}", path)
    elif action == "short":
        disk.rule(operation, action, path, skip=skip, count=choice.randrange(1, 6))
    else:
        disk.rule(operation, action, path, skip=skip, count=choice.choice((1, 1000)))


def run_one(fleet: Fleet, disks: Mapping[str, LossyDisk], seed: int) -> Counts:
    """One fault on one node."""
    shape = SHAPES[seed % len(SHAPES)]
    choice = random.Random(seed)
    path = choice.choice(PATHS)
    run = f"disk-{seed}"
    counts: Counts = {}
    with Load(fleet, run, seed, clients=8, rate=300) as load:
        load.wait_for(30)
        leads = choice.random() < 0.5
        node = fleet.leader() if leads else choice.choice([n for n in fleet.nodes.values() if n is not fleet.leader()])
        disk = disks[node.name]
        said = len(node.log.read_text(errors="replace"))
        before = disk.obey("stats")["hits"]
        inject(disk, shape, path, choice)
        began = time.monotonic()
        if shape[2]:
            fleet.wait_dead(node, STOP_S)
            counts["stop_s_max"] = round(time.monotonic() - began, 2)
            text = node.log.read_text(errors="replace")[said:]
            if not all(part in text for part in SAYS):
                raise Violation(f"{node.name} stopped without saying why:\n{text[-2000:]}")
            load.wait_for(20)
            counts["failures_max"] = disk.obey("stats")["hits"] - before
            if shape[0] == "sync" and path in ONE_CALLER and counts["failures_max"] != 1:
                raise Violation(f"{node.name} tried a failed sync of {path} again: {counts['failures_max']} times")
            disk.obey("rules-clear")
            if shape[0] == "sync" or choice.random() < 0.3:
                cut(disks, [node], "clear", seed)
            node.start()
        else:
            load.wait_for(GO_ON, GO_ON_S)
            counts["hits"] = disk.obey("stats")["hits"] - before
            disk.obey("rules-clear")
            if not node.alive:
                raise Violation(f"{node.name} stopped although nothing failed:\n{node.log_tail()}")
        fleet.wait_back()
        load.wait_for(20)
    name = f"{shape[0]} {shape[1]}".strip()
    return verify(fleet, load.ledger, run) | counts | {"shape": name}


@contextmanager
def session(directory: Path) -> Iterator[RunOne]:
    """Three lossy disks and a cluster on them."""
    with ExitStack() as stack:
        disks = {name: stack.enter_context(LossyDisk(directory / f"disk-{name}")) for name in NODES}
        data = {name: disk.root / "data" for name, disk in disks.items()}
        fleet = stack.enter_context(Fleet(directory / "cluster", len(NODES), None, data, BUSY))
        yield lambda seed, _: run_one(fleet, disks, seed)


SUITE = Suite(name="disk", id="R8", title="failing, full and slow disks on a minority", full=400, cut=7, session=session)
