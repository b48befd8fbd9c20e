"""Partitions of containers: a node taken off its network (`docker network disconnect`), or frozen (`docker pause`).

A run takes one of three nodes, the leader half of the time, and is judged as trust/partitioned.py says. A frozen node says
nothing at all.
"""

import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from trust import docker
from trust.docker import DockerCluster
from trust.links import Partition, both
from trust.partitioned import HOLD_S, look_at, run_partition
from trust.probes import Probes
from trust.renewed import renewed
from trust.suite import Counts, RunOne, Suite


def run_one(cluster: DockerCluster, seed: int) -> Counts:
    """One partition; odd seeds disconnect, even ones freeze."""
    choice = random.Random(seed)
    names = sorted(cluster.nodes)
    victim = cluster.leader().name if choice.random() < 0.5 else choice.choice(names)
    rest = [name for name in names if name != victim]
    shape = "disconnect" if seed % 2 else "pause"
    part = Partition(shape, tuple(names), both([victim], rest))
    cut = False

    def break_links(probes: Probes) -> tuple[float, float]:
        nonlocal cut
        begun = next(iter(probes.ledger.acks.values())).task_id
        began = time.monotonic()
        cut = True
        (cluster.disconnect if shape == "disconnect" else cluster.pause)(victim)
        cut_at = time.monotonic()
        if shape == "disconnect":
            probes.hold(HOLD_S + probes.stall_s)
            look_at(cluster.nodes[victim], begun)
        else:
            # The command takes its time: from its end on nothing may be acknowledged by the frozen node.
            probes.hold(choice.uniform(0.5, HOLD_S) + cut_at - began)
        mended_at = time.monotonic()
        mend()
        return cut_at, mended_at

    def mend() -> None:
        nonlocal cut
        if cut:
            (cluster.connect if shape == "disconnect" else cluster.unpause)(victim)
            cut = False

    return run_partition(cluster, part, f"docker-{seed}", break_links, mend=mend)


@contextmanager
def session(directory: Path) -> Iterator[RunOne]:
    """One cluster for many partitions."""
    docker.need()
    with renewed(directory, DockerCluster, run_one) as one:
        yield one


SUITE = Suite(name="docker", id="R3", title="partitions of containers (Docker)", full=100, cut=2, session=session)
