"""The policy once more, in plain Python and NumPy, slow and obvious: what the kernels must agree with."""

import json
import struct
from dataclasses import dataclass, field

import numpy as np

from taskquorum.scheduling import constants as k

OPS = {"ready": 1, "gone": 2, "taken": 3, "freed": 4}


@dataclass
class FakeBatch:
    """A `PolicyBatch` built row by row."""

    reset: bool = False
    leader: bool = True
    term: int = 1
    rows: list[dict] = field(default_factory=list)
    told_classes: list[dict] = field(default_factory=list)
    told_agents: list[dict] = field(default_factory=list)
    told_loads: list[tuple[int, tuple[int, int, int]]] = field(default_factory=list)
    told_excluded: list[tuple[str, list[str]]] = field(default_factory=list)

    def add(self, op: str, task: int, **row: int) -> None:
        self.rows.append({"op": op, "task": task, **row})

    def _column(self, name: str, kind: type) -> bytes:
        return np.array([row.get(name, 0) for row in self.rows], kind).tobytes()

    op = property(lambda self: bytes(OPS[row["op"]] for row in self.rows))
    task = property(lambda self: b"".join(task_id(row["task"]) for row in self.rows))
    epoch = property(lambda self: self._column("epoch", np.uint32))
    klass = property(lambda self: self._column("klass", np.uint32))
    agent = property(lambda self: self._column("agent", np.uint32))
    priority = property(lambda self: self._column("priority", np.int32))
    order = property(lambda self: self._column("order", np.uint64))
    position = property(lambda self: self._column("position", np.uint32))
    run_us = property(lambda self: self._column("run_us", np.uint64))
    success = property(lambda self: self._column("success", np.uint8))
    load_agent = property(lambda self: np.array([agent for agent, _ in self.told_loads], np.uint32).tobytes())
    load_bp = property(lambda self: np.array([load for _, load in self.told_loads], np.uint16).tobytes())
    classes = property(lambda self: json.dumps(self.told_classes).encode())
    agents = property(lambda self: json.dumps(self.told_agents).encode())
    excluded = property(lambda self: json.dumps(self.told_excluded).encode())


def task_id(number: int) -> bytes:
    """Ids whose hashes collide often: only four bits differ in what the table mixes first."""
    return struct.pack(">QQ", number >> 4, number & 15)


def agent_told(number: int, **fields) -> dict:
    return {
        "agent": number,
        "agent_id": f"agent-{number:03}",
        "agent_epoch": number + 10,
        "node_id": f"node-{number % 2}",
        "placeable": True,
        "resources": [["slots", 2]],
        **fields,
    }


def class_told(number: int, **fields) -> dict:
    return {"klass": number, "task_type": "t", "resources": [["slots", 1]], **fields}


