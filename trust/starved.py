"""How long the nodes' threads waited for a processor, so that a busy machine is not taken for a slow cluster.

The kernel counts for each thread the time in which it could have run and did not (`/proc/PID/task/TID/schedstat`, second number,
in nanoseconds). A node counts time in ticks of its own and reports a stall as a few ticks only: what its threads waited, its
elections take longer.
"""

from collections.abc import Iterable
from pathlib import Path

from bench.cluster import Node

Delays = dict[tuple[str, str], float]


def delays(nodes: Iterable[Node]) -> Delays:
    """Seconds waited so far by each thread of these nodes: (node, thread id) → seconds. Empty where the kernel does not tell, or
    the processes are not this machine's."""
    found: Delays = {}
    for node in nodes:
        if node.process is None or not node.alive:
            continue
        for thread in Path(f"/proc/{node.pid}/task").glob("*/schedstat"):
            try:
                found[node.name, thread.parent.name] = int(thread.read_text().split()[1]) / 1e9
            except (OSError, IndexError):
                continue
    return found


def longest(before: Delays, after: Delays) -> float:
    """The seconds that the most starved thread waited in between."""
    return max((seconds - before[thread] for thread, seconds in after.items() if thread in before), default=0.0)
