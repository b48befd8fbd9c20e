"""From a view to decisions: no clock, thread or node in here, so that a replay with the same batches decides the same."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from taskquorum.scheduling import columns as col
from taskquorum.scheduling import constants as k
from taskquorum.scheduling import decide_kernels, queue_kernels
from taskquorum.scheduling.feed import Batch
from taskquorum.scheduling.view import View


@dataclass(frozen=True, slots=True)
class Decisions:
    """One slice, a column each, in the order in which the tasks are served."""

    rows: NDArray[np.int32]
    """Task rows of the view, valid until the next `apply`."""
    task_ids: bytes
    epochs: bytes
    agents: bytes
    agent_epochs: bytes
    terms: bytes
    full: bool
    """Whether the slice ended at its bound: there may be more to decide."""

    def __len__(self) -> int:
        return int(self.rows.size)


class Policy:
    """The placement policy of one leadership. One owner: the policy thread. The arguments are for baselines: another `order`
    than BY_AREA, and graphs by their ranks alone (`plans` false)."""

    def __init__(self, order: int = col.BY_AREA, plans: bool = True) -> None:
        self.view = View(order, plans)
        self._order = order
        self._out_task = np.zeros(k.SLICE_TASKS, np.int32)
        self._out_agent = np.zeros(k.SLICE_TASKS, np.int32)
        self._out_terms = np.zeros((k.SLICE_TASKS, k.TERMS), np.int16)
        self._room()

    def _room(self) -> None:
        """Room to work in for every group and flow there can be."""
        groups = self.view.groups.root.size
        self._values = np.zeros(groups)
        self._heaps = np.zeros(groups, np.int32)
        self._flows = np.zeros((col.LANES * self.view.shares.weight.size, 4), np.int32)

    def apply(self, batch: Batch, now_us: int) -> None:
        """Brings the view up to a batch at cluster time `now_us`; see `View.apply`."""
        view = self.view
        view.apply(batch, now_us)
        if self._values.size != view.groups.root.size or len(self._flows) != col.LANES * view.shares.weight.size:
            self._room()

    def decide(self, now_us: int) -> Decisions | None:
        """Places up to one slice on free capacity and counts it as leased; None when nothing can be placed.

        `now_us` is cluster time in microseconds: what has waited, and what nobody answered (`expire`), is counted from it.
        """
        view = self.view
        if view.queue.cell[col.STALLED_COUNT] > 0:
            queue_kernels.unstall(view.tasks, view.queue, view.groups)
        count = decide_kernels.decide(
            view.tasks, view.queue, view.groups, view.classes, view.agents, view.match, view.shares, view.units,
            view.agent_count, now_us, k.SLICE_WORK, self._order, self._values, self._heaps, self._flows,
            self._out_task, self._out_agent, self._out_terms,
        )  # fmt: skip
        if count == 0:
            return None
        rows = self._out_task[:count].copy()
        agents = self._out_agent[:count]
        return Decisions(
            rows=rows,
            task_ids=view.task_id(rows),
            epochs=view.tasks.epoch[rows].astype(np.uint32).tobytes(),
            agents=agents.astype(np.uint32).tobytes(),
            agent_epochs=view.agents.epoch[agents].astype(np.uint64).tobytes(),
            terms=self._out_terms[:count].tobytes(),
            full=count == k.SLICE_TASKS,
        )

    def take_back(self, decisions: Decisions) -> None:
        """The slice was not proposed: its tasks go back into the queue."""
        view = self.view
        queue_kernels.requeue(view.tasks, view.queue, view.groups, view.classes, view.agents, view.shares, decisions.rows)

    def expire(self, now_us: int) -> int:
        """Takes back decisions that were neither confirmed nor refused for PENDING_US; how many."""
        view = self.view
        if view.pending == 0:
            return 0
        return int(
            queue_kernels.expire(
                view.tasks, view.queue, view.groups, view.classes, view.agents, view.shares, now_us - k.PENDING_US
            )
        )
