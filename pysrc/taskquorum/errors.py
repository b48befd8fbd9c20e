"""The one hierarchy of expected failures.

Everything that can go wrong in use derives from `TaskquorumError`, and each class says through
`retryable` whether doing the same again later may help. Nothing here imports anything of ours,
so that agents load it in no time.
"""

from __future__ import annotations

from typing import Any, ClassVar


class TaskquorumError(Exception):
    """An expected failure; `retryable` says whether the same call may succeed later."""

    retryable: ClassVar[bool] = False


class ApiError(TaskquorumError):
    """The server refused a request with a problem document (RFC 9457)."""

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        *,
        field: str | None = None,
        retry_after: float | None = None,
        problem: dict[str, Any] | None = None,
    ) -> None:
        """`status` is the HTTP status, `code` the stable name, `retry_after` in seconds."""
        super().__init__(f"{status} {code}: {detail}" + (f" (field {field})" if field else ""))
        self.status = status
        self.code = code
        self.detail = detail
        self.field = field
        self.retry_after = retry_after
        self.problem = problem or {}


class NotFound(ApiError):
    """404: no such task, agent, key or node."""


class Conflict(ApiError):
    """409: wrong state, or the id is taken; `problem` has the current holder."""


class StaleEpoch(Conflict):
    """409 `stale_epoch`: another attempt holds the task; this result counts for nothing."""


class StaleAgent(Conflict):
    """409 `stale_agent`: the agent registered again since; register anew."""


class PreconditionFailed(ApiError):
    """412: the object has changed; `problem` says what is there."""


class Compacted(ApiError):
    """410: the revisions asked for are gone; read the present state and go on from there."""


class Throttled(ApiError):
    """429: pushed back, nothing was done; try again after `retry_after` seconds."""

    retryable: ClassVar[bool] = True


class OutcomeUnknown(ApiError):
    """503 `outcome_unknown`: it may or may not have happened; repeat only with the same idempotency key."""

    retryable: ClassVar[bool] = True


class Unavailable(TaskquorumError):
    """No server answered before the time ran out; `last` is the last failure seen."""

    retryable: ClassVar[bool] = True

    def __init__(self, message: str, last: BaseException | None = None) -> None:
        super().__init__(message)
        self.last = last


class LeaseLost(TaskquorumError):
    """The agent may no longer work on this attempt: stop, its result would be refused."""


class Cancelled(TaskquorumError):
    """Somebody asked for this task to be cancelled: stop soon and undo what needs undoing."""


class TaskFailed(TaskquorumError):
    """Raised by a task's function to fail its attempt with a code, and waits of clients for a failed task."""

    def __init__(self, code: str, message: str = "", *, retryable: bool = True, retry_after_ms: int | None = None) -> None:
        """`code` ≤ 255 characters; `retry_after_ms` is the least pause before the next attempt."""
        super().__init__(f"{code}: {message}" if message else code)
        self.code = code
        self.message = message
        self.attempt_retryable = retryable
        self.retry_after_ms = retry_after_ms


_BY_CODE: dict[str, type[ApiError]] = {
    "stale_epoch": StaleEpoch,
    "stale_agent": StaleAgent,
    "outcome_unknown": OutcomeUnknown,
}
_BY_STATUS: dict[int, type[ApiError]] = {
    404: NotFound,
    409: Conflict,
    410: Compacted,
    412: PreconditionFailed,
    429: Throttled,
}


def from_problem(status: int, problem: dict[str, Any], retry_after: float | None = None) -> ApiError:
    """The error for a problem document, or for an answer that is none (then `problem` is empty)."""
    code = str(problem.get("code") or f"http_{status}")
    kind = _BY_CODE.get(code) or _BY_STATUS.get(status) or ApiError
    detail = str(problem.get("detail") or problem.get("title") or "no further detail")
    field = problem.get("field")
    return kind(status, code, detail, field=None if field is None else str(field), retry_after=retry_after, problem=problem)
