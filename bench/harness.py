"""The end-to-end harness: three real nodes, the load beside them, figures as JSON and one page with pictures.

    python -m bench.harness [--out bench/out] [--only NAME[,NAME]] [--quick]

Prints one line a figure. Run it on a quiet box: the nodes and the load share its cores, and the page shows how busy it was.
"""

import argparse
import asyncio
import json
import os
import platform
import subprocess
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import uvloop

from bench import scenarios
from bench.cluster import Cluster
from bench.proxy import DelayProxy
from bench.report import render

ROOT = Path(__file__).resolve().parent.parent
MARKS: dict[str, tuple[str, Callable[[dict[str, Any]], float], float, str]] = {
    "single submits per second": ("submits", lambda f: f["done_per_s"], 995, "≥"),
    "single submits p99, ms": ("submits", lambda f: f["p99_ms"], 10, "≤"),
    "commit p99 at 1,000/s, ms": ("submits", lambda f: f["leader_us"]["commit_us"]["p99"] / 1000, 5, "≤"),
    "cycles per second, batched": ("cycles_batched", lambda f: f["cycles_per_s"], 5000, "≥"),
    "cycles per second, unbatched": ("cycles_single", lambda f: f["cycles_per_s"], 1000, "≥"),
    "change visible on every node p99, ms": ("propagation", lambda f: f["p99_ms"], 5, "≤"),
    "ready → assigned p99, ms": ("assignment", lambda f: f["p99_ms"], 50, "≤"),
    "leader kill -9 → writes accepted, s": ("leader_kills", lambda f: f["max_s"], 2, "≤"),
    "agent lost → its task elsewhere, s": ("agent_loss", lambda f: f["seconds"], 6, "≤"),
    "idle CPU, % of a core": ("idle", lambda f: max(n["cpu_percent"] for n in f.values()), 2, "≤"),
    "idle memory, MB": ("idle", lambda f: max(n["rss_mb"] for n in f.values()), 250, "≤"),
}


def machine() -> dict[str, object]:
    """What the figures were measured on."""
    model = platform.processor()
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []:
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    return {"cpu": model, "cores": os.cpu_count(), "system": platform.platform(), "python": platform.python_version()}


def commit() -> str:
    done = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


class Run:
    """Collects figures; a measurement that fails is recorded with its reason and the run goes on."""

    def __init__(self, only: set[str]) -> None:
        self.only = only
        self.figures: dict[str, Any] = {}

    def wants(self, name: str) -> bool:
        return not self.only or name in self.only

    def measure(self, name: str, make: Callable[[], Any]) -> None:
        """One figure of its own."""
        if self.wants(name):
            self.figures[name] = self._value(name, make)

    def measure_as(self, sweep: str, setting: str, make: Callable[[], Any]) -> None:
        """One point of a sweep."""
        self.figures.setdefault(sweep, {})[setting] = self._value(f"{sweep} {setting}", make)

    def _value(self, name: str, make: Callable[[], Any]) -> Any:
        load, started = os.getloadavg()[0], time.monotonic()
        try:
            value = make()
            if asyncio.iscoroutine(value):
                value = uvloop.run(value)
        except (OSError, TimeoutError, AssertionError, KeyError, RuntimeError, ValueError) as error:
            value = {"error": f"{type(error).__name__}: {error}"}
        if isinstance(value, dict) and name != "idle":
            value["box"] = {"load_before": round(load, 2), "took_s": round(time.monotonic() - started, 1)}
        shown = {key: item for key, item in value.items() if key not in ("curve", "box")} if isinstance(value, dict) else value
        print(f"{name}: {json.dumps(shown)}", flush=True)
        return value