class Model:
    """State as dictionaries; the same transitions and the same choice, by the text of DESIGN and SCHEDULING §3."""

    def __init__(self) -> None:
        self.classes: dict[int, dict] = {}
        self.agents: dict[int, dict] = {}
        self.tasks: dict[int, dict] = {}
        self.load: dict[int, list[int]] = {}
        self.results: dict[int, list[int]] = {}

    def apply(self, batch: FakeBatch) -> None:
        self.classes.update((told["klass"], told) for told in batch.told_classes)
        self.agents.update((told["agent"], told) for told in batch.told_agents)
        for agent, load in batch.told_loads:
            old = self.load.get(agent, [0, 0, 0])
            self.load[agent] = [
                (o * (k.SCALE - k.LOAD_ALPHA) + n * k.LOAD_ALPHA) // k.SCALE for o, n in zip(old, load, strict=True)
            ]
        for row in batch.rows:
            self._row(row)
        for hexed, agent_ids in batch.told_excluded:
            for number, task in self.tasks.items():
                if task_id(number).hex() == hexed:
                    task["excluded"] = set(agent_ids)

    def _row(self, row: dict) -> None:
        known = self.tasks.get(row["task"])
        if row["op"] == "ready":
            self.tasks[row["task"]] = {**row, "state": "queued", "agent": None}
        elif row["op"] == "gone":
            if known and known["state"] != "held":
                del self.tasks[row["task"]]
        elif row["op"] == "taken":
            if known and known["state"] == "pending" and known["agent"] == row["agent"]:
                known["state"] = "held"
            else:
                self.tasks[row["task"]] = {**row, "state": "held"}
        else:
            if row.get("run_us"):
                self.results.setdefault(row["agent"], [0, 0])[0 if row.get("success") else 1] += 1
            if known and known["state"] in ("held", "pending") and known["agent"] == row["agent"]:
                del self.tasks[row["task"]]

    def leased(self, agent: int, resource: str) -> int:
        return sum(
            dict(self.classes[task["klass"]]["resources"]).get(resource, 0)
            for task in self.tasks.values()
            if task["state"] in ("held", "pending") and task["agent"] == agent
        )

    def free(self, agent: int, resource: str) -> int:
        total = dict(self.agents[agent]["resources"]).get(resource, 0)
        free = total - self.leased(agent, resource)
        at = {"cpu_milli": 0, "memory_mb": 1}.get(resource)
        if at is not None:
            used = self.load.get(agent, [0, 0, 0])[at] - k.LOAD_FORGIVEN
            if used > 0:
                free = min(free, total * (k.SCALE - min(used, k.SCALE)) // k.SCALE)
        return free

    def match(self, klass: dict, agent: dict) -> int:
        if agent.get("task_types") and klass["task_type"] not in agent["task_types"]:
            return -1
        if any(label not in agent.get("labels", []) for label in klass.get("labels", [])):
            return -1
        levels = dict(agent.get("capabilities", []))
        needs = klass.get("capabilities", [])
        if any(levels.get(name, -1) < least for name, least, _ in needs):
            return -1
        totals = dict(agent["resources"])
        if any(amount > totals.get(name, 0) for name, amount in klass["resources"]):
            return -1
        weights = np.array([weight for *_, weight in needs], np.int64)
        declared = np.array([max(levels.get(name, 0), 0) for name, *_ in needs], np.int64)
        if weights.sum() == 0:
            return k.SCALE
        return int((weights * declared).sum() // weights.sum()) // k.QUANTUM * k.QUANTUM

    def candidates(self, task: dict) -> list[tuple[int, int, str, int, list[int]]]:
        """(−score, free share, agent id, agent, terms) of every agent that can take the task now, best first."""
        klass = self.classes[task["klass"]]
        demand = dict(klass["resources"])
        found = []
        for number, agent in self.agents.items():
            match = self.match(klass, agent)
            if match < 0 or not agent["placeable"] or agent["agent_id"] in task.get("excluded", ()):
                continue
            if any(amount > 0 and amount > self.free(number, name) for name, amount in demand.items()):
                continue
            terms = self.terms(number, demand, match)
            weights = (k.WEIGHT_MATCH, k.WEIGHT_SUCCESS, k.WEIGHT_LOAD, k.WEIGHT_FIT, k.WEIGHT_DATA, k.WEIGHT_SPREAD)
            score = int(np.dot(weights, terms))
            # Only resources that some class asks for have a column.
            asked = {name for klass in self.classes.values() for name, _ in klass["resources"]} | {"slots"}
            tight = sum(
                (total - self.leased(number, name)) * k.SCALE // total
                for name, total in agent["resources"]
                if total > 0 and name in asked
            )
            found.append((-score, tight, agent["agent_id"], number, terms))
        return sorted(found)

    def terms(self, number: int, demand: dict[str, int], match: int) -> list[int]:
        agent = self.agents[number]
        succeeded, failed = self.results.get(number, [0, 0])
        totals = dict(agent["resources"])
        slots = totals.get("slots", 0)
        busy = max(self.load.get(number, [0, 0, 0]))
        if slots:
            busy = max(busy, self.leased(number, "slots") * k.SCALE // slots)
        shares = [
            max(self.free(number, name) - amount, 0) * k.SCALE // totals[name]
            for name, amount in demand.items()
            if name != "slots" and amount > 0
        ]
        peers = [other for other, told in self.agents.items() if told["node_id"] == agent["node_id"]]
        of_node = sum(dict(self.agents[peer]["resources"]).get("slots", 0) for peer in peers if self.agents[peer]["placeable"])
        spread = k.NEUTRAL
        if of_node:
            spread = min(max(k.SCALE - sum(self.leased(peer, "slots") for peer in peers) * k.SCALE // of_node, 0), k.SCALE)
        return [
            match,
            k.SCALE * (1 + succeeded) // (2 + succeeded + failed) // k.QUANTUM * k.QUANTUM,
            (k.SCALE - min(busy, k.SCALE)) // k.QUANTUM * k.QUANTUM,
            k.NEUTRAL if not shares else k.SCALE - min(sum(shares) // len(shares), k.SCALE),
            k.NEUTRAL,
            spread,
        ]

    def decide(self, limit: int) -> list[tuple[int, int, list[int]]]:
        """(task, agent, terms) in the order served."""
        queued = sorted(
            (
                (-task.get("priority", 0), task.get("order", 0), task.get("position", 0), number)
                for number, task in self.tasks.items()
                if task["state"] == "queued"
            )
        )
        decided = []
        for *_, number in queued:
            task = self.tasks[number]
            found = self.candidates(task)
            if found and len(decided) < limit:
                *_, agent, terms = found[0]
                task.update(state="pending", agent=agent)
                decided.append((number, agent, terms))
        return decided
