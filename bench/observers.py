"""Observers under load: how far every member lies behind the commit, and what that costs the leader.

    python -m bench.observers [--observers 96] [--hosts 4] [--rate 200] [--seconds 30] [--host-binary PATH]

One run: three voters alone (the cost of a task there), five voters alone, then the same five with the observers, hosted by a
few `observer-host` processes without Python. Leader and members write down (CLOCK_MONOTONIC, one clock for the machine) when
each batch was committed and applied; a member's lag is the time from the leader's commit of an entry to its own apply.
"""

import argparse
import asyncio
import bisect
import json
import os
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

from bench.cluster import Cluster, Node, cpu_seconds, disk_directory, until
from bench.load import Outcome, submits
from taskquorum.process import child_environment, free_ports

LAG_P99_MAX_MS = 50.0
LEADER_CPU_FACTOR_MAX = 1.3
COST_FACTOR_MAX = 2.0
WARM_S = 3.0
SETTLED_LAG = 64
"""Entries an observer may be behind, and still count as there."""
_GIVEN: set[int] = set()
"""Ports that this run has given to hosts."""


def seeds(cluster: Cluster) -> dict[str, str]:
    """Node id → Raft address of the cluster's voters, as their flags have it."""
    command = next(iter(cluster.nodes.values())).command
    pairs = command[command.index("--cluster") + 1].split(",")
    return dict(pair.split("=", 1) for pair in pairs)


def observer_node(cluster: Cluster, name: str) -> Node:
    """A whole node (HTTP and all) that follows the cluster; not started."""
    http, raft = free_ports(2)
    followed = ",".join(f"{node}={address}" for node, address in seeds(cluster).items())
    command = [*next(iter(cluster.nodes.values())).command]
    flags = {"--node-id": name, "--data-dir": str(cluster.directory / name), "--cluster": followed}
    flags |= {"--http": f"127.0.0.1:{http}", "--raft": f"127.0.0.1:{raft}"}
    for flag, value in flags.items():
        command[command.index(flag) + 1] = value
    return Node(name, http, [*command, "--role", "observer"], cluster.directory / f"{name}.log")


class Host:
    """One `observer-host` process with some observers in it."""

    def __init__(self, cluster: Cluster, binary: Path, number: int, first: int, count: int, trace: Path) -> None:
        self.config = cluster.directory / f"host-{number}.json"
        self.log = cluster.directory / f"host-{number}.log"
        self.binary = binary
        self.process: subprocess.Popen[bytes] | None = None
        node = {
            "data_dir": str(cluster.directory / f"host-{number}"),
            "raft_listen": f"127.0.0.1:{consecutive_ports(count)}",
            "cluster": [{"node_id": name, "address": address} for name, address in seeds(cluster).items()],
            "apply_trace": str(trace),
            "state_write_buffers_bytes": 16 << 20,
            "cache_bytes": 4 << 20,
        }
        self.config.write_text(json.dumps({"prefix": "observer", "first": first, "count": count, "node": node}))

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def start(self) -> None:
        with self.log.open("ab") as log:
            command = [str(self.binary), str(self.config)]
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=child_environment())

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(10)


def consecutive_ports(count: int) -> int:
    """The first of `count` ports in a row that can be bound now, from TASKQUORUM_BENCH_PORT (22100) on."""
    first = int(os.environ.get("TASKQUORUM_BENCH_PORT", "22100"))
    while first + count < 65_536:
        taken = next((port for port in range(first, first + count) if port in _GIVEN or not _bindable(port)), None)
        if taken is None:
            _GIVEN.update(range(first, first + count))
            return first
        first = taken + 1
    raise RuntimeError(f"no {count} ports in a row are free")


