"""The cluster and this node: status, drain, leadership, snapshot, the Raft log, health, counters.

What only shows this node's view never waits for a quorum.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec

from taskquorum.api import wire
from taskquorum.api.call import SSE, Call
from taskquorum.api.leadership import FORWARDED, hand_over, view
from taskquorum.api.schema import DrainBody, EmptyBody, TransferBody, VerifyBody
from taskquorum.api.streams import EventStream
from taskquorum.errors import ConflictError, GoneError, NotFoundError, UnavailableError
from taskquorum.node import Outcome, refusal

LOG_ROWS: Final = 100
LOG_ROWS_READ_MAX: Final = 256
READY_LAG_MAX: Final = 1.0
"""Seconds a node may be behind what it knows to be committed, and still be ready."""

_drain: Final = msgspec.json.Decoder(DrainBody)
_transfer: Final = msgspec.json.Decoder(TransferBody)
_empty: Final = msgspec.json.Decoder(EmptyBody)
_verify: Final = msgspec.json.Decoder(VerifyBody)


def status(call: Call) -> None:
    """This node's view of the cluster."""
    call.json(call.app.node.native.status())


def nodes(call: Call) -> None:
    """The nodes, as this one sees them."""
    seen = view(call.app)
    call.object({name: seen.get(name) for name in ("nodes", "snapshot", "snapshot_in", "observed_by", "observed_at")})


def stats(call: Call) -> None:
    """Counters and percentiles of this node."""
    seen = view(call.app)
    shown = {
        "observed_by": seen.get("observed_by"),
        "observed_at": seen.get("observed_at"),
        "tasks": seen.get("tasks", {}),
        **call.app.metrics.stats(),
    }
    call.object(shown)


# ---- drain ---------------------------------------------------------------------------------------


def _remaining(call: Call, node_id: str) -> int | None:
    """Tasks that agents of the node still hold; null when there are too many agents to look at."""
    query = msgspec.json.encode({"node_id": node_id, "limit": 1000})
    _, items, cursor, _ = call.app.node.native.agents(query)
    if cursor is not None:
        return None
    return sum(len(agent.get("held", ())) for agent in msgspec.json.decode(items))


def drain(call: Call) -> None:
    """Takes a node's agents out of service, and leadership away from it."""
    node_id, body = call.name("id"), call.decode(_drain)
    deadline = datetime.now(UTC) + timedelta(milliseconds=body.deadline_ms)
    fields = {"node_id": node_id, "drain": True, "deadline_ms": body.deadline_ms}

    def applied(outcome: Outcome) -> None:
        remaining = _remaining(call, node_id)
        state = "drained" if remaining == 0 else "draining"
        shown = {
            "node_id": node_id,
            "state": state,
            "remaining": remaining,
            "deadline": deadline.isoformat(timespec="microseconds").replace("+00:00", "Z"),
            "revision": outcome.revision,
        }
        call.object(shown, outcome.revision, 202)
        if call.app.node.leader == node_id:
            hand_over(call.app, None, False, lambda done, detail: None, lambda problem: None)

    call.propose(wire.command("drain_node", fields), applied)


def resume(call: Call) -> None:
    """Ends a node's drain."""
    node_id = call.name("id")

    def applied(outcome: Outcome) -> None:
        shown = {"node_id": node_id, "state": "healthy", "remaining": None, "deadline": None, "revision": outcome.revision}
        call.object(shown, outcome.revision)

    call.propose(wire.command("drain_node", {"node_id": node_id, "drain": False}), applied)


# ---- leadership, snapshot ------------------------------------------------------------------------


def transfer_leader(call: Call) -> None:
    """Hands leadership to the node named, or to the most caught-up one."""
    body = call.decode(_transfer)
    if body.to is not None and body.to not in {node["node_id"] for node in view(call.app).get("nodes", [])}:
        raise NotFoundError("there is no such node", field="/to")

    def done(ok: bool, detail: str) -> None:
        if not ok:
            raise ConflictError(detail or "leadership was not handed over", code="not_transferred")
        call.object({"done": True, "detail": detail})

    hand_over(call.app, body.to, FORWARDED in call.request.headers, done, call.fail)


def snapshot(call: Call) -> None:
    """Takes a snapshot of this node's state."""
    call.decode(_empty)

    def done(ok: bool, detail: str) -> None:
        if not ok:
            raise UnavailableError(detail or "no snapshot was taken", code="no_snapshot")
        call.object({"done": True, "detail": detail})

    call.app.node.snapshot(done, call.fail)


def verify(call: Call) -> None:
    """Has every node recompute its state hash over all rows at one applied index, and compares."""
    body = call.decode(_verify)

    def done(ok: bool, detail: str) -> None:
        seen = view(call.app).get("verification")
        if not ok or seen is None:
            raise UnavailableError(detail or "no node has verified its state", code="no_verification")
        call.object(seen)

    call.app.node.verify(body.timeout_ms, done, call.fail)


# ---- the Raft log --------------------------------------------------------------------------------


def raft_log(call: Call) -> None:
    """Rows of this node's log; with `follow` a stream of them."""
    native = call.app.node.native
    limit = call.query.get("limit", LOG_ROWS)
    start = call.query.get("from", 0)
    first, commit, rows = native.raft_log(start, limit)
    if start and start < first:
        raise GoneError(f"the log begins at {first}", field="from", oldest=first)
    if not start:
        first, commit, rows = native.raft_log(first, limit)
    if call.query.get("follow"):
        _follow(call, start or max(first, commit))
        return
    start = start or first
    shown = {
        "items": [msgspec.Raw(row) for row in rows],
        "next_index": start + len(rows),
        "first_index": first,
        "commit_index": commit,
    }
    call.object(shown)


def _follow(call: Call, start: int) -> None:
    """Committed rows from `start` on, one message each with the index as its id."""
    native = call.app.node.native
    at = start

    def read() -> tuple[list[bytes], bool]:
        nonlocal at
        _, commit, rows = native.raft_log(at, LOG_ROWS_READ_MAX)
        pieces = []
        for row in rows:
            if at > commit:
                break
            pieces.append(b"id: %d\ndata: %b\n\n" % (at, row.replace(b"\n", b" ")))
            at += 1
        return pieces, at <= commit and bool(rows)

    EventStream(call, SSE, read).begin()


# ---- this process --------------------------------------------------------------------------------


def healthz(call: Call) -> None:
    """Whether this process should be left running."""
    if call.app.node.stopped is not None:
        raise UnavailableError(call.app.node.stopped or "the node has stopped", code="stopped")
    call.object({"status": "ok"})


def readyz(call: Call) -> None:
    """Whether this node should get requests: a known leader, and little to catch up."""
    app = call.app
    if app.stopping:
        raise UnavailableError("the node is stopping", code="stopping")
    if app.node.stopped is not None:
        raise UnavailableError(app.node.stopped or "the node has stopped", code="stopped")
    if app.node.native.is_fenced:
        raise refusal(app.node.native)
    seen = view(call.app)
    if seen.get("leader") is None:
        waiting = seen.get("waiting")
        raise UnavailableError(waiting or "this node knows no leader", code="no_leader")
    if app.lag.seconds(seen["commit_index"], seen["applied_index"]) > READY_LAG_MAX:
        raise UnavailableError("this node is more than a second behind", code="lagging")
    call.object({"status": "ready"})


def metrics(call: Call) -> None:
    """Prometheus text."""
    call.answer(200, call.app.metrics.text(), b"text/plain; version=0.0.4; charset=utf-8")
