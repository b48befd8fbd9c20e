"""Agents: registration, beats, drain, and what is known of them. The poll is in `polls.py`."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from taskquorum.api import wire
from taskquorum.api.call import Call
from taskquorum.api.handlers_tasks import change, page
from taskquorum.api.polls import fail_command, finish_command, held_json, load_points, progress_fields
from taskquorum.api.schema import (
    AgentRegister,
    CompleteBody,
    EmptyBody,
    FailBody,
    HeartbeatBody,
    ProgressBody,
    StartBody,
)
from taskquorum.errors import InvalidError, NotFoundError, ProblemError, StaleAgentError, UnavailableError
from taskquorum.model import new_task_id
from taskquorum.node import Beat, Outcome

LEASE_MS: Final = 4_000
HEARTBEAT_MS: Final = 500

_register: Final = msgspec.json.Decoder(AgentRegister)
_heartbeat: Final = msgspec.json.Decoder(HeartbeatBody)
_start: Final = msgspec.json.Decoder(StartBody)
_progress: Final = msgspec.json.Decoder(ProgressBody)
_complete: Final = msgspec.json.Decoder(CompleteBody)
_fail: Final = msgspec.json.Decoder(FailBody)
_empty: Final = msgspec.json.Decoder(EmptyBody)


def unknown_agent() -> NotFoundError:
    return NotFoundError("there is no such agent: register", code="unknown_agent", field="id")


def stale_agent(holder_epoch: int | None = None) -> StaleAgentError:
    holder = None if holder_epoch is None else {"agent_epoch": holder_epoch}
    return StaleAgentError("the agent has registered again since", field="/agent_epoch", holder=holder)


def register(call: Call) -> None:
    """Registers an agent under a new `agent_epoch`; its first beat goes with it."""
    body, node = call.decode(_register), call.app.node
    agent_id = body.id if isinstance(body.id, str) else f"agent-{new_task_id()}"
    first = node.native.agent_epoch(agent_id)[1] == 0
    fields = {
        "agent_id": agent_id,
        "node_id": body.node_id if isinstance(body.node_id, str) else node.node_id,
        "capabilities": {name: wire.basis_points(level) for name, level in body.capabilities.items()},
        "resources": body.resources,
        "labels": body.labels,
        "task_types": sorted(set(body.task_types)),
        "version": body.version,
        "via_node_id": node.node_id,
    }

    def applied(outcome: Outcome) -> None:
        def answer(lease_ms: int, heartbeat_ms: int) -> None:
            shown = {
                "agent_id": agent_id,
                "agent_epoch": outcome.agent_epoch,
                "lease_ms": lease_ms,
                "heartbeat_ms": heartbeat_ms,
                "revision": outcome.revision,
            }
            call.object(shown, outcome.revision, 201 if first else 200)

        def beaten(beat: Beat) -> None:
            answer(beat.lease_ms or LEASE_MS, beat.heartbeat_ms or HEARTBEAT_MS)

        def unbeaten(_: ProblemError) -> None:
            answer(LEASE_MS, HEARTBEAT_MS)

        node.beat(agent_id, outcome.agent_epoch, None, beaten, unbeaten)

    call.propose(wire.command("register_agent", fields), applied)


def heartbeat(call: Call) -> None:
    """Extends the lease; lists what the agent still holds. Without the leader's word it is a 503: the agent
    asks another node."""
    agent_id, body, native = call.name("id"), call.decode(_heartbeat), call.app.node.native

    def beaten(beat: Beat) -> None:
        if beat.unknown:
            raise unknown_agent()
        if beat.stale:
            raise stale_agent()
        if not beat.lease_ms:
            raise UnavailableError("no leader extended the lease", code="no_leader")
        revision, _, commands = native.assignments(agent_id, held_json(body.held), 0)
        gone = set()
        if len(commands) > 2:
            for command in msgspec.json.decode(commands):
                if command["kind"] in ("revoke", "reconcile"):
                    gone.add((command.get("task_id"), command.get("epoch")))
        standing = [item for item in body.held if (item.task_id.lower(), item.epoch) not in gone]
        shown = {
            "held": standing,
            "commands": msgspec.Raw(commands),
            "lease_ms": beat.lease_ms,
            "heartbeat_ms": beat.heartbeat_ms,
        }
        call.object(shown, revision)

    call.app.node.beat(agent_id, body.agent_epoch, load_points(body.load), beaten, call.fail)


def start(call: Call) -> None:
    task_id, body = call.task_id(), call.decode(_start)
    fields = {"task_id": task_id, "epoch": body.epoch, "agent_id": body.agent_id}
    change(call, task_id, wire.command("start", fields))


def progress(call: Call) -> None:
    task_id, body = call.task_id(), call.decode(_progress)
    change(call, task_id, wire.command("progress", progress_fields(body.agent_id, task_id, body, "")))


def complete(call: Call) -> None:
    task_id, body = call.task_id(), call.decode(_complete)
    change(call, task_id, finish_command(body.agent_id, task_id, body, "/result"))


def fail(call: Call) -> None:
    task_id, body = call.task_id(), call.decode(_fail)
    change(call, task_id, fail_command(body.agent_id, task_id, body.epoch, body.error, body.cost))


def listing(call: Call) -> None:
    """Agents by id."""
    given = call.query
    query: dict[str, Any] = {"limit": given.get("limit", 100), "count": given.get("count", False)}
    for name in ("status", "node_id", "label", "cursor"):
        if name in given:
            query[name] = given[name]
    text = msgspec.json.encode(query)

    def show() -> None:
        try:
            revision, items, cursor, count = call.app.node.native.agents(text)
        except ValueError as error:
            raise InvalidError(str(error), field="cursor" if "cursor" in given else None) from error
        call.json(page(revision, items, cursor, count, query["count"]), revision)

    call.read(show)


def get(call: Call) -> None:
    agent_id = call.name("id")

    def show() -> None:
        revision, agent = call.app.node.native.agent(agent_id)
        if agent is None:
            raise unknown_agent()
        call.json(agent, revision)

    call.read(show)


def _changed(call: Call, agent_id: str, status: str, command: bytes) -> None:
    def applied(outcome: Outcome) -> None:
        call.object({"agent_id": agent_id, "status": status, "revision": outcome.revision}, outcome.revision)

    call.propose(command, applied)


def leave(call: Call) -> None:
    """The agent leaves: its tasks go back at once."""
    agent_id = call.name("id")
    _changed(call, agent_id, "left", wire.command("leave_agent", {"agent_id": agent_id}))


def drain(call: Call) -> None:
    agent_id = call.name("id")
    call.decode(_empty)
    _changed(call, agent_id, "draining", wire.command("drain_agent", {"agent_id": agent_id, "drain": True}))


def resume(call: Call) -> None:
    agent_id = call.name("id")
    _changed(call, agent_id, "up", wire.command("drain_agent", {"agent_id": agent_id, "drain": False}))
