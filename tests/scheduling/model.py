"""The policy once more, in plain Python and NumPy, slow and obvious: what the kernels must agree with."""

import json
import struct
from dataclasses import dataclass, field

import numpy as np

from taskquorum.scheduling import constants as k
from taskquorum.scheduling.predict import Predictor

OPS = {"ready": 1, "gone": 2, "taken": 3, "freed": 4}


@dataclass
class FakeBatch:
    """A `PolicyBatch` built row by row."""

    reset: bool = False
    leader: bool = True
    term: int = 1
    cluster_us: int = 0
    rows: list[dict] = field(default_factory=list)
    told_classes: list[dict] = field(default_factory=list)
    told_agents: list[dict] = field(default_factory=list)
    told_loads: list[tuple[int, tuple[int, int, int]]] = field(default_factory=list)
    told_excluded: list[tuple[str, list[str]]] = field(default_factory=list)
    told_graphs: list[dict] = field(default_factory=list)
    told_graphs_ended: list[int] = field(default_factory=list)

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
    ready_us = property(lambda self: self._column("ready", np.uint64))
    tenant = property(lambda self: self._column("tenant", np.uint32))
    unit = property(lambda self: self._column("unit", np.uint32))
    expected_us = property(lambda self: self._column("expected", np.uint64))
    run_us = property(lambda self: self._column("run_us", np.uint64))
    success = property(lambda self: self._column("success", np.uint8))
    load_agent = property(lambda self: np.array([agent for agent, _ in self.told_loads], np.uint32).tobytes())
    load_bp = property(lambda self: np.array([load for _, load in self.told_loads], np.uint16).tobytes())
    classes = property(lambda self: json.dumps(self.told_classes).encode())
    agents = property(lambda self: json.dumps(self.told_agents).encode())
    graphs = property(lambda self: json.dumps(self.told_graphs).encode())
    graphs_ended = property(lambda self: np.array(self.told_graphs_ended, np.uint32).tobytes())
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


def lane_of(priority: int) -> int:
    return 0 if priority >= 9 else 1 if priority >= 5 else 2 if priority >= 0 else 3


