"""R3: what many clients were told by real processes, while these are killed, stopped, cut off and led by others, fits one order.

A run is 20,000 operations on keys and tasks (docs/history-format.md) by 18 clients and 4 agents, each asking any node, with a
fault every second or two: SIGKILL and restart, SIGSTOP for a while, a hand-over of leadership, a node whose disk is lost and that
is replaced by an empty one, and a partition of the links or, in every third run, frames between the nodes that come late,
doubled, in another order, damaged or never. Odd seeds have three nodes, even ones five. The history is checked by `linear-check`;
a violation keeps it.

`python -m trust.suites.linear --stale` records one run whose reads go to any node's own state (`consistency=local`) as if they
were linearizable, and says whether the checker noticed: it must.
"""

import argparse
import asyncio
import os
import random
import signal
import tempfile
import threading
import time
from pathlib import Path

from bench.cluster import Cluster, Node, until

from trust import history, key_clients, netns, task_clients
from trust.asking import Client
from trust.fleet import Fleet
from trust.history import History
from trust.key_clients import Keys
from trust.links import SHAPES, partition
from trust.netns import NetnsCluster
from trust.proxy import CALM, Trouble
from trust.suite import Counts, Skip, Suite, Violation
from trust.task_clients import Tasks
from trust.troubled import TroubledCluster
from trust.verify import CONVERGE_S, converged

OPERATIONS = 20_000
# A run that is so slow is an error of the suite.
RUN_S = 600.0
REPLACE_S = 90.0
STALE = "?consistency=local"


class Clients:
    """All clients, on an event loop in a thread of its own, until the history is long enough."""

    def __init__(self, cluster: Cluster, recorded: History, run: str, seed: int, operations: int, reading: str) -> None:
        self.full = threading.Event()
        self._stop = threading.Event()
        self._cluster = cluster
        self._recorded = recorded
        self._run, self._seed, self._operations, self._reading = run, seed, operations, reading
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._main, name="trust-clients", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def finish(self) -> None:
        """Stops the clients, reads everything once more from every node, and ends. Raises what went wrong in a client."""
        self._stop.set()
        self._thread.join(120)
        if self._failure is not None:
            raise self._failure

    def _main(self) -> None:
        try:
            asyncio.run(self._work())
        except BaseException as error:  # noqa: BLE001 — handed to the thread that owns this
            self._failure = error
        self.full.set()

    async def _work(self) -> None:
        nodes = list(self._cluster.nodes.values())
        keys = Keys(self._run, self._recorded, nodes, self._seed, self._reading)
        tasks = Tasks(self._run, self._recorded, nodes, self._seed, self._reading)
        clients = keys.clients() + tasks.clients()
        while not self._stop.is_set():
            done, _ = await asyncio.wait(clients, timeout=0.05, return_when=asyncio.FIRST_EXCEPTION)
            for client in done:
                client.result()
            if self._recorded.operations >= self._operations:
                self.full.set()
        keys.over = tasks.over = True
        await asyncio.gather(*clients)
        for node in nodes:
            reader = Client(self._recorded, [node], self._seed)
            for name in keys.left[-60:]:
                await key_clients.read(reader, name, {})
            for name, task_id in list(tasks.ids.items())[-60:]:
                await task_clients.read(reader, name, task_id)
            reader.close()


