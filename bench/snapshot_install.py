"""A large state installs on a node that has none of it, while the cluster goes on: `python -m bench.snapshot_install`.

A node is stopped, the others are filled and cut their logs past it, and it comes back: the leader streams it a snapshot at the
set rate while single submits arrive open-loop. Printed: time until it has caught up, MiB/s, and commit p99 (the leader's
histogram, and the submits' own latency) before and during. With `--join` the node is wiped and taken in by `cluster replace`.
"""

import argparse
import asyncio
import json
import os
import subprocess
import sys
import time
from typing import Any

from bench.cluster import Cluster, Node, until
from bench.filling import fill
from bench.load import submits
from taskquorum.process import child_environment

BEFORE_S = 30.0
# What the filling left to the disk (write-back, compaction) must be over before the base is measured.
SETTLE_WINDOW_S = 10.0
SETTLE_WINDOWS_MAX = 18
SETTLED = 0.8
TIMES_MAX = 3.0


def commit_buckets(node: Node) -> dict[float, int]:
    """Upper bound in ms → commits up to it, of the leader."""
    text = node.call("GET", "/metrics").raw.decode()
    found = {}
    for line in text.splitlines():
        if line.startswith("taskquorum_commit_seconds_bucket"):
            bound = line.split('le="')[1].split('"')[0]
            found[float(bound) * 1000] = int(float(line.rsplit(" ", 1)[1]))
    return found


def p99_ms(before: dict[float, int], after: dict[float, int]) -> float:
    """The 99th percentile of what was counted between two looks: linear inside its bucket."""
    counts = {bound: after[bound] - before.get(bound, 0) for bound in sorted(after)}
    total = max(counts.values())
    below, low = 0, 0.0
    for bound, count in counts.items():
        if count >= 0.99 * total:
            if bound == float("inf"):
                return low
            return low + (bound - low) * (0.99 * total - below) / max(1, count - below)
        below, low = count, bound
    return low


def transfer(leader: Node) -> dict[str, Any] | None:
    answer = leader.try_call("GET", "/cluster/nodes")
    shown = answer.body.get("snapshot") if answer is not None and answer.status == 200 else None
    return shown if isinstance(shown, dict) else None


def applied(node: Node) -> int:
    answer = node.try_call("GET", "/cluster/status")
    return int(answer.body["applied_index"]) if answer is not None and answer.status == 200 else 0


def settle(cluster: Cluster, leader: Node, rate: float) -> None:
    """Submits until the commit p99 falls no more from one window to the next; at most three minutes."""
    os.sync()
    last = float("inf")
    for _ in range(SETTLE_WINDOWS_MAX):
        begun = commit_buckets(leader)
        asyncio.run(submits(cluster, rate, SETTLE_WINDOW_S))
        now = p99_ms(begun, commit_buckets(leader))
        print(f"settling: commit p99 {now:.1f} ms", flush=True)
        if now >= SETTLED * last:
            return
        last = now


def measure(megabytes: float, rate_mib: int, rate: float, join: bool) -> dict[str, Any]:
    cluster = Cluster(3)
    for node in cluster.nodes.values():
        node.command += ["--snapshot-rate-mib", str(rate_mib)]
    with cluster:
        leader = cluster.leader()
        behind = cluster.follower()
        behind.kill()
        started = time.monotonic()
        fill(cluster, megabytes)
        # A flush, a checkpoint, and the log is cut past the stopped node.
        answer = leader.call("POST", "/cluster/snapshot", {}, timeout_s=120)
        assert answer.status == 200, answer.raw
        print(f"filled {megabytes:g} MiB in {time.monotonic() - started:.0f} s", flush=True)
        if join:
            cluster.wipe(behind)
        settle(cluster, leader, rate)
        marks = [commit_buckets(leader)]
        before = asyncio.run(submits(cluster, rate, BEFORE_S))
        marks.append(commit_buckets(leader))
        target = applied(leader)
        began = time.monotonic()
        behind.start()
        if join:
            command = [sys.executable, "-m", "taskquorum", "cluster", "replace", behind.name, "--server", leader.url]
            subprocess.run(command, check=True, env=child_environment(), timeout=60)
        seen: dict[str, Any] = {}
        ended: list[float] = []

        def watch() -> float:
            def done() -> bool:
                seen.update({name: value for name, value in (transfer(leader) or {}).items() if value})
                if seen.get("phase") == "installing" and not ended:
                    ended.append(time.monotonic() - began)
                return applied(behind) >= target

            until(done, "the snapshot is installed", 600)
            return time.monotonic() - began

        async def during() -> tuple[float, Any]:
            loop = asyncio.get_running_loop()
            watching = loop.run_in_executor(None, watch)
            # The loads stand back to back until the node has caught up.
            outcome = None
            while not watching.done():
                outcome = await submits(Without(cluster, behind), rate, 5.0)
                outcomes.append(outcome)
            return await watching, outcome

        outcomes: list[Any] = []
        install_s, _ = asyncio.run(during())
        marks.append(commit_buckets(leader))
        assert cluster.leader() is leader, "leadership moved: the commit histogram is another node's"
        total = seen.get("bytes_total", 0)
        p99 = [p99_ms(marks[0], marks[1]), p99_ms(marks[1], marks[2])]
        return {
            "state_mib": round(total / (1 << 20), 1),
            "install_s": round(install_s, 1),
            "sent_s": round(ended[0], 1) if ended else None,
            "mib_per_s": round(total / (1 << 20) / (ended[0] if ended else install_s), 1),
            "rate_mib": rate_mib,
            "submits_per_s": rate,
            "commit_p99_ms_before": round(p99[0], 2),
            "commit_p99_ms_during": round(p99[1], 2),
            "times": round(p99[1] / p99[0], 2),
            "submit_p99_ms_before": before.summary().get("p99_ms"),
            "submit_p99_ms_during": max(o.summary().get("p99_ms") or 0 for o in outcomes),
            "failed": before.failed + sum(o.failed for o in outcomes),
        }


class Without:
    """A cluster as the load sees it: without the node that is not ready yet."""

    def __init__(self, cluster: Cluster, node: Node) -> None:
        self.alive = [other for other in cluster.alive if other is not node]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mib", type=float, default=1024.0)
    parser.add_argument("--rate-mib", type=int, default=32)
    parser.add_argument("--submits", type=float, default=300.0)
    parser.add_argument("--join", action="store_true", help="wipe the node and take it in by `cluster replace`")
    arguments = parser.parse_args()
    result = measure(arguments.mib, arguments.rate_mib, arguments.submits, arguments.join)
    print(json.dumps(result))
    ok = result["times"] <= TIMES_MAX
    what = f"{result['state_mib']} MiB installed in {result['install_s']} s ({result['mib_per_s']} of {result['rate_mib']} MiB/s)"
    print(
        f"{what} at {result['submits_per_s']:g} submits/s: commit p99 {result['commit_p99_ms_before']} → "
        f"{result['commit_p99_ms_during']} ms, {result['times']} × (≤ {TIMES_MAX:g} ×){'' if ok else ' FAILED'}"
    )
    sys.exit(0 if ok else 1)


if __name__ == "__main__":
    main()
