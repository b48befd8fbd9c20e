"""One node as the event loop sees it: batches what crosses into Rust, and calls back what comes out.

What always holds:

* Everything of one loop turn crosses together: one `propose`, one `read_index`, one `beat`.
* Every caller that was taken is called back once: with its outcomes, or with a problem.
* Interest in tasks, agents and events is counted here and told to Rust on the first and last only.
* All methods belong to the loop's thread; callbacks run on it and may call any method.

A callback that raises `ProblemError` gives it to its own `failed`; anything else is logged and
becomes a 500: one request's bug must not hold up the others.
"""

from __future__ import annotations

import logging
from asyncio import AbstractEventLoop
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple, Protocol

import msgspec

from taskquorum._native import Busy
from taskquorum.contact import Contact
from taskquorum.errors import BusyError, OutcomeUnknownError, ProblemError, UnavailableError

LOG = logging.getLogger("taskquorum.node")

PROPOSE_MS: Final = 10_000
READ_MS: Final = 5_000
BEAT_MS: Final = 900
"""Below the second that an agent waits for a beat's answer."""
REFUSED: Final = 3
"""A proposal's failure by which the node says that it takes no writes."""
GROUP_COMMANDS_MAX: Final = 1_000
GROUP_BYTES_MAX: Final = 4 << 20
DRAIN_MAX: Final = 4_096
ELECTION_TIMEOUT_S: Final = 1.0
"""Without a leader for so long, polls end (DESIGN §3 "Hand-over")."""


class NativeBackup(Protocol):
    """`_native.Backup`; see there."""

    def manifest(self) -> bytes: ...
    def read(self) -> bytes: ...
    def close(self) -> None: ...


class Native(Protocol):
    """The part of `_native.Node` that the API uses; see there."""

    @property
    def node_id(self) -> str: ...
    def drain(self, limit: int) -> list[tuple[Any, ...]]: ...
    def propose(self, commands: bytes, timeout_ms: int) -> int: ...
    def read_index(self, timeout_ms: int) -> int: ...
    def beat(self, beats: list[tuple[str, int, tuple[int, int, int] | None]], timeout_ms: int) -> int: ...
    def transfer_leader(self, to: str | None, timeout_ms: int) -> int: ...
    def await_member(self, node_id: str, timeout_ms: int) -> int: ...
    def snapshot(self, timeout_ms: int) -> int: ...
    def verify(self, timeout_ms: int) -> int: ...
    @property
    def is_fenced(self) -> bool: ...
    def backup(self) -> NativeBackup: ...
    def watch_task(self, task_id: bytes, watch: bool) -> None: ...
    def watch_agent(self, agent_id: str, watch: bool) -> None: ...
    def watch_events(self, watch: bool) -> None: ...
    def task(self, task_id: bytes, children: bool, events: bool) -> tuple[int, bytes | None]: ...
    def tasks(self, query: bytes) -> tuple[int, bytes, str | None, int | None]: ...
    def task_result(self, task_id: bytes) -> tuple[int, int, bytes | None]: ...
    def task_events(self, task_id: bytes) -> tuple[int, bytes | None]: ...
    def task_logs(self, task_id: bytes, attempt: int) -> tuple[int, bytes | None]: ...
    def task_graph(self, task_id: bytes) -> tuple[int, bytes | None]: ...
    def task_status(self, task_id: bytes) -> tuple[int, int, int]: ...
    def agent(self, agent_id: str) -> tuple[int, bytes | None]: ...
    def agents(self, query: bytes) -> tuple[int, bytes, str | None, int | None]: ...
    def agent_epoch(self, agent_id: str) -> tuple[int, int, int]: ...
    def assignments(self, agent_id: str, held: bytes, limit: int) -> tuple[int, bytes, bytes]: ...
    def key(self, tenant: str, key: str) -> tuple[int, bytes | None, int]: ...
    def events(self, from_revision: int, limit: int) -> tuple[int, int, list[tuple[int, bytes]]]: ...
    def raft_log(self, from_index: int, limit: int) -> tuple[int, int, list[bytes]]: ...
    def status(self) -> bytes: ...
    def counters(self) -> bytes: ...


class Outcome(NamedTuple):
    """What a command came to (`codec::outcome::Outcome`)."""

    refusal: int
    revision: int
    status: int
    epoch: int
    agent_id: str
    agent_epoch: int
    ids: Sequence[bytes]
    names: Sequence[str]
    replayed: bool
    field: str
    detail: str
    key_revision: int
    create_revision: int
    key_version: int


