"""What a run of the demo found out."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from taskquorum.demo.board import Board, percentile

NOTES_MAX = 100


@dataclass(slots=True)
class Findings:
    """Times are seconds of the monotonic clock, durations seconds."""

    folder: str = ""
    files: int = 0
    bytes: int = 0
    board: Board = field(default_factory=lambda: Board({}))
    agents: dict[str, dict[str, float]] = field(default_factory=dict)
    leader: str | None = None
    p99_ms: float | None = None
    started_at: float = 0.0
    ended_at: float = 0.0
    killed_agent: str = ""
    leader_recovery_s: float | None = None
    """Leader killed → first accepted write that was sent afterwards."""
    agent_recovery_s: float | None = None
    """Agent killed → the last of its tasks runs elsewhere."""
    rejoined_s: float | None = None
    lost: int = 0
    duplicates_refused: int = 0
    duplicates_accepted: int = 0
    different: list[str] | None = None
    """Names of tasks whose result differs from the one process's; None before the comparison."""
    local_s: float = 0.0
    result: Mapping[str, Any] = field(default_factory=dict)
    state_hash: Mapping[str, Any] = field(default_factory=dict)
    write_latencies: list[float] = field(default_factory=list)
    notes: list[tuple[float, str]] = field(default_factory=list)
    marks: list[tuple[float, str]] = field(default_factory=list)
    began_at: float = field(default_factory=time.monotonic)
    _change: asyncio.Event = field(default_factory=asyncio.Event)

    def note(self, text: str) -> None:
        """A line for the screen."""
        self.notes.append((time.monotonic() - self.began_at, text))
        del self.notes[:-NOTES_MAX]

    def mark(self, text: str, moment: float) -> None:
        """A point in the report's chart."""
        self.marks.append((moment - self.started_at, text))

    def changed(self) -> None:
        """Something that `until` may wait for has changed."""
        self._change.set()

    async def until(self, reached: Callable[[], Any]) -> None:
        """Waits until `reached()` is true, looking at every change."""
        while not reached():
            self._change.clear()
            await self._change.wait()

    def elapsed(self) -> float:
        """Of the job, up to now while it runs."""
        if not self.started_at:
            return 0.0
        return (self.ended_at or time.monotonic()) - self.started_at

    def write_p99_ms(self) -> float | None:
        value = percentile(self.write_latencies, 0.99)
        return None if value is None else value * 1000

    def passed(self) -> bool:
        """Nothing lost, nothing done twice, and the same result as in one process."""
        return self.different == [] and self.lost == 0 and self.duplicates_accepted == 0

    def summary(self) -> dict[str, Any]:
        """For `--json`; durations in seconds."""
        board = self.board
        return {
            "passed": self.passed(),
            "folder": self.folder,
            "files": self.files,
            "bytes": self.bytes,
            "tasks": board.total,
            "completed": board.completed,
            "seconds": round(self.elapsed(), 3),
            "leader_recovery_s": _rounded(self.leader_recovery_s),
            "agent_recovery_s": _rounded(self.agent_recovery_s),
            "tasks_moved": sum(victim.elsewhere_at is not None for victim in board.victims.values()),
            "lost": self.lost,
            "duplicates_refused": self.duplicates_refused,
            "duplicates_accepted": self.duplicates_accepted,
            "different": self.different,
            "write_p99_ms": _rounded(self.write_p99_ms()),
            "writes": len(self.write_latencies),
            "one_process_seconds": round(self.local_s, 3),
            "completed_by_agent": dict(board.by_agent),
        }

    def lines(self) -> list[str]:
        """The end of the demo, for people."""
        equal = self.different == []
        differs = f"DIFFERENT in {len(self.different or [])} tasks: {', '.join((self.different or [])[:5])}"
        moved = sum(victim.elsewhere_at is not None for victim in self.board.victims.values())
        return [
            "",
            f"{self.board.completed} tasks over {self.files} files in {self.elapsed():.1f} s",
            f"leader killed  → next accepted write    {_seconds(self.leader_recovery_s)}",
            f"agent killed   → its tasks run elsewhere {_seconds(self.agent_recovery_s)} ({moved} tasks moved)",
            f"tasks lost: {self.lost}   late completions of the dead agent: {self.duplicates_refused} refused, "
            f"{self.duplicates_accepted} accepted",
            f"compared with one process ({self.local_s:.1f} s): {'every result is equal' if equal else differs}",
        ]


def _seconds(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f} s"


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
