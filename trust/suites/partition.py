"""Partitions of real hosts (namespaces, packet filters): the cluster goes on where a quorum is connected, and nowhere else.

A run is one partition of five nodes, judged as trust/partitioned.py says: full, one-way, bridge, ring, or a full one that flaps
once a second, which may raise the term by at most one a flap.
"""

import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from trust import netns
from trust.links import SHAPES, Partition, partition
from trust.netns import NetnsCluster
from trust.partitioned import HOLD_S, look_at, run_partition
from trust.probes import Probes
from trust.renewed import renewed
from trust.suite import Counts, RunOne, Suite

NODES = 5
FLAPS = 3


def _break(cluster: NetnsCluster, probes: Probes, part: Partition) -> tuple[float, float]:
    """Cuts and mends; the moments of the first cut and the last mending."""
    begun = next(iter(probes.ledger.acks.values())).task_id
    network = cluster.network
    if part.shape == "flap":
        cut_at = time.monotonic()
        for _ in range(FLAPS):
            network.cut(part.cuts)
            probes.hold(0.5)
            network.cut(())
            probes.hold(0.5)
        return cut_at, time.monotonic()
    network.cut(part.cuts)
    # The command takes its time: until its end a packet may pass.
    cut_at = time.monotonic()
    probes.hold(HOLD_S + probes.stall_s)
    for name in sorted(part.cut_off):
        look_at(cluster.nodes[name], begun)
    mended_at = time.monotonic()
    network.cut(())
    return cut_at, mended_at


def run_one(cluster: NetnsCluster, seed: int) -> Counts:
    """One partition of the shape that the seed says."""
    shape = SHAPES[seed % len(SHAPES)]
    part = partition(shape, sorted(cluster.nodes), cluster.leader().name, random.Random(seed))
    flaps = FLAPS if shape == "flap" else 0
    mend = lambda: cluster.network.cut(())  # noqa: E731
    return run_partition(cluster, part, f"partition-{seed}", lambda probes: _break(cluster, probes, part), flaps, mend)


@contextmanager
def session(directory: Path) -> Iterator[RunOne]:
    """One cluster for many partitions."""
    netns.need()
    with renewed(directory, lambda place: NetnsCluster(place, NODES), run_one) as one:
        yield one


SUITE = Suite(
    name="partition",
    id="R3",
    title="partitions of five hosts (namespaces)",
    full=100 * len(SHAPES),
    cut=2 * len(SHAPES),
    session=session,
)
