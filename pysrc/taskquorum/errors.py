"""Every expected failure as one hierarchy: the server raises them, the SDK rebuilds them from answers.

`retryable` says whether the same call may succeed later without being changed. Everything else
that is raised is a bug. Nothing here imports anything of ours, so that agents load it in no time.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar


class TaskquorumError(Exception):
    """The base of all of them."""

    retryable: ClassVar[bool] = False


class ConfigError(TaskquorumError):
    """A configuration that a node refuses to start with; the text names the option."""


class ServerUnreachableError(TaskquorumError):
    """No server could be reached, or the connection broke before an answer: the outcome is unknown."""

    retryable = True


class ProblemError(TaskquorumError):
    """A problem document (RFC 9457): `status`, a stable `code`, and what the document says beside it.

    `field` is a JSON pointer into the body (or a query parameter's or header's name). `extra` holds
    members of the document that belong to the code (`holder`, `current`, `cycle`, …).
    """

    status: int = 500
    code: str = "internal"

    def __init__(
        self,
        detail: str,
        *,
        status: int | None = None,
        code: str | None = None,
        field: str | None = None,
        retry_after_s: int | None = None,
        headers: bytes = b"",
        **extra: Any,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        if status is not None:
            self.status = status
        if code is not None:
            self.code = code
        self.field = field
        self.retry_after_s = retry_after_s
        self.headers = headers
        self.extra = extra

    def __str__(self) -> str:
        where = f" at {self.field}" if self.field else ""
        return f"{self.status} {self.code}{where}: {self.detail}"


class MalformedError(ProblemError):
    """400: not HTTP or not JSON."""

    status, code = 400, "malformed"


class NotFoundError(ProblemError):
    """404."""

    status, code = 404, "not_found"


class ConflictError(ProblemError):
    """409: the object is in another state."""

    status, code = 409, "wrong_state"


class StaleEpochError(ConflictError):
    """409: the task is no longer held under this epoch; `extra["holder"]` says by whom."""

    code = "stale_epoch"


class StaleAgentError(ConflictError):
    """409: the agent has registered again since."""

    code = "stale_agent"


class GoneError(ProblemError):
    """410: what was asked for has been compacted; `extra["oldest"]` can still be read."""

    status, code = 410, "compacted"


class PreconditionFailedError(ProblemError):
    """412: `extra["current"]` says what is there."""

    status, code = 412, "precondition_failed"


class InvalidError(ProblemError):
    """422: well-formed but not valid; `field` says where."""

    status, code = 422, "invalid"


class BusyError(ProblemError):
    """429: a limit is reached for now."""

    status, code = 429, "busy"
    retryable = True


class UnavailableError(ProblemError):
    """503: nothing was done."""

    status, code = 503, "unavailable"
    retryable = True


class OutcomeUnknownError(UnavailableError):
    """503: the command may or may not take effect; retry with the same idempotency key or task id."""

    code = "outcome_unknown"


class StorageFullError(ProblemError):
    """507: the disk is nearly full; completions still go on."""

    status, code = 507, "disk_full"
    retryable = True


_BY_CODE: dict[str, type[ProblemError]] = {
    "stale_epoch": StaleEpochError,
    "stale_agent": StaleAgentError,
    "outcome_unknown": OutcomeUnknownError,
}
_BY_STATUS: dict[int, type[ProblemError]] = {
    400: MalformedError,
    404: NotFoundError,
    409: ConflictError,
    410: GoneError,
    412: PreconditionFailedError,
    422: InvalidError,
    429: BusyError,
    503: UnavailableError,
    507: StorageFullError,
}
_OWN_MEMBERS = frozenset({"type", "title", "status", "detail", "code", "field", "headers", "retry_after_s"})


def problem_error(status: int, document: Mapping[str, Any], retry_after_s: int | None = None) -> ProblemError:
    """The exception for an answered problem document."""
    code = str(document.get("code") or "unknown")
    kind = _BY_CODE.get(code) or _BY_STATUS.get(status) or ProblemError
    field = document.get("field")
    return kind(
        str(document.get("detail") or document.get("title") or "the server gave no reason"),
        status=status,
        code=code,
        field=field if isinstance(field, str) else None,
        retry_after_s=retry_after_s,
        **{str(name): value for name, value in document.items() if name not in _OWN_MEMBERS},
    )
