"""Problem documents (RFC 9457) from whatever went wrong: decoding, validation, refusals of the machine.

Each has a stable `code`. Nothing of a request's payload is repeated in one beyond 200 characters.
"""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec

from taskquorum.errors import (
    BusyError,
    ConflictError,
    InvalidError,
    MalformedError,
    NotFoundError,
    OutcomeUnknownError,
    PreconditionFailedError,
    ProblemError,
    StaleAgentError,
    StaleEpochError,
    StorageFullError,
    UnavailableError,
)
from taskquorum.model import STATUSES
from taskquorum.node import Outcome

CONTENT_TYPE: Final = b"application/problem+json"

NOT_AVAILABLE: Final = frozenset(
    {
        "gang", "concurrency", "rate_limit", "budget", "decompose", "conflict_policy", "reads", "writes", "consumes",
        "produces", "dry_run", "bids", "lease",
    }
)  # fmt: skip
"""Members and parameters of API.md whose semantics this release does not have yet."""

_TITLES: Final = {
    400: "Bad request", 404: "Not found", 405: "Method not allowed", 408: "Request timeout", 409: "Conflict", 410: "Gone",
    412: "Precondition failed", 413: "Content too large", 415: "Unsupported media type", 422: "Not valid",
    429: "Too many requests", 431: "Header fields too large", 500: "Internal error", 501: "Not implemented",
    503: "Unavailable", 505: "HTTP version not supported", 507: "Disk nearly full",
}  # fmt: skip
_RETRY_AFTER_S: Final = 1

_UNKNOWN_FIELD = re.compile(r"Object contains unknown field `(.*?)`")
_MISSING_FIELD = re.compile(r"Object missing required field `(.*?)`")
_AT = re.compile(r" - at `\$?(key in )?(.*)`$")
_STEP = re.compile(r"\[(\d+|\.\.\.)\]|\.([^.\[\]]+)|^([^.\[\]$]+)")


def document(error: ProblemError) -> dict[str, Any]:
    """The problem document as an object."""
    body: dict[str, Any] = {
        "type": "about:blank",
        "title": _TITLES.get(error.status, "Error"),
        "status": error.status,
        "detail": error.detail,
        "code": error.code,
    }
    if error.field is not None:
        body["field"] = error.field
    body.update(error.extra)
    return body


def render(error: ProblemError) -> tuple[bytes, bytes]:
    """(body, further header lines)"""
    extra = error.headers
    if error.status in (429, 503, 507):
        extra += b"Retry-After: %d\r\n" % (error.retry_after_s or _RETRY_AFTER_S)
    return msgspec.json.encode(document(error)), extra


def refuse(status: int, code: str, detail: str) -> bytes:
    """The document for what the parser refused."""
    return msgspec.json.encode(document(ProblemError(detail, status=status, code=code)))


def pointer(path: str) -> str:
    """A JSON pointer for msgspec's path (`$.tasks[0].priority` → `/tasks/0/priority`). A step over a map's
    value, which msgspec does not name, ends it."""
    out = []
    for index, name, first in _STEP.findall(path.removeprefix("$")):
        if index == "...":
            break
        step = index or name or first
        out.append("/" + step.replace("~", "~0").replace("/", "~1"))
    return "".join(out)


def from_validation(error: msgspec.ValidationError, base: str = "") -> ProblemError:
    """422 with the field's pointer, below `base`."""
    text = str(error)
    at = _AT.search(text)
    where = base + pointer(at.group(2)) if at else base
    message = text[: at.start()] if at else text
    if found := _UNKNOWN_FIELD.search(message):
        name = found.group(1)[:200]
        field = f"{where}/{name.replace('~', '~0').replace('/', '~1')}"
        if name in NOT_AVAILABLE:
            return not_available(field)
        return InvalidError(f"unknown field {name!r}", code="unknown_field", field=field)
    if found := _MISSING_FIELD.search(message):
        name = found.group(1)
        return InvalidError(f"the field {name!r} is missing", code="missing_field", field=f"{where}/{name}")
    return InvalidError(message[:400], field=where)


def not_available(field: str) -> ProblemError:
    name = field.rsplit("/", 1)[-1]
    return InvalidError(f"{name} is not available in this release", code="not_available", field=field)


def from_decode(error: msgspec.DecodeError, base: str = "") -> ProblemError:
    """400, or 422 when the text is JSON of another shape."""
    if isinstance(error, msgspec.ValidationError):
        return from_validation(error, base)
    return MalformedError(str(error)[:400] or "not JSON", code="malformed_json", field=base or None)


def _holder(outcome: Outcome) -> dict[str, Any] | None:
    if not outcome.agent_id:
        return None
    return {"agent_id": outcome.agent_id, "epoch": outcome.epoch}


def _state(outcome: Outcome) -> dict[str, Any]:
    return {"holder": _holder(outcome), "epoch": outcome.epoch, "task_status": STATUSES[outcome.status]}


def from_outcome(outcome: Outcome, field: str | None = None) -> ProblemError:
    """The problem of a command that the machine refused (`codec::outcome::Refusal`)."""
    where = field if field is not None else (outcome.field or None)
    detail = outcome.detail
    match outcome.refusal:
        case 1:
            return NotFoundError(detail or "there is no such object", field=where)
        case 2:
            return ConflictError(detail or "the id is taken by another body", code="exists", field=where or "/id")
        case 3:
            return InvalidError(
                detail or "the idempotency key was used with another body",
                code="idempotency_mismatch",
                field=where or "Idempotency-Key",
            )
        case 4:
            return ConflictError(detail or "the task's status does not allow this", field=where, **_state(outcome))
        case 5:
            return StaleEpochError(detail or "the task is no longer held under this epoch", field=where, **_state(outcome))
        case 6:
            return StaleAgentError(
                detail or "the agent has registered again", field=where, holder={"agent_epoch": outcome.agent_epoch}
            )
        case 7:
            current = None
            if outcome.key_revision:
                current = {
                    "revision": outcome.key_revision,
                    "create_revision": outcome.create_revision,
                    "version": outcome.key_version,
                }
            return PreconditionFailedError(detail or "the key has changed", field=where, current=current)
        case 8:
            return InvalidError(detail or "a dependency is unknown", code="unknown_dependency", field=where)
        case 9:
            return InvalidError(detail or "the dependencies form a cycle", code="cycle", field=where)
        case 10:
            return InvalidError(detail or "not valid", field=where)
        case 11:
            return BusyError(detail or "too many live tasks", code="too_many_live_tasks", retry_after_s=5)
        case 12 | 17:
            return OutcomeUnknownError("the node's session ended: the command may or may not have been applied")
        case 13 | 15:
            return ConflictError(detail or "the decision was made on an old state", code="stale_read")
        case 16:
            return StorageFullError(detail or "the disk is nearly full", retry_after_s=30)
        case 18:
            return ConflictError(detail or "the quorum would be lost", code="would_lose_quorum", field=where)
        case 19:
            return ConflictError(detail or "the node is alive", code="member_alive", field=where)
        case _:
            return ProblemError(detail or "the command was refused", code="internal_invariant")


def no_leader() -> ProblemError:
    """503: this node knows no leader."""
    return UnavailableError("this node knows no leader: nothing was done", code="no_leader")
