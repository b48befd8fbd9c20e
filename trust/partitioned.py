"""One partition of a running cluster, whatever makes it: clients write to every node, links are cut and mended, all are judged.

While links are cut, writes are acknowledged again within 3 s if any node is linked to a quorum; a node that is cut off
acknowledges nothing, and what is sent to it 2 election timeouts after the cut or later is refused at once. Once they are mended,
every node takes writes again, all nodes hold the same, no acknowledged write is missing or there twice, and no write is there of
which a node said that nothing was done.

A bound on time is broken only by more than what the machine took away: the longest that the clients' process, or a thread of a
node, waited for a processor meanwhile. How many runs kept the bound as it stands is counted apart.
"""

import itertools
import time
from collections.abc import Callable

from bench.cluster import Cluster, Node

from trust import starved
from trust.links import Partition
from trust.probes import Probes
from trust.suite import Counts, Violation
from trust.verify import held, status_of, verify

ELECTION_TIMEOUT_S = 1.0
LEADER_S = 3.0
# Long enough to see what a node does 2 election timeouts after the cut.
HOLD_S = 2 * ELECTION_TIMEOUT_S + 0.7
# "At once": an answer that waits for nobody.
REFUSAL_S = 0.4
MENDED_S = 15.0

# Cuts and mends; returns the moments (monotonic seconds) of the first cut and of the last mending.
Break = Callable[[Probes], tuple[float, float]]


def _term(cluster: Cluster, names: set[str]) -> int:
    views = [status_of(cluster.nodes[name]) for name in names]
    return max((int(str(view["term"])) for view in views if view is not None), default=0)


def look_at(node: Node, task_id: str) -> None:
    """A cut-off node answers from its own state, and refuses to vouch for it."""
    path = f"/tasks/distributed/{task_id}"
    local = node.call("GET", f"{path}?consistency=local", timeout_s=3.0)
    if local.status != 200:
        raise Violation(f"{node.name} is cut off and does not answer a local read: {local.status} {local.raw[:200]!r}")
    began = time.monotonic()
    try:
        read = node.call("GET", path, timeout_s=3.0)
    except TimeoutError:
        raise Violation(f"{node.name} is cut off and does not refuse a linearizable read within 3 s") from None
    if read.status != 503:
        seconds = time.monotonic() - began
        raise Violation(f"{node.name} is cut off and answered a linearizable read with {read.status} after {seconds:.2f} s")


def _judge_cut_off(probes: Probes, part: Partition, cut_at: float, mended_at: float, waited_s: float) -> int:
    """How many writes the cut-off nodes refused. Raises [`Violation`]."""
    refused = 0
    late_at = cut_at + 2 * ELECTION_TIMEOUT_S + waited_s
    for attempt in probes.attempts:
        if attempt.node not in part.cut_off or not cut_at <= attempt.sent_at or attempt.ended_at >= mended_at:
            continue
        when = f"{attempt.sent_at - cut_at:.2f} s after the cut"
        if attempt.acknowledged:
            raise Violation(f"{attempt.node} is cut off and acknowledged {attempt.key}, sent {when} ({part.text()})")
        refused += attempt.refused
        took = attempt.ended_at - attempt.sent_at
        if attempt.sent_at >= late_at and (not attempt.refused or took > REFUSAL_S + waited_s):
            said = f"{attempt.status} {attempt.code}" if attempt.status else "nothing"
            raise Violation(f"{attempt.node} is cut off and said {said} in {took:.2f} s to a write sent {when} ({part.text()})")
    return refused


def _longest_gap(probes: Probes, cut_at: float, mended_at: float) -> float:
    """The longest time in which nothing was acknowledged."""
    times = sorted(a.ended_at for a in probes.attempts if a.acknowledged and cut_at <= a.ended_at < mended_at)
    moments = [cut_at, *times, mended_at]
    return max(later - earlier for earlier, later in itertools.pairwise(moments))


def run_partition(
    cluster: Cluster, part: Partition, run: str, break_links: Break, flaps: int = 0, mend: Callable[[], None] = lambda: None
) -> Counts:
    """Breaks as `break_links` does and judges. With `flaps` the links were cut so many times, each for half a second, and
    nothing is said of cut-off nodes. `mend` is called in any case."""
    names = set(cluster.nodes)
    if not part.leaders:
        raise AssertionError(f"no node of {part.text()} is linked to a quorum")
    with Probes(cluster.nodes.values(), run) as probes:
        probes.wait(lambda: probes.acknowledged_by(names, 0.0), "every node acknowledges a write", MENDED_S)
        term = _term(cluster, names)
        delays = starved.delays(cluster.nodes.values())
        try:
            cut_at, mended_at = break_links(probes)
        finally:
            mend()
        waited_s = max(probes.stall_s, starved.longest(delays, starved.delays(cluster.nodes.values())))
        grown = _term(cluster, names) - term
        try:
            probes.wait(lambda: probes.acknowledged_by(names, mended_at), "every node acknowledges a write again", MENDED_S)
        except TimeoutError as error:
            raise Violation(f"{error} after {part.shape}: {part.text()}") from error
        healed_s = time.monotonic() - mended_at
    unknown = probes.settle()
    gap_s = _longest_gap(probes, cut_at, mended_at)
    if gap_s > LEADER_S + waited_s:
        raise Violation(f"nothing was acknowledged for {gap_s:.2f} s although {sorted(part.leaders)} can lead: {part.text()}")
    if flaps and grown > flaps:
        raise Violation(f"{flaps} flaps raised the term by {grown}: {part.text()}")
    refused = 0 if flaps else _judge_cut_off(probes, part, cut_at, mended_at, waited_s)
    counts = verify(cluster, probes.ledger, run)
    nothing_done = {a.key for a in probes.attempts if a.refused} - set(probes.ledger.acks)
    done = nothing_done & set(held(cluster.leader(), run))
    if done:
        raise Violation(f"of these a node said that nothing was done, and they are there: {sorted(done)[:5]}")
    counts |= {"shape": part.shape, "refused": refused, "retried": unknown, "terms": grown}
    counts["within_3_s"] = int(gap_s <= LEADER_S)
    worst = {"gap_s_max": gap_s, "healed_s_max": healed_s, "machine_s_max": waited_s}
    return counts | {name: round(seconds, 3) for name, seconds in worst.items()}
