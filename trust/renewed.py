"""One cluster for many runs of a suite, made anew now and then so that its state stays small."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from bench.cluster import Cluster

from trust.suite import Counts, RunOne

RUNS_A_CLUSTER = 60
C = TypeVar("C", bound=Cluster)


@contextmanager
def renewed(directory: Path, make: Callable[[Path], C], run_one: Callable[[C, int], Counts]) -> Iterator[RunOne]:
    """`run_one(cluster, seed)` on a started cluster of `make`, which is stopped at the end and after every 60 runs."""
    running: list[C] = []
    used = 0

    def stop() -> None:
        while running:
            running.pop().stop()

    def one(seed: int, _: Path) -> Counts:
        nonlocal used
        if not running or used == RUNS_A_CLUSTER:
            stop()
            place = directory / f"cluster-{seed}"
            place.mkdir()
            # Held before it starts, so that a start that fails is stopped as well.
            running.append(make(place))
            running[0].start()
            used = 0
        used += 1
        return run_one(running[0], seed)

    try:
        yield one
    finally:
        stop()
