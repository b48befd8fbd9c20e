"""The poll: an agent's beat, what it did, and what it is to do, in one exchange (DESIGN §3).

A poll relays a beat and proposes what it carries as one group, both at once; it answers as soon as
results are applied, else when there is something to fetch, else empty at `wait_ms`.

What always holds:

* At most one poll an agent waits here; a newer `poll_seq` ends the one before it.
* Assignments are read from state at the moment of the answer, never kept: a lost answer repeats.
* `Start` is proposed once for each (task, epoch) that an agent holds and state shows as assigned.
* `lease_ms` never reaches beyond what the leader granted, counted from when the agent sent the poll.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import msgspec
from msgspec import UNSET, Raw

from taskquorum.api import problems, wire
from taskquorum.api.call import Call
from taskquorum.api.schema import (
    CompleteBody,
    FailureError,
    Held,
    Load,
    PollBody,
    ProgressBody,
    TaskFinished,
    TaskProgress,
)
from taskquorum.errors import InvalidError, NotFoundError, ProblemError, StaleAgentError
from taskquorum.model import ASSIGNED, PAYLOAD_BYTES_MAX, uuid_bytes
from taskquorum.node import Beat, Outcome, guarded

if TYPE_CHECKING:
    from taskquorum.api.app import App

BEAT_INTERVAL_S: Final = 0.2
"""A poll that follows a relayed beat so soon lives on its lease: many short polls cost few beats."""
AGENTS_KEPT_MAX: Final = 20_000

_decoder: Final = msgspec.json.Decoder(PollBody)


# ---- commands from what agents send ------------------------------------------------------------


def load_points(load: Load | None) -> tuple[int, int, int] | None:
    """A load in basis points."""
    if load is None:
        return None
    return wire.basis_points(load.cpu), wire.basis_points(load.memory), wire.basis_points(load.network)


def held_json(held: Sequence[Held]) -> bytes:
    """`[[task_id, epoch]…]`"""
    return msgspec.json.encode([(item.task_id, item.epoch) for item in held])


def _bounded(text: Raw, field: str) -> Raw:
    if len(bytes(text)) > PAYLOAD_BYTES_MAX:
        raise ProblemError(f"at most {PAYLOAD_BYTES_MAX} bytes", status=413, code="payload_too_large", field=field)
    return text


def progress_fields(agent_id: str, task_id: str, body: ProgressBody | TaskProgress, base: str) -> dict[str, Any]:
    """The fields of a `progress` command."""
    fields: dict[str, Any] = {"task_id": task_id, "epoch": body.epoch, "agent_id": agent_id, "message": body.message}
    if isinstance(body.progress, float):
        fields["progress_bp"] = wire.basis_points(body.progress)
    if isinstance(body.checkpoint, Raw):
        fields["checkpoint"] = _bounded(body.checkpoint, f"{base}/checkpoint")
    if body.log:
        fields["log"] = [
            {"wall_us": 0 if line.t is UNSET else wire.wall_us(line.t), "level": line.level, "text": line.text}
            for line in body.log
        ]
    return fields


def finish_command(agent_id: str, task_id: str, body: CompleteBody | TaskFinished, field: str) -> bytes:
    """A `complete` command."""
    fields: dict[str, Any] = {
        "task_id": task_id,
        "epoch": body.epoch,
        "agent_id": agent_id,
        "result": _bounded(body.result, field),
        "cost": body.cost,
    }
    if isinstance(body.quality, float):
        fields["quality_bp"] = wire.basis_points(body.quality)
    return wire.command("complete", fields)


def fail_command(agent_id: str, task_id: str, epoch: int, error: FailureError, cost: Mapping[str, int]) -> bytes:
    """A `fail` command."""
    fields: dict[str, Any] = {
        "task_id": task_id,
        "epoch": epoch,
        "agent_id": agent_id,
        "code": error.code,
        "message": error.message,
        "retryable": error.retryable,
        "cost": cost,
    }
    if isinstance(error.retry_after_ms, int):
        fields["retry_after_ms"] = error.retry_after_ms
    return wire.command("fail", fields)


def _result_command(agent_id: str, item: TaskFinished, base: str) -> bytes:
    if item.status == "completed":
        if item.error is not UNSET:
            raise InvalidError("a completed task has no error", field=f"{base}/error")
        return finish_command(agent_id, item.task_id, item, f"{base}/result")
    if not isinstance(item.error, FailureError):
        raise InvalidError("the field 'error' is missing", code="missing_field", field=f"{base}/error")
    return fail_command(agent_id, item.task_id, item.epoch, item.error, item.cost)


# ---- polls -------------------------------------------------------------------------------------


class _Agent:
    """What this node remembers of an agent that speaks to it."""

    __slots__ = ("agent_epoch", "beat_at", "lease_ms", "poll", "started")

    def __init__(self, agent_epoch: int) -> None:
        self.agent_epoch = agent_epoch
        self.beat_at = 0.0
        self.lease_ms = 0
        self.poll: _Poll | None = None
        self.started: set[tuple[str, int]] = set()


class Polls:
    """All polls of one node."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._agents: dict[str, _Agent] = {}

    def handle(self, call: Call) -> None:
        """The handler of `POST /agents/{id}/poll`."""
        agent_id, body = call.name("id"), call.decode(_decoder)
        if self._app.node.leaderless:
            raise problems.no_leader()
        native = self._app.node.native
        _, epoch, _ = native.agent_epoch(agent_id)
        if epoch == body.agent_epoch:
            self._take(call, agent_id, body)
            return

        def look_again() -> None:
            _, epoch, _ = native.agent_epoch(agent_id)
            if epoch == 0:
                raise NotFoundError("there is no such agent: register", code="unknown_agent", field="id")
            if epoch != body.agent_epoch:
                raise StaleAgentError("the agent has registered again", field="/agent_epoch", holder={"agent_epoch": epoch})
            self._take(call, agent_id, body)

        # This node may only be a little behind the registration.
        self._app.node.readable(look_again, call.fail)

    def _take(self, call: Call, agent_id: str, body: PollBody) -> None:
        agent = self._agents.get(agent_id)
        if agent is None or agent.agent_epoch != body.agent_epoch:
            older = agent.poll if agent is not None else None
            self._forget_some()
            agent = self._agents[agent_id] = _Agent(body.agent_epoch)
            if older is not None:
                older.supersede()
        poll = _Poll(self._app, call, agent_id, agent, body)
        previous = agent.poll
        if previous is not None and previous.body.poll_seq > body.poll_seq:
            poll.superseded = True  # It was overtaken on its way: it only delivers.
        else:
            agent.poll = poll
            if previous is not None:
                previous.supersede()
        poll.begin()

    def _forget_some(self) -> None:
        if len(self._agents) >= AGENTS_KEPT_MAX:
            now = self._app.loop.time()
            idle = [name for name, agent in self._agents.items() if agent.poll is None and now - agent.beat_at > 60]
            for name in idle:
                del self._agents[name]

    def end_all(self) -> None:
        """Ends every waiting poll with a 503: the agents ask another node."""
        for agent in self._agents.values():
            if agent.poll is not None:
                agent.poll.end_with(problems.no_leader())

    def end_empty(self) -> None:
        """Answers every waiting poll empty, for a node that stops."""
        for agent in list(self._agents.values()):
            if agent.poll is not None:
                agent.poll.supersede()