def main_figures(run: Run, quick: bool) -> None:
    seconds = 3.0 if quick else 8.0
    with Cluster(3) as cluster:
        cluster.leader()
        run.measure("fdatasync", lambda: scenarios.fdatasync(cluster.directory))
        run.measure("idle", lambda: scenarios.idle(cluster))
        run.measure("submits", lambda: scenarios.single_submits(cluster, 1000, seconds))
        run.measure("submits_highest", lambda: scenarios.highest_submits(cluster, seconds / 2))
        run.measure("drain", lambda: scenarios.drain_queue(cluster))
        run.measure("propagation", lambda: scenarios.propagation(cluster, 100, seconds / 2))
        run.measure("drain_again", lambda: scenarios.drain_queue(cluster))
        run.measure("assignment", lambda: scenarios.assignment(cluster, 200, seconds / 2))
        run.measure("cycles_batched", lambda: scenarios.batched_cycles(cluster, seconds))
        run.measure("cycles_single", lambda: scenarios.single_cycles(cluster, seconds))
        run.measure("agent_loss", lambda: scenarios.agent_loss(cluster))
        run.measure("leader_kills", lambda: scenarios.leader_kills(cluster, 2 if quick else 5))


def sweeps(run: Run, quick: bool) -> None:
    seconds = 2.0 if quick else 5.0
    for delay in (0, 1, 5, 20):
        if not run.wants("delay"):
            break
        proxy = DelayProxy(delay)
        with Cluster(3, raft_address=lambda _, port, proxy=proxy: f"127.0.0.1:{proxy.front(port)}") as cluster:
            run.measure_as("delay", f"{delay} ms", lambda cluster=cluster: scenarios.single_submits(cluster, 300, seconds))
        proxy.close()
    for voters in (3, 5, 7):
        if not run.wants("voters"):
            break
        with Cluster(voters) as cluster:
            run.measure_as("voters", str(voters), lambda cluster=cluster: scenarios.single_submits(cluster, 300, seconds))
    if run.wants("live_tasks") or run.wants("hot_key"):
        with Cluster(3) as cluster:
            for live in (100, 1000, 10_000) if quick else (100, 1000, 10_000, 100_000):
                if run.wants("live_tasks"):
                    uvloop.run(scenarios.preload(cluster, live))
                    run.measure_as("live_tasks", str(live), lambda: scenarios.single_submits(cluster, 300, seconds))
            for rate in (100, 500, 1000):
                if run.wants("hot_key"):
                    run.measure_as("hot_key", f"{rate}/s", lambda rate=rate: scenarios.hot_key(cluster, rate, seconds))


def marks(figures: dict[str, Any]) -> list[dict[str, object]]:
    """The issue's figures beside what was measured, for what was run; one whose measurement failed does not pass."""
    rows = []
    for name, (source, pick, limit, sense) in MARKS.items():
        if source not in figures:
            continue
        try:
            value = pick(figures[source])
        except (KeyError, TypeError, AttributeError):
            value = None
        passed = value is not None and (value >= limit if sense == "≥" else value <= limit)
        rows.append({"figure": name, "measured": value, "sense": sense, "limit": limit, "pass": passed})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "bench" / "out")
    parser.add_argument("--only", default="", help="names of figures or sweeps, with commas between")
    parser.add_argument("--quick", action="store_true", help="shorter runs, smaller sweeps")
    given = parser.parse_args()
    run = Run(set(filter(None, given.only.split(","))))
    started = datetime.now(UTC)
    main_names = {"fdatasync", "idle", "submits", "submits_highest", "propagation", "assignment", "agent_loss", "leader_kills"}
    if not run.only or run.only & (main_names | {"cycles_batched", "cycles_single", "drain", "drain_again"}):
        main_figures(run, given.quick)
    sweeps(run, given.quick)
    result = {
        "date": started.isoformat(timespec="seconds"),
        "commit": commit(),
        "machine": machine(),
        "quick": given.quick,
        "marks": marks(run.figures),
        "figures": run.figures,
    }
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / "bench.json").write_text(json.dumps(result, indent=1))
    (given.out / "bench.html").write_text(render(result))
    for mark in result["marks"]:
        print(f"{'ok  ' if mark['pass'] else 'MISS'} {mark['figure']}: {mark['measured']} ({mark['sense']} {mark['limit']})")
    print(f"written: {given.out / 'bench.json'} and bench.html")


if __name__ == "__main__":
    main()
