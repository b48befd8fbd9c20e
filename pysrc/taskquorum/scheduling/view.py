"""The leader's view of queue and agents as arrays, kept up to date from the deltas of a node.

What always holds: nothing is done per task in Python (a batch costs a few array calls, whatever its size); what is kept per
class and per agent as Python objects is small and changes rarely. Only dimensions, resources, labels and task types that
some class asks for have a column; a class that asks for a new one fills the column from what the agents declared.
"""

from typing import Any

import msgspec
import numpy as np
from numpy.typing import DTypeLike, NDArray

from taskquorum.scheduling import columns as col
from taskquorum.scheduling import constants as k
from taskquorum.scheduling import group_kernels, queue_kernels
from taskquorum.scheduling.columns import (
    Agents,
    Classes,
    Deltas,
    Groups,
    Match,
    Queue,
    Shares,
    Tasks,
    UnitCosts,
    grown,
)
from taskquorum.scheduling.feed import AgentTold, Batch, ClassTold, GraphTold, column, expected_us
from taskquorum.scheduling.predict import Predictor
from taskquorum.scheduling.units import Units, by_number, position_of

_SLOTS = "slots"
_MEASURED = {"cpu_milli": 0, "memory_mb": 1}
_CLASSES = msgspec.json.Decoder(list[ClassTold])
_AGENTS = msgspec.json.Decoder(list[AgentTold])
_GRAPHS = msgspec.json.Decoder(list[GraphTold])
_EXCLUDED = msgspec.json.Decoder(list[tuple[str, list[str]]])


def _zeros(kind: DTypeLike, *shape: int) -> NDArray[Any]:
    return np.zeros(shape, kind)


def _filled(kind: DTypeLike, fill: int, *shape: int) -> NDArray[Any]:
    return np.full(shape, fill, kind)


_TASK_COLUMNS: dict[str, tuple[DTypeLike, int]] = {
    "hi": (np.uint64, 0), "lo": (np.uint64, 0), "klass": (np.int32, 0), "priority": (np.int32, 0), "tenant": (np.int32, 0),
    "unit": (np.int32, -1), "group": (np.int32, -1), "first": (np.int64, 0), "second": (np.int64, 0), "ready": (np.int64, 0),
    "expected": (np.int64, 0), "epoch": (np.int64, 0), "state": (np.uint8, 0), "agent": (np.int32, -1), "since": (np.int64, 0),
    "ends": (np.int64, 0), "charge": (np.float64, 0), "excluded": (np.int32, -1), "child": (np.int32, -1),
    "sibling": (np.int32, -1), "after": (np.int32, -1), "previous": (np.int32, -1),
}  # fmt: skip
"""Type and fill value of each column of `Tasks`."""


def _groups(rows: int) -> Groups:
    """No groups, with room for `rows`."""
    i32 = np.int32
    return Groups(
        table=_filled(i32, -1, 2 * rows), unit=_zeros(i32, rows), tenant=_zeros(i32, rows), klass=_zeros(i32, rows),
        priority=_zeros(i32, rows), expected=_zeros(np.int64, rows), root=_filled(i32, -1, rows),
        active=_zeros(i32, rows), active_at=_filled(i32, -1, rows),
    )  # fmt: skip


