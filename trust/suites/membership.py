"""Nodes join, leave and are lost for good and replaced, under load and `kill -9`: nothing acknowledged is lost or doubled.

A run starts with three voters and makes a few changes in an order drawn from the seed: a node is added, removed, or killed,
wiped and replaced by the one command; at a moment drawn from the seed a random node is killed while the change is under way,
and started again. At the end every node is a member that is at rest, and holds each acknowledged write exactly once.
"""

import json
import random
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from bench.cluster import Node, until

from taskquorum.process import child_environment
from trust.fleet import Fleet
from trust.suite import Counts, Suite, Violation
from trust.verify import Load, verify

STEPS = 4
REMOVED_CODE = 3
# The longest a change may take with a node killed in the middle of it, on a loaded machine.
CHANGE_S = 120
SHAPES = ("replace", "add", "remove")


class Changes:
    """The changes of one run, and the load's view of who is there."""

    def __init__(self, fleet: Fleet, seed: int) -> None:
        self.fleet = fleet
        self.choice = random.Random(seed)
        self.made: Counts = {"replaced": 0, "added": 0, "removed": 0, "killed": 0}
        self.slowest_s = 0.0
        self._next = len(fleet.nodes) + 1

    def step(self, kind: str) -> None:
        """One change with a kill somewhere in it, until it is made."""
        began = time.monotonic()
        {"replace": self._replace, "add": self._add, "remove": self._remove}[kind]()
        self.slowest_s = max(self.slowest_s, time.monotonic() - began)

    def _members(self) -> list[Node]:
        return list(self.fleet.nodes.values())

    def _replace(self) -> None:
        """The node's files are gone: an empty directory takes its place by one command."""
        lost = self.choice.choice(self._members())
        lost.kill()
        self.fleet.wipe(lost)
        lost.start()
        self._change(lost, "replace", lost.name)
        self.made["replaced"] += 1

    def _add(self) -> None:
        name = f"node-{self._next}"
        self._next += 1
        node = self.fleet.join(name)
        self._change(node, "add", name, "--address", self.fleet.raft[name])
        self.made["added"] += 1

    def _remove(self) -> None:
        """Any of them, the leader too; three stay."""
        if len(self.fleet.nodes) <= 3:
            self._add()
        leaving = self.choice.choice(self._members())
        self._change(leaving, "remove", leaving.name)
        code = self.fleet.wait_dead(leaving)
        if code != REMOVED_CODE:
            raise Violation(f"the removed {leaving.name} ended with {code}, not {REMOVED_CODE}:\n{leaving.log_tail()}")
        self.fleet.forget(leaving)
        self.made["removed"] += 1

    def _change(self, subject: Node, *arguments: str) -> None:
        """Runs the command while a node is killed and started again; the command is asked again until it says `done`."""
        victim = self.choice.choice([node for node in self._members() if node is not subject])
        delay_s = self.choice.uniform(0.0, 1.5)
        killer = threading.Timer(delay_s, self._kill_and_restart, (victim,))
        # A lost node and a killed one of three together are no minority: then the kill comes after the change.
        together = arguments[0] == "replace" and len(self.fleet.nodes) < 5
        if not together:
            killer.start()
        deadline = time.monotonic() + CHANGE_S
        answer: dict[str, Any] = {}
        while not answer.get("done"):
            if time.monotonic() > deadline:
                raise Violation(f"not within {CHANGE_S} s: cluster {' '.join(arguments)}; the last answer was {answer}")
            answer = self._ask(*arguments)
        if together:
            killer.start()
        killer.join()
        nodes = [node for node in self._members() if node is not subject or arguments[0] != "remove"]
        until(lambda: all(node.ready() for node in nodes), "all members are ready", CHANGE_S)
        self.made["killed"] += 1

    def _ask(self, *arguments: str) -> dict[str, Any]:
        servers = ",".join(node.url for node in self._members())
        line = [sys.executable, "-m", "taskquorum", "cluster", *arguments, "--json", "--wait", "20", "--server", servers]
        ended = subprocess.run(line, capture_output=True, text=True, timeout=120, env=child_environment(), check=False)
        if ended.returncode == 0 or ended.stdout.strip():
            shown: dict[str, Any] = json.loads(ended.stdout)
            return shown
        gone = arguments[0] == "remove" and "404" in ended.stderr
        return {"done": gone, "progress": ended.stderr[-300:]}

    def _kill_and_restart(self, victim: Node) -> None:
        victim.kill()
        victim.start()


def run_one(seed: int, workdir: Path) -> Counts:
    """One run: `STEPS` changes, the first of a shape that goes round with the seeds."""
    run = f"membership-{seed}"
    shape = SHAPES[seed % len(SHAPES)]
    with Fleet(workdir) as fleet:
        changes = Changes(fleet, seed)
        kinds = [shape] + [changes.choice.choice(SHAPES) for _ in range(STEPS - 1)]
        with Load(fleet, run, seed, clients=4, rate=100) as load:
            load.wait_for(30)
            for kind in kinds:
                changes.step(kind)
                load.wait_for(20, 60)
        counts = verify(fleet, load.ledger, run)
        _at_rest(fleet)
    return counts | changes.made | {"shape": shape, "slowest_s_max": round(changes.slowest_s, 1)}


def _at_rest(fleet: Fleet) -> None:
    """The cluster's members are the nodes that run, all settled, and every one of them votes."""
    found = fleet.leader().call("GET", "/cluster/status").body
    names = {node["node_id"] for node in found["nodes"]}
    membership = found["membership"]
    if names != set(fleet.nodes) or set(membership["voters"]) != names or membership["joint"] or membership["changes"]:
        raise Violation(f"the cluster is not what was asked for: {sorted(fleet.nodes)} run, and {json.dumps(membership)}")


SUITE = Suite(name="membership", id="R9", title="nodes join, leave and are replaced", full=100, cut=1, run_one=run_one)