def _bindable(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def find_binary(given: str | None) -> Path:
    """The host binary: as given, or where `cargo build --release -p observer` left it."""
    target = os.environ.get("CARGO_TARGET_DIR") or str(Path.home() / ".cache/taskquorum/target")
    path = Path(given) if given else Path(target) / "release" / "observer-host"
    if not path.exists():
        raise SystemExit(f"{path} is not there: cargo build --release -p native -p observer")
    return path


def trace_voters(cluster: Cluster) -> None:
    """Makes every voter write its trace; before they start."""
    for node in cluster.nodes.values():
        settings = cluster.directory / f"{node.name}.toml"
        settings.write_text(f'[node]\napply_trace = "{cluster.directory / (node.name + ".trace")}"\n')
        node.command += ["--config", str(settings)]


def listed(cluster: Cluster, count: int, lag_max: int = SETTLED_LAG) -> bool:
    """Whether the leader sees so many observers that follow and are at most `lag_max` entries behind."""
    answer = cluster.leader().try_call("GET", "/cluster/nodes")
    nodes = answer.body["nodes"] if answer is not None and answer.status == 200 else []
    near = [
        n
        for n in nodes
        if n["node_role"] == "observer" and n["parent"] and (n["lag"] if n["lag"] is not None else 1e9) <= lag_max
    ]
    return len(near) >= count


class Load:
    """The load on one cluster, and what it cost."""

    def __init__(self, cluster: Cluster, rate: float, seconds: float, extra: list[int]) -> None:
        asyncio.run(submits(cluster, rate, WARM_S))
        self.leader = cluster.leader()
        voters = [node.pid for node in cluster.alive]
        before, leader_before, extra_before = cpu_seconds(voters), cpu_seconds([self.leader.pid]), cpu_seconds(extra)
        self.began_us = time.monotonic_ns() // 1000
        self.outcome: Outcome = asyncio.run(submits(cluster, rate, seconds))
        self.ended_us = time.monotonic_ns() // 1000
        elapsed = (self.ended_us - self.began_us) / 1e6
        self.leader_cpu = (cpu_seconds([self.leader.pid]) - leader_before) / elapsed
        self.voters_cpu = (cpu_seconds(voters) - before) / elapsed
        self.extra_cpu = (cpu_seconds(extra) - extra_before) / elapsed
        self.same_leader = cluster.leader() is self.leader

    @property
    def per_task_ms(self) -> float:
        """CPU ms of the leader for a task."""
        done = max(self.outcome.latency.count, 1)
        return 1000 * self.leader_cpu * self.outcome.seconds / done

    def report(self, what: str) -> dict[str, Any]:
        shown = {
            "what": what,
            **self.outcome.summary(),
            "leader_cpu": round(self.leader_cpu, 3),
            "voters_cpu": round(self.voters_cpu, 3),
            "hosts_cpu": round(self.extra_cpu, 3),
            "leader_cpu_ms_per_task": round(self.per_task_ms, 3),
            "leader_stayed": self.same_leader,
        }
        print(json.dumps(shown), flush=True)
        return shown


def read_trace(paths: list[Path]) -> tuple[list[tuple[int, int, str]], dict[str, list[tuple[int, int]]]]:
    """(commits as (µs, last index, node), applies by node as (last index, µs) in order)."""
    commits: list[tuple[int, int, str]] = []
    applies: dict[str, list[tuple[int, int]]] = {}
    for path in paths:
        for line in path.read_text().splitlines() if path.exists() else []:
            what, node, _, last, at_us = line.split()
            if what == "commit":
                commits.append((int(at_us), int(last), node))
            else:
                applies.setdefault(node, []).append((int(last), int(at_us)))
    for rows in applies.values():
        rows.sort()
    return commits, applies


def percentile(values: list[float], share: float) -> float:
    """The smallest value that `share` of them do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, int(share * len(ordered) + 0.999999) - 1))]


def lags(commits: list[tuple[int, int, str]], applied: list[tuple[int, int]]) -> list[float]:
    """Milliseconds from each commit to the member's first apply that covers it; inf for what never came."""
    found = []
    for at_us, index, _ in commits:
        at = bisect.bisect_left(applied, (index, 0))
        found.append((applied[at][1] - at_us) / 1000 if at < len(applied) else float("inf"))
    return found


def report_lags(load: Load, paths: list[Path], members: int) -> float:
    """Prints each member's lag; returns the worst p99 in ms."""
    commits, applies = read_trace(paths)
    window = [c for c in commits if load.began_us <= c[0] <= load.ended_us and c[2] == load.leader.name]
    print(f"{len(window)} batches committed by {load.leader.name}; lag of each member in ms: p50 p99 max")
    worst, everything = 0.0, []
    for node in sorted(applies, key=lambda name: (name.rsplit("-", 1)[0], int(name.rsplit("-", 1)[1]))):
        found = lags(window, applies[node])
        p50, p99, most = percentile(found, 0.5), percentile(found, 0.99), max(found)
        worst = max(worst, p99)
        everything += found
        print(f"  {node:14} {p50:8.2f} {p99:8.2f} {most:8.2f}")
    if len(applies) < members:
        print(f"only {len(applies)} of {members} members left a trace")
        worst = float("inf")
    print(f"all members: p50 {percentile(everything, 0.5):.2f} p99 {percentile(everything, 0.99):.2f} max {max(everything):.2f}")
    return worst


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--observers", type=int, default=96)
    parser.add_argument("--hosts", type=int, default=4)
    parser.add_argument("--voters", type=int, default=5)
    parser.add_argument("--rate", type=float, default=200.0)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--host-binary")
    parser.add_argument("--keep", action="store_true", help="keep the directories")
    given = parser.parse_args()
    binary = find_binary(given.host_binary)
    print(f"machine: {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f} before the run", flush=True)
    with Cluster(3) as three:
        base = Load(three, given.rate, given.seconds, [])
        base.report("3 voters alone")
    directory = disk_directory("taskquorum-observers-")
    cluster = Cluster(given.voters, directory=directory, keep=given.keep)
    trace_voters(cluster)
    hosts: list[Host] = []
    paths = [directory / f"{name}.trace" for name in cluster.nodes]
    with cluster:
        alone = Load(cluster, given.rate, given.seconds, [])
        alone.report(f"{given.voters} voters alone")
        try:
            first = 1
            for number in range(1, given.hosts + 1):
                count = given.observers * number // given.hosts - (first - 1)
                paths.append(directory / f"host-{number}.trace")
                hosts.append(Host(cluster, binary, number, first, count, paths[-1]))
                first += count
            began = time.monotonic()
            for host in hosts:
                host.start()
            until(lambda: listed(cluster, given.observers), f"{given.observers} observers follow", 300.0)
            print(f"{given.observers} observers follow after {time.monotonic() - began:.1f} s", flush=True)
            beside = Load(cluster, given.rate, given.seconds, [host.pid for host in hosts])
            until(lambda: listed(cluster, given.observers, 0), "every observer has applied the last entry")
            beside.report(f"{given.voters} voters and {given.observers} observers in {given.hosts} processes")
        finally:
            for host in hosts:
                host.stop()
        for node in cluster.alive:
            node.kill(signal.SIGTERM)
        worst = report_lags(beside, paths, given.voters + given.observers)
    factor = beside.leader_cpu / alone.leader_cpu
    cost = beside.per_task_ms / base.per_task_ms
    print(f"machine: load {os.getloadavg()[0]:.1f} after the run")
    met = [
        verdict("every member behind the commit at p99", worst, LAG_P99_MAX_MS, "ms"),
        verdict(f"leader's CPU against {given.voters} voters alone", factor, LEADER_CPU_FACTOR_MAX, "x"),
        verdict("leader's CPU per task against 3 voters", cost, COST_FACTOR_MAX, "x"),
    ]
    return 0 if all(met) else 1


def verdict(what: str, value: float, most: float, unit: str) -> bool:
    """Prints a figure beside its bound."""
    print(f"{what}: {value:.2f} {unit}, at most {most:g} {unit}: {'ok' if value <= most else 'MISSED'}")
    return value <= most


if __name__ == "__main__":
    raise SystemExit(main())
