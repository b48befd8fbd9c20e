"""What a task's function sees of its attempt: `ctx`."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol

from taskquorum.errors import TaskquorumError
from taskquorum.lease import Key, Lease, Standing

LOG_LINES_MAX = 256
"""Log lines kept between two reports; the oldest are dropped and counted in a line of their own."""
LOG_TEXT_MAX = 4_096
"""Characters of one log line; the rest is cut."""


class LeaseLost(TaskquorumError):
    """The agent may no longer work on this attempt: stop, its result would be refused."""


class Cancelled(TaskquorumError):
    """Somebody asked for this task to be cancelled: stop soon and undo what needs undoing."""


class TaskFailed(TaskquorumError):
    """Raised by a task's function to fail its attempt with a code of its own."""

    def __init__(self, code: str, message: str = "", *, retryable: bool = True, retry_after_ms: int | None = None) -> None:
        """`code` ≤ 255 characters; `retryable` whether another attempt may help, `retry_after_ms` its least pause."""
        super().__init__(f"{code}: {message}" if message else code)
        self.code = code
        self.message = message
        self.attempt_retryable = retryable
        self.retry_after_ms = retry_after_ms


class Wake(Protocol):
    """Tells the agent, from any thread, that there is something to report."""

    def __call__(self) -> None: ...


@dataclass(slots=True)
class Report:
    """What has changed in an attempt since the last report was taken."""

    progress: float | None = None
    message: str | None = None
    checkpoint: Any = None
    log: list[dict[str, str]] = field(default_factory=list)
    dropped: int = 0

    def to_wire(self, key: Key) -> dict[str, Any]:
        wire: dict[str, Any] = {"task_id": key[0], "epoch": key[1]}
        if self.progress is not None:
            wire["progress"] = self.progress
        if self.message is not None:
            wire["message"] = self.message
        if self.checkpoint is not None:
            wire["checkpoint"] = self.checkpoint
        if self.dropped:
            note = {"t": _now(), "level": "warn", "text": f"{self.dropped} earlier lines were dropped"}
            wire["log"] = [note, *self.log]
        elif self.log:
            wire["log"] = self.log
        return wire


class Context:
    """One attempt at a task; usable from the function's own thread and any it starts."""

    def __init__(self, assignment: Mapping[str, Any], inputs: Mapping[str, Any], lease: Lease, wake: Wake) -> None:
        self._assignment = assignment
        self._lease = lease
        self._wake = wake
        self._lock = threading.Lock()
        self._report: Report | None = None
        self._cancelled = False
        self._lost = False
        self._stopping = threading.Event()
        self.inputs: Mapping[str, Any] = inputs
        """Results of the dependencies by their names (else ids)."""

    @property
    def key(self) -> Key:
        return self.task_id, self.fence

    @property
    def task_id(self) -> str:
        return str(self._assignment["task_id"])

    @property
    def task_type(self) -> str:
        return str(self._assignment["task_type"])

    @property
    def fence(self) -> int:
        """The epoch: pass it to whatever the task writes to, which should refuse a lower one."""
        return int(self._assignment["epoch"])

    @property
    def attempt(self) -> int:
        """1 for the first."""
        return int(self._assignment.get("attempt") or 1)

    @property
    def checkpoint(self) -> Any:
        """What an earlier attempt saved last, None for the first."""
        return self._assignment.get("checkpoint")

    @property
    def deadline(self) -> str | None:
        """RFC 3339 time at which the task fails, if it has one."""
        deadline = self._assignment.get("deadline")
        return None if deadline is None else str(deadline)

    @property
    def run_ms(self) -> int:
        """Longest time of this attempt, 0 for none."""
        return int(self._assignment.get("run_ms") or 0)

    @property
    def cancelled(self) -> bool:
        """Somebody asked for the task to be cancelled."""
        return self._cancelled

    def check(self) -> None:
        """Raises Cancelled after a cancel, LeaseLost when the agent may not work on this any more.

        Call it between steps, and before each effect on the outside world.
        """
        if self._lost or self._lease.standing(self.key, time.monotonic()) is not Standing.HELD:
            raise LeaseLost(f"task {self.task_id} epoch {self.fence} is no longer ours")
        if self._cancelled:
            raise Cancelled(f"task {self.task_id} was cancelled")

    def wait(self, timeout_s: float) -> None:
        """Waits in this thread (async functions: `await asyncio.to_thread(ctx.wait, s)`) like `time.sleep`, but raises what
        `check` raises as soon as the attempt is to stop."""
        until = time.monotonic() + timeout_s
        while True:
            self.check()
            now = time.monotonic()
            if now >= until:
                return
            # A lease ends by time alone; while it is extended this looks again as often as it would have ended.
            self._stopping.wait(min(until - now, self._lease.remaining_s(now)))

    def progress(self, fraction: float, message: str | None = None) -> None:
        """Reports 0..1; only the newest of a few is sent. Raises ValueError outside 0..1."""
        if not 0.0 <= fraction <= 1.0:
            raise ValueError("progress is between 0 and 1")
        with self._lock:
            report = self._open()
            report.progress = float(fraction)
            report.message = message if message is not None else report.message
        self._wake()

    def save_checkpoint(self, checkpoint: Any) -> None:
        """Saves JSON (≤ 1 MiB) that the next attempt finds in `checkpoint`."""
        with self._lock:
            self._open().checkpoint = checkpoint
        self._wake()

    def log(self, text: str, level: str = "info") -> None:
        """Adds a line to the attempt's log."""
        with self._lock:
            report = self._open()
            report.log.append({"t": _now(), "level": level, "text": text[:LOG_TEXT_MAX]})
            if len(report.log) > LOG_LINES_MAX:
                del report.log[0]
                report.dropped += 1
        self._wake()

    def take_report(self) -> Report | None:
        """What is to be told, once (the agent calls this)."""
        with self._lock:
            report, self._report = self._report, None
            return report

    def ask_to_stop(self) -> None:
        """A cancel came (the agent calls this)."""
        self._cancelled = True
        self._stopping.set()

    def lose(self) -> None:
        """The attempt is no longer ours, even if the same one is handed over anew (the agent calls this)."""
        self._lost = True
        self._stopping.set()

    def _open(self) -> Report:
        if self._report is None:
            self._report = Report()
        return self._report


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