class Model:
    """State as dictionaries; the same transitions and the same choice, by the text of DESIGN and SCHEDULING §3 and §5."""

    def __init__(self) -> None:
        self.classes: dict[int, dict] = {}
        self.agents: dict[int, dict] = {}
        self.tasks: dict[int, dict] = {}
        self.load: dict[int, list[int]] = {}
        self.results: dict[int, list[int]] = {}
        self.virtual: dict[int, float] = {}
        self.passed = [0.0] * 4
        self.mean_us = 0.0
        self.finished = 0
        self.predictor = Predictor()

    def apply(self, batch: FakeBatch, now: int = 0) -> None:
        self.classes.update((told["klass"], told) for told in batch.told_classes)
        self.agents.update((told["agent"], told) for told in batch.told_agents)
        for agent, load in batch.told_loads:
            old = self.load.get(agent, [0, 0, 0])
            self.load[agent] = [
                (o * (k.SCALE - k.LOAD_ALPHA) + n * k.LOAD_ALPHA) // k.SCALE for o, n in zip(old, load, strict=True)
            ]
        ended = []
        for row in batch.rows:
            self._row(row, now, ended)
        for klass, agent, run_us in ended:
            self.predictor.learn(*(np.array([value], np.int64) for value in (klass, agent, run_us)))
        for hexed, agent_ids in batch.told_excluded:
            for number, task in self.tasks.items():
                if task_id(number).hex() == hexed:
                    task["excluded"] = set(agent_ids) & {agent["agent_id"] for agent in self.agents.values()}

    def _row(self, row: dict, now: int, ended: list) -> None:
        known = self.tasks.get(row["task"])
        if row["op"] == "ready":
            self._end(row["task"], 0)
            self._wait(row)
            self.tasks[row["task"]] = {**row, "state": "queued", "agent": None}
        elif row["op"] == "gone":
            if known and known["state"] != "held":
                self._end(row["task"], 0)
        elif row["op"] == "taken":
            if known and known["state"] == "pending" and known["agent"] == row["agent"]:
                known["state"] = "held"
            else:
                self._end(row["task"], 0)
                self.tasks[row["task"]] = {**row, "state": "held"}
                self._start(self.tasks[row["task"]], now)
        else:
            run_us = row.get("run_us", 0)
            if run_us:
                self.results.setdefault(row["agent"], [0, 0])[0 if row.get("success") else 1] += 1
                self.finished += 1
                self.mean_us += (run_us - self.mean_us) / min(self.finished, k.MEAN_SAMPLES)
                if known:
                    ended.append((known["klass"], row["agent"], run_us))
            if known and known["state"] in ("held", "pending") and known["agent"] == row["agent"]:
                self._end(row["task"], run_us)

    def _of_tenant(self, tenant: int) -> bool:
        return any(task.get("tenant", 0) == tenant for task in self.tasks.values())

    def _of_lane(self, lane: int) -> bool:
        """Whether somebody of the lane waits or holds slots."""
        return any(lane_of(task.get("priority", 0)) == lane for task in self.tasks.values())

    def _wait(self, row: dict) -> None:
        tenant, lane = row.get("tenant", 0), lane_of(row.get("priority", 0))
        if not self._of_tenant(tenant):
            others = {task.get("tenant", 0) for task in self.tasks.values()}
            least = min((self.virtual.get(other, 0.0) for other in others), default=0.0)
            self.virtual[tenant] = max(self.virtual.get(tenant, 0.0), least)
        if not self._of_lane(lane):
            others = {lane_of(task.get("priority", 0)) for task in self.tasks.values()}
            self.passed[lane] = max(self.passed[lane], min((self.passed[other] for other in others), default=0.0))

    def duration(self, task: dict) -> float:
        if task.get("expected"):
            return float(task["expected"])
        return float(self.predictor.medians_us(task["klass"] + 1)[task["klass"]])

    def share(self, klass: int) -> float:
        found = [0.0]
        for name, amount in self.classes[klass]["resources"]:
            total = sum(dict(agent["resources"]).get(name, 0) for agent in self.agents.values() if agent["placeable"])
            found.append(min(amount / total, 1.0) if total else 0.0)
        return max(found)

    def _charge(self, task: dict, used: float) -> None:
        more = used - task.get("charge", 0.0)
        self.virtual[task.get("tenant", 0)] = self.virtual.get(task.get("tenant", 0), 0.0) + more
        lane = lane_of(task.get("priority", 0))
        self.passed[lane] += more / k.LANE_WEIGHTS[lane]
        task["charge"] = used

    def _start(self, task: dict, now: int) -> None:
        duration = self.duration(task)
        task.update(since=now, ends=now + int(duration))
        self._charge(task, self.share(task["klass"]) * duration)

    def _end(self, number: int, run_us: int) -> None:
        task = self.tasks.pop(number, None)
        if task and task["state"] in ("held", "pending"):
            self._charge(task, self.share(task["klass"]) * run_us)

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

    def _value(self, task: dict, now: int) -> float:
        """Area, halved by each step of priority inside the lane, shrinking with waiting."""
        area = self.share(task["klass"]) * self.duration(task)
        priority, waited = task.get("priority", 0), float(now - task.get("ready", 0))
        if self.finished and waited > 0 and self.mean_us > 0:
            turns = waited / (k.AGEING_DURATIONS * self.mean_us)
            area = area / (1.0 + turns * turns)
        return area / k.PRIORITY_FACTOR ** (priority - (9, 5, 0, -10)[lane_of(priority)])

    def _next(self, closed: set, now: int) -> int | None:
        """The task that is served next, of those whose group is not closed."""
        waiting = [
            (number, task) for number, task in self.tasks.items() if task["state"] == "queued" and group_of(task) not in closed
        ]
        lanes = {lane_of(task.get("priority", 0)) for _, task in waiting}
        slots = sum(dict(agent["resources"]).get("slots", 0) for agent in self.agents.values() if agent["placeable"])
        critical = sum(
            dict(self.classes[task["klass"]]["resources"]).get("slots", 0)
            for task in self.tasks.values()
            if task["state"] in ("held", "pending") and lane_of(task.get("priority", 0)) == 0
        )
        if len(lanes) > 1 and critical >= k.CRITICAL_SLOTS * slots:
            lanes.discard(0)
        if not lanes:
            return None
        lane = min(lanes, key=lambda lane: (self.passed[lane], lane))
        waiting = [(number, task) for number, task in waiting if lane_of(task.get("priority", 0)) == lane]
        tenants = {task.get("tenant", 0) for _, task in waiting}
        tenant = min(tenants, key=lambda tenant: (self.virtual.get(tenant, 0.0), tenant))
        waiting = [(number, task) for number, task in waiting if task.get("tenant", 0) == tenant]
        groups: dict[tuple, tuple] = {}
        for number, task in waiting:
            place = (task.get("order", 0), task.get("position", 0), np.frombuffer(task_id(number), np.uint64).tolist())
            groups[group_of(task)] = min(groups.get(group_of(task), (place, number)), (place, number))
        heads = [(self._value(self.tasks[n], now), self.tasks[n].get("ready", 0), place[:2], n) for place, n in groups.values()]
        return min(heads)[-1]

    def _room_at(self, agent: int, demand: dict[str, int], now: int) -> tuple[int, dict[str, int]] | None:
        """When an agent is predicted to have room, and what is left then."""
        names = {name for klass in self.classes.values() for name, _ in klass["resources"]} | {"slots"}
        totals = dict(self.agents[agent]["resources"])
        left = {name: totals.get(name, 0) - self.leased(agent, name) - demand.get(name, 0) for name in names}
        held = [task for task in self.tasks.values() if task["state"] in ("held", "pending") and task["agent"] == agent]
        at = now
        ends = sorted(
            (task["ends"] if task["ends"] > now else now + 1 + int((now - task["since"]) * k.OVERDUE), place)
            for place, task in enumerate(held)
        )
        for end, place in ends:
            if end > at and min(left.values()) >= 0:
                break
            at = end
            for name, amount in self.classes[held[place]["klass"]]["resources"]:
                left[name] += amount
        return (at, left) if min(left.values()) >= 0 else None

    def decide(self, limit: int, now: int = 0) -> list[tuple[int, int, list[int]]]:
        """(task, agent, terms) in the order served."""
        decided: list[tuple[int, int, list[int]]] = []
        closed: set[tuple] = set()
        reserved: tuple[int, str, int, dict] | None = None
        if not any(agent["placeable"] and self.leased(n, "slots") < dict(agent["resources"]).get("slots", 0)
                   for n, agent in self.agents.items()):  # fmt: skip
            return []
        while len(decided) < limit and (number := self._next(closed, now)) is not None:
            task = self.tasks[number]
            demand = {name: amount for name, amount in self.classes[task["klass"]]["resources"] if amount > 0}
            found = self.candidates(task)
            ends = now + self.duration(task)
            passes = reserved is None or ends <= reserved[0] or all(
                amount <= reserved[3].get(name, 0) for name, amount in demand.items()
            )  # fmt: skip
            allowed = [one for one in found if passes or one[3] != reserved[2]]
            if allowed:
                *_, agent, terms = allowed[0]
                task.update(state="pending", agent=agent)
                self._start(task, now)
                if reserved and agent == reserved[2] and task["ends"] > reserved[0]:
                    for name, amount in demand.items():
                        reserved[3][name] -= amount
                decided.append((number, agent, terms))
            elif task.get("excluded"):
                task["state"] = "stalled"  # It holds up nobody, and no place is kept for it.
            else:
                if not found and reserved is None and (demand.get("slots", 0) > 1 or len(demand) > 1):
                    reserved = self._reserve(task, demand, now)
                closed.add(group_of(task))
        for task in self.tasks.values():
            if task["state"] == "stalled":
                task["state"] = "queued"
        return decided

    def _reserve(self, task: dict, demand: dict[str, int], now: int) -> tuple[int, str, int, dict] | None:
        can = [
            n for n, agent in self.agents.items() if agent["placeable"] and self.match(self.classes[task["klass"]], agent) >= 0
        ]
        found = [(at[0], self.agents[n]["agent_id"], n, at[1]) for n in can if (at := self._room_at(n, demand, now))]
        return min(found, key=lambda one: one[:2]) if found else None


def group_of(task: dict) -> tuple:
    """What the tasks of a heap have in common."""
    return task.get("tenant", 0), task["klass"], task.get("priority", 0), task.get("expected", 0)
