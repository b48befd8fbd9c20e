"""Waiting for a task without polling: watch first, then look, then wait for notices or the deadline."""

from __future__ import annotations

from collections.abc import Callable

from taskquorum.api.call import Call, first_call
from taskquorum.errors import NotFoundError
from taskquorum.model import SETTLED_STATUSES, STATUSES, uuid_bytes
from taskquorum.node import guarded


def unknown_task() -> NotFoundError:
    return NotFoundError("there is no task with this id", field="id")


def reached(status: int, until: str | None) -> bool:
    """Whether a wait ends at this status."""
    name = STATUSES[status]
    return name in SETTLED_STATUSES or name == until


def wait_for_task(call: Call, task_id: str, wait_ms: int, until: str | None, then: Callable[[bool], None]) -> None:
    """Calls `then` once: with true when the task is where `until` (or settled), false when the time ran out.

    Answers 404 when the task is unknown. The client's leaving ends the wait.
    """
    raw = uuid_bytes(task_id)
    cleanup: list[Callable[[], None]] = []

    def end() -> None:
        call.request.on_gone = None
        for stop in cleanup:
            stop()

    def ended(found: bool) -> None:
        end()
        guarded(then, call.fail, found)

    once = first_call(ended)

    def on_change(status: int) -> None:
        if reached(status, until):
            once(True)

    if wait_ms > 0:
        cleanup.append(call.app.node.watch_task(raw, on_change))
    _, status, _ = call.app.node.native.task_status(raw)
    if status < 0:
        end()
        raise unknown_task()
    if reached(status, until) or wait_ms == 0:
        once(reached(status, until))
        return
    call.request.on_gone = end
    cleanup.append(call.later(wait_ms / 1000, lambda: once(False)))