class _Poll:
    """One poll from its arrival to its answer."""

    def __init__(self, app: App, call: Call, agent_id: str, agent: _Agent, body: PollBody) -> None:
        self.body = body
        self.superseded = False
        self._app = app
        self._call = call
        self._agent_id = agent_id
        self._agent = agent
        self._arrived = app.loop.time()
        self._lease_ms = 0
        self._beating = False
        self._applying = False
        self._results: list[Outcome] = []
        finished = {(item.task_id, item.epoch) for item in body.results}
        self._held = [item for item in body.held if (item.task_id, item.epoch) not in finished]
        self._held_json = held_json(self._held)
        self._unwatch: Any = None
        self._cancel_deadline: Any = None
        self._done = False

    def begin(self) -> None:
        commands, first_result = self._commands()
        self._beat()
        if commands:
            self._applying = bool(self.body.results)
            started = self._agent.started

            def applied(outcomes: list[Outcome]) -> None:
                self._applying = False
                self._results = outcomes[first_result : first_result + len(self.body.results)]
                self._proceed()

            def unapplied(problem: ProblemError) -> None:
                started.clear()
                if self.body.results:
                    self._fail(problem)

            then = applied if self.body.results else _ignore
            self._app.node.propose(commands, then, unapplied)
        self._call.request.on_gone = self._finish
        self._proceed()

    def _commands(self) -> tuple[list[bytes], int]:
        """What the poll proposes, and where its results begin."""
        native, started = self._app.node.native, self._agent.started
        held = {(item.task_id, item.epoch) for item in self._held}
        started &= held
        commands: list[bytes] = []
        for task_id, epoch in held - started:
            started.add((task_id, epoch))
            _, status, now = native.task_status(uuid_bytes(task_id))
            if status == ASSIGNED and now == epoch:
                fields = {"task_id": task_id, "epoch": epoch, "agent_id": self._agent_id}
                commands.append(wire.command("start", fields))
        for at, item in enumerate(self.body.progress):
            fields = progress_fields(self._agent_id, item.task_id, item, f"/progress/{at}")
            commands.append(wire.command("progress", fields))
        first_result = len(commands)
        for at, result in enumerate(self.body.results):
            commands.append(_result_command(self._agent_id, result, f"/results/{at}"))
        return commands, first_result

    def _beat(self) -> None:
        agent = self._agent
        since = self._arrived - agent.beat_at
        if since < BEAT_INTERVAL_S and agent.lease_ms:
            self._lease_ms = max(0, agent.lease_ms - int(since * 1000) - 1)
            return
        self._beating = True

        def beaten(beat: Beat) -> None:
            self._beating = False
            if beat.unknown:
                raise NotFoundError("there is no such agent: register", code="unknown_agent", field="id")
            if beat.stale:
                raise StaleAgentError("the agent has registered again", field="/agent_epoch")
            self._lease_ms = beat.lease_ms
            if beat.lease_ms:
                agent.beat_at, agent.lease_ms = self._arrived, beat.lease_ms
            self._proceed()

        self._app.node.beat(self._agent_id, self.body.agent_epoch, load_points(self.body.load), beaten, self._fail)

    def _proceed(self) -> None:
        """Answers if there is a reason to, else waits for one."""
        if self._done or self._beating or self._applying:
            return
        if self.superseded:
            self._answer(b"[]", b"[]")
            return
        node = self._app.node
        if self._unwatch is None and self.body.wait_ms and not self.body.results:
            self._unwatch = node.watch_agent(self._agent_id, self._look)
        _, assignments, commands = node.native.assignments(self._agent_id, self._held_json, self.body.max)
        if self.body.results or not self.body.wait_ms or len(assignments) > 2 or len(commands) > 2:
            self._answer(assignments, commands)
        elif self._cancel_deadline is None:
            left = self.body.wait_ms / 1000 - (self._app.loop.time() - self._arrived)
            self._cancel_deadline = self._call.later(max(0.0, left), lambda: self._answer(b"[]", b"[]"))

    def _look(self) -> None:
        guarded(self._proceed, self._fail)

    def supersede(self) -> None:
        """A newer poll has come: answers empty, but not before its results are applied."""
        self.superseded = True
        guarded(self._proceed, self._fail)

    def end_with(self, problem: ProblemError) -> None:
        if not self._applying:
            self._fail(problem)

    def _answer(self, assignments: bytes, commands: bytes) -> None:
        if self._done:
            return
        self._finish()
        results = [
            {"task_id": item.task_id, "epoch": item.epoch, "accepted": not outcome.refusal}
            if not outcome.refusal
            else {
                "task_id": item.task_id,
                "epoch": item.epoch,
                "accepted": False,
                "problem": problems.document(problems.from_outcome(outcome)),
            }
            for item, outcome in zip(self.body.results, self._results, strict=True)
        ]
        shown = {
            "assignments": Raw(assignments),
            "commands": Raw(commands),
            "results": results,
            "lease_ms": self._lease_ms,
        }
        self._call.object(shown, max((outcome.revision for outcome in self._results), default=0) or None)

    def _fail(self, problem: ProblemError) -> None:
        if not self._done:
            self._finish()
            self._call.fail(problem)

    def _finish(self) -> None:
        """Nothing more will be done for this poll (its proposals stand)."""
        self._done = True
        self._call.request.on_gone = None
        if self._unwatch is not None:
            self._unwatch()
        if self._cancel_deadline is not None:
            self._cancel_deadline()
        if self._agent.poll is self:
            self._agent.poll = None


def _ignore(_: list[Outcome]) -> None:
    """Starts and progress: a refusal shows in the answer's commands."""