class Beat(NamedTuple):
    """What the leader said to a beat. `lease_ms` 0: the lease was not extended."""

    lease_ms: int
    heartbeat_ms: int
    stale: bool
    unknown: bool


Failed = Callable[[ProblemError], None]
OnOutcomes = Callable[[list[Outcome]], None]


class _Proposal(NamedTuple):
    commands: Sequence[bytes]
    then: OnOutcomes
    failed: Failed


class Node:
    """Callbacks over a `Native`; `on_notify` is to be called whenever its eventfd is readable.

    `clock` gives monotonic seconds, by which leaders are missed; the default is the loop's.
    """

    def __init__(self, native: Native, loop: AbstractEventLoop, clock: Callable[[], float] | None = None) -> None:
        self.native = native
        self.node_id = native.node_id
        self.leader: str | None = None
        self.term = 0
        self.is_leader = False
        self.stopped: str | None = None
        self.on_stopped: Callable[[str], None] = lambda detail: None
        self.on_leaderless: Callable[[], None] = lambda: None
        self.on_led: Callable[[], None] = lambda: None
        """A leader is known, after none was."""
        self.on_leading: Callable[[], None] = lambda: None
        self._loop = loop
        self._now = clock or loop.time
        self._leaderless_since: float | None = self._now()
        self._proposals: list[_Proposal] = []
        self._reads: list[tuple[Callable[[], None], Failed]] = []
        self._beats: list[tuple[tuple[str, int, tuple[int, int, int] | None], Callable[[Beat], None], Failed]] = []
        self._flushing = False
        self._contact = Contact(self._now, ELECTION_TIMEOUT_S)
        self._probing = False
        self._pending: dict[int, tuple[list[_Proposal], int]] = {}
        self._reading: dict[int, list[tuple[Callable[[], None], Failed]]] = {}
        self._beating: dict[int, tuple[Callable[[Beat], None], Failed]] = {}
        self._doing: dict[int, tuple[Callable[[bool, str], None], Failed]] = {}
        self._tasks: dict[bytes, list[Callable[[int], None]]] = {}
        self._agents: dict[str, list[Callable[[], None]]] = {}
        self._events: list[Callable[[int], None]] = []

    # ---- out: collected in a loop turn, sent at its end -----------------------------------

    def propose(self, commands: Sequence[bytes], then: OnOutcomes, failed: Failed) -> None:
        """Proposes encoded commands; `then` gets one outcome a command. Fails at once while the node is cut off."""
        if self.cut_off:
            failed(_no_leader())
            return
        self._proposals.append(_Proposal(commands, then, failed))
        self._flush_soon()

    def readable(self, then: Callable[[], None], failed: Failed) -> None:
        """Calls `then` once local state is as new as every write acknowledged before this call. Fails at once while the
        node is cut off."""
        if self.cut_off:
            failed(_no_leader())
            return
        self._reads.append((then, failed))
        self._flush_soon()

    def beat(
        self, agent_id: str, agent_epoch: int, load: tuple[int, int, int] | None, then: Callable[[Beat], None], failed: Failed
    ) -> None:
        """Relays an agent's beat to the leader. `load` in basis points: cpu, memory, network."""
        self._beats.append(((agent_id, agent_epoch, load), then, failed))
        self._flush_soon()

    def transfer_leader(self, to: str | None, then: Callable[[bool, str], None], failed: Failed) -> None:
        """Asks for a hand-over of leadership; `then` gets whether it happened, and why not."""
        self._do(lambda: self.native.transfer_leader(to, PROPOSE_MS), then, failed)

    def await_member(self, node_id: str, timeout_ms: int, then: Callable[[bool, str], None], failed: Failed) -> None:
        """Waits until a member has what was asked for it; `then` gets whether it has by then, and how far it has come."""
        self._do(lambda: self.native.await_member(node_id, timeout_ms), then, failed)

    def snapshot(self, then: Callable[[bool, str], None], failed: Failed) -> None:
        """Takes a snapshot of this node's state."""
        self._do(lambda: self.native.snapshot(60_000), then, failed)

    def verify(self, timeout_ms: int, then: Callable[[bool, str], None], failed: Failed) -> None:
        """Has every node recompute its state hash over all rows; `status` shows what came out."""
        self._do(lambda: self.native.verify(timeout_ms), then, failed)

    def _do(self, start: Callable[[], int], then: Callable[[bool, str], None], failed: Failed) -> None:
        try:
            self._doing[start()] = (then, failed)
        except Busy:
            failed(_busy())

    def _flush_soon(self) -> None:
        if not self._flushing:
            self._flushing = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flushing = False
        if self._proposals:
            self._flush_proposals()
        if self._reads:
            waiting, self._reads = self._reads, []
            try:
                self._reading[self.native.read_index(READ_MS)] = waiting
                self._contact.asked()
            except Busy:
                for _, failed in waiting:
                    failed(_busy())
        if self._beats:
            beats, self._beats = self._beats, []
            try:
                first = self.native.beat([beat for beat, _, _ in beats], BEAT_MS)
            except Busy:
                for _, _, failed in beats:
                    failed(_busy())
            else:
                for offset, (_, beaten, failed) in enumerate(beats):
                    self._beating[first + offset] = (beaten, failed)

    def _flush_proposals(self) -> None:
        proposals, self._proposals = self._proposals, []
        group: list[_Proposal] = []
        count = size = 0
        for proposal in proposals:
            more = sum(map(len, proposal.commands))
            if group and (count + len(proposal.commands) > GROUP_COMMANDS_MAX or size + more > GROUP_BYTES_MAX):
                self._propose_group(group, count)
                group, count, size = [], 0, 0
            group.append(proposal)
            count += len(proposal.commands)
            size += more
        self._propose_group(group, count)

    def _propose_group(self, group: list[_Proposal], count: int) -> None:
        text = b"[" + b",".join([command for proposal in group for command in proposal.commands]) + b"]"
        try:
            token = self.native.propose(text, PROPOSE_MS)
        except Busy:
            for proposal in group:
                proposal.failed(_busy())
        except ValueError:
            if len(group) > 1:  # One caller's command is none: the others must not fail with it.
                for proposal in group:
                    self._propose_group([proposal], len(proposal.commands))
                return
            LOG.exception("a command that this process made is not one")
            group[0].failed(ProblemError("the command could not be encoded"))
        else:
            self._pending[token] = (group, count)
            self._contact.asked()

    # ---- in: what the eventfd announces ---------------------------------------------------

    def on_notify(self) -> None:
        """Takes what Rust has to say and calls back."""
        while True:
            notices = self.native.drain(DRAIN_MAX)
            for notice in notices:
                try:
                    self._HANDLERS[notice[0]](self, *notice[1:])
                except Exception:
                    LOG.exception("a notice of kind %r was not handled", notice[0])
            if len(notices) < DRAIN_MAX:
                return

    def _on_proposed(self, token: int, failure: int, revision: int, outcomes: list[tuple[Any, ...]]) -> None:
        group, count = self._pending.pop(token)
        self._contact.ended(failure == 0)
        if failure == 0 and len(outcomes) != count:
            LOG.error("%d outcomes for %d commands", len(outcomes), count)
            failure = 1
        if failure:
            problem = refusal(self.native) if failure == REFUSED else _failure(failure)
            for proposal in group:
                proposal.failed(problem)
            return
        at = 0
        for proposal in group:
            taken = [Outcome._make(item) for item in outcomes[at : at + len(proposal.commands)]]
            at += len(proposal.commands)
            guarded(proposal.then, proposal.failed, taken)

    def _on_readable(self, token: int, ok: bool) -> None:
        self._contact.ended(ok)
        for then, failed in self._reading.pop(token):
            if ok:
                guarded(then, failed)
            else:
                failed(UnavailableError("no leader confirmed the read in time", code="no_leader"))

    def _on_beaten(self, token: int, lease_ms: int, heartbeat_ms: int, stale: bool, unknown: bool) -> None:
        then, failed = self._beating.pop(token)
        guarded(then, failed, Beat(lease_ms, heartbeat_ms, stale, unknown))

    def _on_task(self, task_id: bytes, status: int) -> None:
        for callback in list(self._tasks.get(task_id, ())):
            guarded(callback, _log_failure, status)

    def _on_agent(self, agent_id: str) -> None:
        for callback in list(self._agents.get(agent_id, ())):
            guarded(callback, _log_failure)

    def _on_events(self, revision: int) -> None:
        for callback in list(self._events):
            guarded(callback, _log_failure, revision)

    def _on_done(self, token: int, ok: bool, detail: str) -> None:
        then, failed = self._doing.pop(token)
        guarded(then, failed, ok, detail)

    def _on_leader(self, node_id: str | None, term: int, is_self: bool) -> None:
        self.leader, self.term, self.is_leader = node_id, term, is_self
        if is_self:
            self.on_leading()
        if node_id is not None:
            led, self._leaderless_since = self._leaderless_since is not None, None
            if led:
                self.on_led()
        elif self._leaderless_since is None:
            self._leaderless_since = self._now()
            self._loop.call_later(ELECTION_TIMEOUT_S, self._look_for_leader, self._leaderless_since)

    def _look_for_leader(self, since: float) -> None:
        if self._leaderless_since == since:
            self.on_leaderless()

    def _on_stop(self, detail: str) -> None:
        self.stopped = detail
        self.on_stopped(detail)

    _HANDLERS: Final[tuple[Callable[..., None], ...]] = (
        _on_proposed,
        _on_readable,
        _on_beaten,
        _on_task,
        _on_agent,
        _on_events,
        _on_done,
        _on_leader,
        _on_stop,
    )

    @property
    def leaderless(self) -> bool:
        """No leader has been known for one election timeout."""
        since = self._leaderless_since
        return since is not None and self._now() - since >= ELECTION_TIMEOUT_S

    @property
    def cut_off(self) -> bool:
        """No leader can be reached, as far as this node knows: what needs one is refused at once."""
        if self._contact.silent:
            self._probe()
            return True
        return self.leaderless

    def _probe(self) -> None:
        """Asks for a read index of its own: the answer ends the silence."""
        if self._probing:
            return

        def ended(_: ProblemError | None = None) -> None:
            self._probing = False

        try:
            self._reading[self.native.read_index(BEAT_MS)] = [(ended, ended)]
        except Busy:
            return
        self._probing = True
        self._contact.asked()

    # ---- interest --------------------------------------------------------------------------

    def watch_task(self, task_id: bytes, callback: Callable[[int], None]) -> Callable[[], None]:
        """Calls back with the status (as a number) at every change, until the returned function is called."""
        return _add(self._tasks, task_id, callback, self.native.watch_task)

    def watch_agent(self, agent_id: str, callback: Callable[[], None]) -> Callable[[], None]:
        """Calls back when the agent has something to fetch, until the returned function is called."""
        return _add(self._agents, agent_id, callback, self.native.watch_agent)

    def watch_events(self, callback: Callable[[int], None]) -> Callable[[], None]:
        """Calls back with the newest revision that has events, until the returned function is called."""
        if not self._events:
            self.native.watch_events(True)
        self._events.append(callback)

        def end() -> None:
            if callback in self._events:
                self._events.remove(callback)
                if not self._events:
                    self.native.watch_events(False)

        return end