class Faults:
    """Breaks and mends, one after the other, as the seed says."""

    def __init__(self, cluster: Cluster, seed: int, until_set: threading.Event) -> None:
        self.cluster = cluster
        self.choice = random.Random(seed)
        self.counts = {"kills": 0, "stops": 0, "cuts": 0, "transfers": 0, "troubles": 0, "replacements": 0}
        self._over = until_set

    def run(self) -> None:
        """Until the event is set; everything is mended when it returns."""
        kinds = [self.kill, self.stop, self.transfer, self.replace]
        kinds += [self.cut, self.cut] if isinstance(self.cluster, NetnsCluster) else []
        kinds += [self.trouble, self.trouble, self.trouble] if isinstance(self.cluster, TroubledCluster) else []
        began = time.monotonic()
        while not self._over.wait(self.choice.uniform(0.3, 1.2)):
            if time.monotonic() - began > RUN_S:
                raise TimeoutError(f"not within {RUN_S:g} s: the operations of one run")
            self.choice.choice(kinds)()

    def _node(self) -> Node:
        """Any node; the leader half of the time."""
        leader = self.cluster.leader_now() if self.choice.random() < 0.5 else None
        return leader or self.choice.choice(list(self.cluster.nodes.values()))

    def kill(self) -> None:
        node = self._node()
        node.kill()
        self._over.wait(self.choice.uniform(0.0, 1.5))
        self.cluster.restart(node)
        self.counts["kills"] += 1

    def replace(self) -> None:
        """A follower's disk is lost: it comes back empty and is taken in again by one call."""
        leader = self.cluster.leader()
        node = self.choice.choice([node for node in self.cluster.nodes.values() if node is not leader])
        node.kill()
        self.cluster.wipe(node)
        node.start()

        def replaced() -> bool:
            leader = self.cluster.leader_now()
            body = {"node_id": node.name, "replace": node.name}
            answer = leader.try_call("POST", "/cluster/members", body, timeout_s=30.0) if leader else None
            return answer is not None and answer.status in (200, 201, 202)

        until(replaced, f"{node.name} is replaced", REPLACE_S)
        self.cluster.wait_ready(node)
        self.counts["replacements"] += 1

    def stop(self) -> None:
        node = self._node()
        os.kill(node.pid, signal.SIGSTOP)
        try:
            self._over.wait(self.choice.uniform(0.2, 3.0))
        finally:
            os.kill(node.pid, signal.SIGCONT)
        self.counts["stops"] += 1

    def cut(self) -> None:
        assert isinstance(self.cluster, NetnsCluster)
        names = sorted(self.cluster.nodes)
        part = partition(self.choice.choice(SHAPES), names, self._node().name, self.choice)
        self.cluster.network.cut(part.cuts, self.choice.choice([100, 100, 30]))
        try:
            self._over.wait(self.choice.uniform(0.2, 3.0))
        finally:
            self.cluster.network.cut(())
        self.counts["cuts"] += 1

    def trouble(self) -> None:
        """Two of the troubles at once, on all links, delays among them."""
        assert isinstance(self.cluster, TroubledCluster)
        much = {"lose": 0.05, "double": 0.2, "swap": 0.2, "damage": 0.005}
        chosen = {name: much[name] for name in self.choice.sample(sorted(much), 2)}
        proxy = self.cluster.proxy
        proxy.trouble = Trouble(delay_ms=self.choice.choice([(0, 0), (0, 20), (5, 60)]), **chosen)
        try:
            self._over.wait(self.choice.uniform(0.5, 3.0))
        finally:
            proxy.trouble = CALM
        self.counts["troubles"] += 1

    def transfer(self) -> None:
        self._node().try_call("POST", "/cluster/transfer-leader", {})
        self.counts["transfers"] += 1


def make_cluster(directory: Path, seed: int) -> Cluster:
    """Three or five nodes: every third seed behind a proxy, else in namespaces where those can be made."""
    nodes = 3 if seed % 2 else 5
    if seed % 3 == 0:
        return TroubledCluster(directory, nodes, seed)
    try:
        netns.need()
    except Skip:
        return Fleet(directory, nodes)
    return NetnsCluster(directory, nodes)


def record(seed: int, workdir: Path, operations: int = OPERATIONS, reading: str = "") -> Counts:
    """One run and its check. Raises [`Violation`] if the history is not linearizable or the nodes differ at its end."""
    history.checker()
    nodes = workdir / "nodes"
    nodes.mkdir()
    with make_cluster(nodes, seed) as cluster, History(workdir / "history.jsonl") as recorded:
        clients = Clients(cluster, recorded, f"linear-{seed}", seed, operations, reading)
        clients.start()
        faults = Faults(cluster, seed, clients.full)
        try:
            faults.run()
            cluster.wait_ready()
        finally:
            clients.finish()
        try:
            until(lambda: converged(cluster.nodes.values()), "all nodes have applied the same", CONVERGE_S)
        except TimeoutError as error:
            raise Violation(str(error)) from error
        where = {NetnsCluster: "namespaces", TroubledCluster: "troubled links"}.get(type(cluster), "loopback")
        shape = f"{len(cluster.nodes)} nodes, {where}"
    history.check(recorded.path)
    return {"shape": shape, "operations": recorded.operations, "unknown": recorded.unknown, **faults.counts}


SUITE = Suite(name="linear", id="R3", title="linearizability of keys and tasks under faults", full=30, cut=1, run_one=record)


def main() -> int:
    """Records one run by hand; with --stale 0 means that the checker rejected it."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--stale", action="store_true", help="read from any node's own state, recorded as linearizable")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--operations", type=int, default=OPERATIONS)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="taskquorum-linear-", dir="/var/tmp") as directory:
        try:
            counts = record(arguments.seed, Path(directory), arguments.operations, STALE if arguments.stale else "")
        except Violation as violation:
            print(f"rejected:\n{violation}")
            return 0 if arguments.stale else 1
        print(f"linearizable: {counts}")
        return 1 if arguments.stale else 0


if __name__ == "__main__":
    raise SystemExit(main())
