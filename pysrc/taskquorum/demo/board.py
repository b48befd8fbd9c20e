"""What the demo knows of its job, from the watch alone: pure, events in and answers out."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from taskquorum.task import ENDED, WatchEvent

RATE_WINDOW_S = 2.0
"""Throughput is counted over so many seconds."""
HELD = frozenset({"assigned", "running", "cancelling"})


@dataclass(slots=True)
class TaskView:
    """A task as its newest event showed it."""

    status: str
    agent: str | None = None
    epoch: int = 0
    changed_at: float = 0.0


@dataclass(slots=True)
class Victim:
    """A task that a killed agent held, and when another one had it."""

    task_id: str
    epoch: int
    elsewhere_at: float | None = None
    by: str | None = None
    finished_before: bool = False
    """Its result was on its way when the agent was killed."""


@dataclass(slots=True)
class Board:
    """Statuses of the job's tasks and the fate of a killed agent's ones."""

    ids: Mapping[str, str]
    """Task id → name, the parent included."""
    tasks: dict[str, TaskView] = field(default_factory=dict)
    completions: deque[float] = field(default_factory=deque)
    history: list[tuple[float, int]] = field(default_factory=list)
    """(time, tasks completed by then), one per completion."""
    victims: dict[str, Victim] = field(default_factory=dict)
    revoked: int = 0
    by_agent: Counter[str] = field(default_factory=Counter)
    """Tasks completed per agent."""
    _killed: str = ""

    def apply(self, event: WatchEvent, now: float) -> None:
        """Takes one event; those of other tasks are ignored."""
        if event.kind != "task" or event.id not in self.ids:
            return
        status = str(event.object.get("status") or event.type)
        agent = event.object.get("assigned_agent_id") or event.object.get("agent_id")
        epoch = int(event.object.get("epoch") or 0)
        before = self.tasks.get(event.id)
        if status == "completed" and (before is None or before.status != "completed"):
            self.completions.append(now)
            self.history.append((now, len(self.history) + 1))
            holder = agent or (before.agent if before else None)
            if holder:
                self.by_agent[str(holder)] += 1
        if event.type == "revoked":
            self.revoked += 1
        self.tasks[event.id] = TaskView(status, str(agent) if agent else None, epoch, now)
        self._follow_victim(event.id, now, before)

    def _follow_victim(self, task_id: str, now: float, before: TaskView | None) -> None:
        victim = self.victims.get(task_id)
        if victim is None or victim.elsewhere_at is not None or victim.finished_before:
            return
        task = self.tasks[task_id]
        agent = task.agent or (before.agent if before else None)
        if task.epoch <= victim.epoch:
            victim.finished_before = task.status in ENDED
        elif task.status in ("running", "completed") and agent != self._killed:
            victim.elsewhere_at, victim.by = now, agent

    def killed(self, agent: str) -> None:
        """An agent was killed: what it held now are its victims."""
        self._killed = agent
        for task_id, task in self.tasks.items():
            if task.status in HELD and task.agent == agent:
                self.victims[task_id] = Victim(task_id, task.epoch)

    def victims_left(self) -> int:
        """Victims that no other agent runs yet."""
        return sum(victim.elsewhere_at is None and not victim.finished_before for victim in self.victims.values())

    def holders(self) -> Counter[str]:
        """How many tasks each agent holds now."""
        return Counter(task.agent for task in self.tasks.values() if task.status in HELD and task.agent)

    def counts(self) -> Counter[str]:
        return Counter(task.status for task in self.tasks.values())

    @property
    def completed(self) -> int:
        return len(self.history)

    @property
    def total(self) -> int:
        return len(self.ids)

    def rate(self, now: float) -> float:
        """Tasks completed a second, lately."""
        while self.completions and self.completions[0] < now - RATE_WINDOW_S:
            self.completions.popleft()
        return len(self.completions) / RATE_WINDOW_S


def percentile(values: Iterable[float], share: float) -> float | None:
    """The value below which `share` (0..1) of them lie, by nearest rank; None of none."""
    ranked = sorted(values)
    if not ranked:
        return None
    return ranked[min(len(ranked) - 1, int(share * len(ranked)))]