def _add(kept: dict[Any, list[Any]], name: Any, callback: Any, tell: Callable[[Any, bool], None]) -> Callable[[], None]:
    callbacks = kept.get(name)
    if callbacks is None:
        callbacks = kept[name] = []
        tell(name, True)
    callbacks.append(callback)

    def end() -> None:
        if callback in callbacks:
            callbacks.remove(callback)
            if not callbacks and kept.get(name) is callbacks:
                del kept[name]
                tell(name, False)

    return end


def guarded(then: Callable[..., None], failed: Failed, *arguments: Any) -> None:
    """Calls `then`, and `failed` when that raises."""
    try:
        then(*arguments)
    except ProblemError as problem:
        failed(problem)
    except Exception:
        LOG.exception("a callback failed")
        failed(ProblemError("the request failed"))


def _log_failure(problem: ProblemError) -> None:
    LOG.error("a watcher failed: %s", problem)


def _no_leader() -> ProblemError:
    return UnavailableError("this node has heard of no leader for an election timeout: nothing was done", code="no_leader")


def refusal(native: Native) -> ProblemError:
    """Why this node takes nothing: it has fenced itself, or no majority agrees on the state."""
    seen = msgspec.json.decode(native.status())
    if seen.get("fenced"):
        return UnavailableError(f"this node has fenced itself: {seen['fenced']}", code="fenced", retry_after_s=1)
    stopped = seen.get("writes_stopped")
    return UnavailableError(stopped or "this node takes no writes now", code="writes_stopped", retry_after_s=1)


def _busy() -> ProblemError:
    return BusyError("the node's queue is full: nothing was done", retry_after_s=1)


def _failure(failure: int) -> ProblemError:
    if failure == 1:
        return OutcomeUnknownError("the time ran out: it may or may not take effect; retry with the same id or idempotency key")
    return UnavailableError("no leader took it in time: nothing was done", code="no_leader")