class View:
    """Everything the policy decides on. One owner: the policy thread.

    `tasks`, `queue`, `groups`, `classes`, `agents`, `match`, `shares` and `units` are those of `columns`; they are replaced
    when they grow. `order` and `plans` (whether small graphs are planned) are for baselines.
    """

    def __init__(self, order: int = col.BY_AREA, plans: bool = True) -> None:
        self.predictor = Predictor()
        self.order = order
        self.plans = plans
        self.clear()

    def clear(self) -> None:
        """Forgets queue, classes and agents (a new leadership tells them all again); learned durations go too, for class
        and agent numbers start anew."""
        rows, classes, agents = 256, 16, 16
        i32, i64, u64, u8 = np.int32, np.int64, np.uint64, np.uint8
        self.tasks = Tasks(**{name: _filled(kind, fill, rows) for name, (kind, fill) in _TASK_COLUMNS.items()})
        self.queue = Queue(
            table=_filled(i32, -1, 2 * rows), blocked=_filled(i64, -1, classes), stalled=_zeros(i32, rows),
            pool=_filled(i32, -1, 64), cell=_zeros(i64, col.CELLS),
        )  # fmt: skip
        self.groups = _groups(rows)
        self.queue.cell[col.FREE_HEAD] = -1
        self.queue.cell[col.GROUPS_FREE] = -1
        self.queue.cell[col.CAPACITY] = 1
        self.classes = Classes(
            need_from=_zeros(i32, classes), need_count=_zeros(i32, classes), need_dimension=_zeros(i32, 64),
            need_min=_zeros(i32, 64), need_weight=_zeros(i64, 64), demand=_zeros(i64, classes, 4),
            labels=_zeros(u64, classes, 4), kind=_zeros(i32, classes), match_row=_filled(i32, -1, classes),
        )  # fmt: skip
        self.agents = Agents(
            capability=_filled(i32, -1, agents, 4), total=_zeros(i64, agents, 4), leased=_zeros(i64, agents, 4),
            labels=_zeros(u64, agents, 4), kinds=_zeros(u64, agents, 4), placeable=_zeros(u8, agents), epoch=_zeros(i64, agents),
            load=_zeros(i32, agents, 3), node=_zeros(i32, agents), rank=_zeros(i32, agents),
            tasks=_filled(i32, -1, agents), succeeded=_zeros(i64, agents),
            failed=_zeros(i64, agents), node_total=_zeros(i64, 4), node_leased=_zeros(i64, 4), measured=_filled(i32, -1, 4),
            version=_zeros(i64, 1),
        )  # fmt: skip
        self.match = Match(
            _filled(np.int16, -1, k.MATCH_ROWS, agents), _filled(i64, -1, k.MATCH_ROWS), _filled(i32, -1, k.MATCH_ROWS)
        )
        self.shares = Shares(
            weight=np.ones(1), virtual=np.zeros(1), queued=_zeros(i64, 1), leased=_zeros(i64, 1), lane_pass=np.zeros(col.LANES),
            lane_queued=_zeros(i64, col.LANES), lane_slots=_zeros(i64, col.LANES),
            median=np.full(classes, float(k.DURATION_US)), share=np.zeros(classes), total=_zeros(i64, 4),
            mean=np.zeros(col.MEANS),
        )  # fmt: skip
        self.graphs = Units(self.plans)
        self.units = UnitCosts(area=np.zeros(4), since=_zeros(i64, 4))
        self.agent_count = 0
        self.class_count = 0
        self._needs = 0
        self._pool = 0
        self._told: list[AgentTold | None] = []
        self._agent_at: dict[str, int] = {}
        self._dimensions: dict[str, int] = {}
        self._resources: dict[str, int] = {_SLOTS: 0}
        self._labels: dict[tuple[str, str], int] = {}
        self._kinds: dict[str, int] = {}
        self._nodes: dict[str, int] = {}
        self.predictor = Predictor()

    # ---- what the runner asks -------------------------------------------------------------------------------------

    @property
    def queued(self) -> int:
        return int(self.queue.cell[col.QUEUED_COUNT])

    @property
    def pending(self) -> int:
        return int(self.queue.cell[col.PENDING_COUNT])

    @property
    def held(self) -> int:
        return int(self.queue.cell[col.HELD_COUNT])

    def apply(self, batch: Batch, now_us: int) -> None:
        """Brings the view up to a batch of deltas at cluster time `now_us`. Raises msgspec.DecodeError or ValueError when the
        batch is not one."""
        if batch.reset:
            self.clear()
        self._apply_classes(batch.classes)
        self._apply_agents(batch.agents)
        self._apply_loads(batch)
        for number in column(batch.graphs_ended, np.uint32).tolist() if batch.graphs_ended else ():
            self.graphs.forget(number)
        op = column(batch.op, np.uint8)
        if op.size == 0:
            return
        agent = column(batch.agent, np.uint32)
        klass = column(batch.klass, np.uint32).astype(np.int64)
        run_us = column(batch.run_us, np.uint64)
        tenant = column(batch.tenant, np.uint32)
        unit = column(batch.unit, np.uint32).astype(np.int64)
        taken_or_freed = op >= col.OP_TAKEN
        if taken_or_freed.any():
            self._room_for_agents(int(agent[taken_or_freed].max()) + 1)
        self._room_for_classes(int(klass.max()) + 1)
        self._room_for_tasks(op.size)
        self._room_for_tenants(int(tenant.max()) + 1)
        self._room_for_units(int(unit.max()) + 1)
        first, second = self._keys(op, unit, batch)
        unit -= 1
        deltas = Deltas(
            op=op, ids=column(batch.task, np.uint64).reshape(-1, 2), epoch=column(batch.epoch, np.uint32), klass=klass,
            agent=agent, priority=column(batch.priority, np.int32), tenant=tenant, unit=unit, first=first, second=second,
            ready=column(batch.ready_us, np.uint64), expected=expected_us(batch, op.size),
            success=column(batch.success, np.uint8), run_us=run_us,
        )  # fmt: skip
        queue_kernels.apply_deltas(
            self.tasks, self.queue, self.groups, self.classes, self.agents, self.shares, self.units, deltas, now_us
        )
        ended = np.flatnonzero((run_us > 0) & (klass >= 0))
        if ended.size:
            self.predictor.learn(klass[ended], agent[ended].astype(np.int64), run_us[ended].astype(np.int64))
            self._predict()
        if self.graphs:
            self._follow_units(deltas)
        self._apply_excluded(batch.excluded)

    def _keys(self, op: col.I8, unit: col.I64, batch: Batch) -> tuple[col.I64, col.I64]:
        """The order of each delta's task inside its group: by submit, in a graph by the graph."""
        first = column(batch.order, np.uint64).astype(np.int64)
        second = column(batch.position, np.uint32).astype(np.int64)
        if self.order == col.BY_CHANCE:
            ids = column(batch.task, np.uint64).reshape(-1, 2)
            return group_kernels.shuffled(ids), second
        if self.order != col.BY_AREA:
            return first, second
        for told in _GRAPHS.decode(batch.graphs) if batch.graphs else ():
            self._room_for_units(told.unit)
            self.graphs.tell(told, self.shares.median, self.shares.share, int(self.shares.total[0]))
            self.units.area[told.unit - 1] = self.graphs.area(told.unit)
        entering = np.flatnonzero(unit)
        for number, rows in by_number(unit[entering], entering):
            first[rows], second[rows] = self.graphs.keys(number, second[rows])
        return first, second

    def _follow_units(self, deltas: Deltas) -> None:
        """Tells the graphs what ended, and orders those anew whose predictions moved."""
        ended = np.flatnonzero(
            (deltas.unit >= 0) & ((deltas.op == col.OP_GONE) | ((deltas.op == col.OP_FREED) & (deltas.success != 0)))
        )
        for unit, rows in by_number(deltas.unit[ended], ended):
            self.graphs.finished(unit + 1, position_of(deltas.second[rows]), self.shares.share)
            self.units.area[unit] = self.graphs.area(unit + 1)
        moved = self.graphs.moved(self.shares.median, self.shares.share)
        if not moved:
            return
        units = np.array(moved, np.int64) - 1
        self.units.area[units] = [self.graphs.area(number) for number in moved]
        rows = np.flatnonzero((self.tasks.state == col.QUEUED) & np.isin(self.tasks.unit, units))
        first = np.zeros(rows.size, np.int64)
        place = np.arange(rows.size)
        for unit, places in by_number(self.tasks.unit[rows].astype(np.int64), place):
            first[places], _ = self.graphs.keys(unit + 1, position_of(self.tasks.second[rows[places]]))
        group_kernels.reorder(self.tasks, self.queue, self.groups, rows.astype(np.int32), first)

    def _predict(self) -> None:
        """Writes what each class is predicted to take now."""
        self.shares.median[: self.class_count] = self.predictor.medians_us(self.class_count)

    def task_id(self, rows: NDArray[np.int32]) -> bytes:
        """The ids of rows, 16 bytes each."""
        both = np.empty((rows.size, 2), np.uint64)
        both[:, 0] = self.tasks.hi[rows]
        both[:, 1] = self.tasks.lo[rows]
        return both.tobytes()

    # ---- classes --------------------------------------------------------------------------------------------------

    def _apply_classes(self, told: bytes) -> None:
        items = _CLASSES.decode(told) if told else ()
        for item in items:
            self._room_for_classes(item.klass + 1)
            self._room_for_needs(len(item.capabilities))
            c = self.classes
            c.kind[item.klass] = self._kind(item.task_type)
            c.need_from[item.klass] = self._needs
            c.need_count[item.klass] = len(item.capabilities)
            for name, least, weight in item.capabilities:
                dimension = self._dimension(name)
                c.need_dimension[self._needs] = dimension
                c.need_min[self._needs] = least
                c.need_weight[self._needs] = weight
                self._needs += 1
            for name, amount in item.resources:
                at = self._resource(name)
                self.classes.demand[item.klass, at] = amount
            for label in item.labels:
                bit = self._label(label)
                self.classes.labels[item.klass, bit // 64] |= np.uint64(1 << (bit % 64))
            self.classes.match_row[item.klass] = -1
        if items:
            self._share_out()
            self._predict()

    def _room_for_classes(self, count: int) -> None:
        c, q = self.classes, self.queue
        if count > c.kind.size:
            self.classes = c._replace(
                need_from=grown(c.need_from, (count,), 0), need_count=grown(c.need_count, (count,), 0),
                demand=grown(c.demand, (count, 0), 0), labels=grown(c.labels, (count, 0), 0), kind=grown(c.kind, (count,), 0),
                match_row=grown(c.match_row, (count,), -1),
            )  # fmt: skip
            self.queue = q._replace(blocked=grown(q.blocked, (count,), -1))
            s = self.shares
            self.shares = s._replace(median=grown(s.median, (count,), k.DURATION_US), share=grown(s.share, (count,), 0))
        self.class_count = max(self.class_count, count)

    def _room_for_needs(self, more: int) -> None:
        c = self.classes
        count = self._needs + more
        if count > c.need_min.size:
            self.classes = c._replace(
                need_dimension=grown(c.need_dimension, (count,), 0), need_min=grown(c.need_min, (count,), 0),
                need_weight=grown(c.need_weight, (count,), 0),
            )  # fmt: skip

    # ---- columns that some class asks for ----------------------------------------------------------------------------

    def _dimension(self, name: str) -> int:
        known = name in self._dimensions
        at = self._dimensions.setdefault(name, len(self._dimensions))
        if not known:
            self.agents = self.agents._replace(capability=grown(self.agents.capability, (0, at + 1), -1))
            self._fill_all()
        return at

    def _resource(self, name: str) -> int:
        known = name in self._resources
        at = self._resources.setdefault(name, len(self._resources))
        if not known:
            a = self.agents
            self.agents = a._replace(
                total=grown(a.total, (0, at + 1), 0),
                leased=grown(a.leased, (0, at + 1), 0),
                measured=grown(a.measured, (at + 1,), -1),
            )
            width = self.agents.total.shape[1]
            self.classes = self.classes._replace(demand=grown(self.classes.demand, (0, width), 0))
            self.shares = self.shares._replace(total=grown(self.shares.total, (width,), 0))
            self.agents.measured[at] = _MEASURED.get(name, -1)
            self._fill_all()
        return at

    def _label(self, label: tuple[str, str]) -> int:
        known = label in self._labels
        bit = self._labels.setdefault(label, len(self._labels))
        if not known:
            words = bit // 64 + 1
            self.agents = self.agents._replace(labels=grown(self.agents.labels, (0, words), 0))
            self.classes = self.classes._replace(labels=grown(self.classes.labels, (0, words), 0))
            self._fill_all()
        return bit

    def _kind(self, task_type: str) -> int:
        known = task_type in self._kinds
        bit = self._kinds.setdefault(task_type, len(self._kinds))
        if not known:
            self.agents = self.agents._replace(kinds=grown(self.agents.kinds, (0, bit // 64 + 1), 0))
            self._fill_all()
        return bit

    # ---- agents ---------------------------------------------------------------------------------------------------

    def _apply_agents(self, told: bytes) -> None:
        items = _AGENTS.decode(told) if told else ()
        for item in items:
            self._room_for_agents(item.agent + 1)
            self._told[item.agent] = item
            self._agent_at[item.agent_id] = item.agent
            a = self.agents
            a.epoch[item.agent] = item.agent_epoch
            a.placeable[item.agent] = item.placeable
            self._move_to_node(item.agent, item.node_id)
            self._fill(item.agent, item)
        if items:
            for rank, agent_id in enumerate(sorted(self._agent_at)):
                self.agents.rank[self._agent_at[agent_id]] = rank
            self._count_nodes()
            self._capacity_changed()

    def _room_for_agents(self, count: int) -> None:
        a = self.agents
        if count > a.epoch.size:
            rows, one = (count, 0), (count,)
            self.agents = a = a._replace(
                capability=grown(a.capability, rows, -1), total=grown(a.total, rows, 0), leased=grown(a.leased, rows, 0),
                labels=grown(a.labels, rows, 0), kinds=grown(a.kinds, rows, 0), placeable=grown(a.placeable, one, 0),
                epoch=grown(a.epoch, one, 0), load=grown(a.load, rows, 0), node=grown(a.node, one, 0), rank=grown(a.rank, one, 0),
                tasks=grown(a.tasks, one, -1), succeeded=grown(a.succeeded, one, 0), failed=grown(a.failed, one, 0),
            )  # fmt: skip
            self.match = self.match._replace(value=grown(self.match.value, (0, a.epoch.size), -1))
        while len(self._told) < count:
            self._told.append(None)
        self.agent_count = max(self.agent_count, count)

    def _fill(self, row: int, told: AgentTold) -> None:
        """Writes what an agent declared into the columns that exist now."""
        a = self.agents
        a.capability[row] = -1
        a.total[row] = 0
        a.labels[row] = 0
        a.kinds[row] = 0 if told.task_types else np.iinfo(np.uint64).max
        for name, level in told.capabilities:
            if (at := self._dimensions.get(name)) is not None:
                a.capability[row, at] = level
        for name, amount in told.resources:
            if (at := self._resources.get(name)) is not None:
                a.total[row, at] = amount
        for label in told.labels:
            if (bit := self._labels.get(label)) is not None:
                a.labels[row, bit // 64] |= np.uint64(1 << (bit % 64))
        for task_type in told.task_types:
            if (bit := self._kinds.get(task_type)) is not None:
                a.kinds[row, bit // 64] |= np.uint64(1 << (bit % 64))

    def _fill_all(self) -> None:
        for row, told in enumerate(self._told):
            if told is not None:
                self._fill(row, told)
        self.agents.version[0] += 1

    def _move_to_node(self, row: int, node_id: str) -> None:
        a = self.agents
        node = self._nodes.setdefault(node_id, len(self._nodes))
        if node >= a.node_total.size:
            self.agents = a = a._replace(
                node_total=grown(a.node_total, (node + 1,), 0), node_leased=grown(a.node_leased, (node + 1,), 0)
            )
        if a.node[row] != node:
            a.node_leased[a.node[row]] -= a.leased[row, 0]
            a.node_leased[node] += a.leased[row, 0]
            a.node[row] = node

    def _count_nodes(self) -> None:
        a = self.agents
        a.node_total[:] = 0
        np.add.at(a.node_total, a.node[: self.agent_count], np.where(a.placeable != 0, a.total[:, 0], 0)[: self.agent_count])

    def _share_out(self) -> None:
        """What each class takes of the whole: the largest of its shares over the resources it asks for."""
        total, demand = self.shares.total, self.classes.demand[: self.class_count]
        total[:] = (self.agents.total * (self.agents.placeable != 0)[:, None]).sum(axis=0)
        known = np.minimum(demand / np.maximum(total, 1), 1.0)
        self.shares.share[: self.class_count] = np.where(total > 0, known, 0.0).max(axis=1, initial=0.0)

    def _capacity_changed(self) -> None:
        self._share_out()
        self.agents.version[0] += 1
        self.queue.cell[col.CAPACITY] += 1

    def _apply_loads(self, batch: Batch) -> None:
        agent = column(batch.load_agent, np.uint32).astype(np.int64)
        if agent.size == 0:
            return
        self._room_for_agents(int(agent.max()) + 1)
        load = self.agents.load
        told = column(batch.load_bp, np.uint16).reshape(-1, 3).astype(np.int64)
        load[agent] = (load[agent] * (k.SCALE - k.LOAD_ALPHA) + told * k.LOAD_ALPHA) // k.SCALE
        if (self.agents.measured >= 0).any():
            self.queue.cell[col.CAPACITY] += 1

    # ---- tasks ----------------------------------------------------------------------------------------------------

    def _room_for_tasks(self, more: int) -> None:
        t, q = self.tasks, self.queue
        if q.cell[col.DEAD_COUNT] > q.cell[col.QUEUED_COUNT] + 1024:
            queue_kernels.rebuild(t, q, self.groups)
        # A delta takes at most one row more than it frees.
        count = int(q.cell[col.USED]) + more
        if count <= t.state.size:
            return
        larger = {name: grown(array, (count,), _TASK_COLUMNS[name][1]) for name, array in t._asdict().items()}
        self.tasks = Tasks(**larger)
        rows = self.tasks.state.size
        self.queue = q._replace(table=np.full(2 * rows, -1, np.int32), stalled=grown(q.stalled, (rows,), 0))
        # Never more groups than queued tasks.
        self.groups = _groups(rows)
        queue_kernels.rebuild(self.tasks, self.queue, self.groups)

    def _room_for_tenants(self, count: int) -> None:
        s = self.shares
        if count > s.weight.size:
            one = (count,)
            self.shares = s._replace(
                weight=grown(s.weight, one, 1), virtual=grown(s.virtual, one, 0), queued=grown(s.queued, one, 0),
                leased=grown(s.leased, one, 0),
            )  # fmt: skip

    def _room_for_units(self, count: int) -> None:
        u = self.units
        if count > u.area.size:
            self.units = UnitCosts(area=grown(u.area, (count,), 0), since=grown(u.since, (count,), 0))

    def _apply_excluded(self, told: bytes) -> None:
        for task_id, agent_ids in _EXCLUDED.decode(told) if told else ():
            hi, lo = np.frombuffer(bytes.fromhex(task_id.replace("-", "")), np.uint64)
            row = queue_kernels.find(self.tasks, self.queue.table, hi, lo)
            agents = [self._agent_at[agent_id] for agent_id in agent_ids if agent_id in self._agent_at]
            if row < 0 or not agents:
                continue
            if self._pool + len(agents) + 1 > self.queue.pool.size:
                self._compact_pool(len(agents) + 1)
            pool = self.queue.pool
            pool[self._pool : self._pool + len(agents)] = agents
            pool[self._pool + len(agents)] = -1
            self.tasks.excluded[row] = self._pool
            self._pool += len(agents) + 1

    def _compact_pool(self, more: int) -> None:
        """Keeps the lists that live rows still name, and makes room for `more` cells."""
        t, old = self.tasks, self.queue.pool
        live = np.flatnonzero((t.excluded >= 0) & (t.state != col.FREE) & (t.state != col.DEAD))
        kept: list[int] = []
        starts: list[int] = []
        for row in live:
            start = int(t.excluded[row])
            end = start + int(np.argmax(old[start:] < 0)) + 1
            starts.append(len(kept))
            kept.extend(old[start:end].tolist())
        pool = np.full(max(64, 2 * (len(kept) + more)), -1, np.int32)
        pool[: len(kept)] = kept
        t.excluded[:] = -1
        t.excluded[live] = starts
        self._pool = len(kept)
        self.queue = self.queue._replace(pool=pool)
