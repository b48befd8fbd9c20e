"""The policy thread: waits for deltas, decides in slices, proposes.

What always holds: it wakes for an event or, while a decision is unanswered, a few times a second; it never holds the GIL
through a slice (the kernels release it); a follower does nothing but wait. A refusal needs no code here: it comes back as a
delta.
"""

import threading
import time
from collections.abc import Callable

import numpy as np

from taskquorum.scheduling import constants as k
from taskquorum.scheduling.feed import Feed
from taskquorum.scheduling.policy import Policy


class _ClusterClock:
    """Cluster time between batches: what the newest batch said, and what went by since."""

    def __init__(self) -> None:
        self._ahead_us = 0

    def read(self) -> int:
        return self._ahead_us + time.monotonic_ns() // 1000

    def heard(self, cluster_us: int) -> None:
        self._ahead_us = max(self._ahead_us, cluster_us - time.monotonic_ns() // 1000)

    def reset(self, cluster_us: int) -> None:
        self._ahead_us = cluster_us - time.monotonic_ns() // 1000


class Stats:
    """What the policy did since the start; read by other threads, written by the policy thread alone."""

    def __init__(self) -> None:
        self.batches = 0
        self.decided = 0
        self.expired = 0
        self.busy = 0
        self.queued = 0
        self.pending = 0
        self.held = 0


def run_policy(node: Feed, stop: threading.Event, stats: Stats | None = None, busy: type[Exception] | None = None) -> None:
    """Runs until `stop` is set; meant to be a thread's target. `busy` is the node's exception for a full queue
    (default: the one of `taskquorum._native`).

    Raises what the feed raises when a batch is malformed: a bug, and the caller should end the process.
    """
    if busy is None:
        from taskquorum._native import Busy

        busy = Busy
    stats = stats or Stats()
    policy = Policy()
    term = 0
    leading = False
    more = False
    clock = _ClusterClock()
    checked_us = clock.read()
    while not stop.is_set():
        waiting = k.IDLE_WAIT_MS if not leading or policy.view.pending == 0 else k.PENDING_US // 4000
        batch = node.policy_wait(0 if more else waiting)
        more = False
        if batch is not None:
            stats.batches += 1
            if not batch.leader:
                leading = False
                policy.view.clear()
                continue
            leading = True
            term = batch.term
            if batch.reset:
                clock.reset(batch.cluster_us)
                checked_us = clock.read()
            clock.heard(batch.cluster_us)
            policy.apply(batch, clock.read())
        if not leading:
            continue
        now_us = clock.read()
        if now_us - checked_us > k.PENDING_US // 4:
            checked_us = now_us
            stats.expired += policy.expire(now_us)
        more = _propose_slice(policy, node, term, now_us, busy, stats, stop.wait)
        stats.queued, stats.pending, stats.held = policy.view.queued, policy.view.pending, policy.view.held


def _propose_slice(
    policy: Policy, node: Feed, term: int, now_us: int, busy: type[Exception], stats: Stats, pause: Callable[[float], bool]
) -> bool:
    """Decides and proposes one slice; whether another may follow at once."""
    decisions = policy.decide(now_us)
    if decisions is None:
        return False
    try:
        node.policy_assign(term, decisions.task_ids, decisions.epochs, decisions.agents, decisions.agent_epochs, decisions.terms)
    except busy:
        policy.take_back(decisions)
        stats.busy += 1
        pause(k.BUSY_WAIT_MS / 1000)
        return True
    stats.decided += len(decisions)
    return True


class _Rehearsal:
    """A batch that makes every kernel compile: two tasks, one of them with an excluded agent, one agent, one finish."""

    reset = True
    leader = True
    term = 1
    cluster_us = 0
    op = bytes([1, 1, 3, 4])
    task = b"".join(bytes([i] * 16) for i in (1, 2, 3, 3))
    epoch = np.zeros(4, np.uint32).tobytes()
    klass = np.zeros(4, np.uint32).tobytes()
    agent = np.zeros(4, np.uint32).tobytes()
    priority = np.zeros(4, np.int32).tobytes()
    order = np.arange(4, dtype=np.uint64).tobytes()
    position = np.zeros(4, np.uint32).tobytes()
    ready_us = np.zeros(4, np.uint64).tobytes()
    tenant = np.zeros(4, np.uint32).tobytes()
    unit = np.array([0, 1, 0, 0], np.uint32).tobytes()
    expected_us = np.zeros(4, np.uint64).tobytes()
    run_us = np.array([0, 0, 0, 1000], np.uint64).tobytes()
    success = bytes([0, 0, 0, 1])
    load_agent = np.zeros(1, np.uint32).tobytes()
    load_bp = np.zeros(3, np.uint16).tobytes()
    classes = b'[{"klass":0,"task_type":"t","capabilities":[["c",1,1000]],"resources":[["slots",1]],"labels":[]}]'
    agents = (
        b'[{"agent":0,"agent_id":"a","agent_epoch":1,"node_id":"n","placeable":true,"capabilities":[["c",5000]],'
        b'"resources":[["slots",4]]}]'
    )
    graphs_ended = b""
    graphs = b'[{"unit":1,"tasks":[[0,0],[1,0]],"edges":[[0,1]],"expected_us":[[0,1000],[1,1000]]}]'
    excluded = b'[["' + b"01" * 16 + b'",["a"]]]'


def warm() -> float:
    """Compiles every kernel, or loads it from numba's cache, before anything waits for it; the seconds it took.

    The first time on a machine takes tens of seconds, later ones well under one. Call it on a start-up path: compiling holds
    the GIL.
    """
    started = time.monotonic()
    policy = Policy()
    policy.apply(_Rehearsal(), 0)
    decisions = policy.decide(0)
    assert decisions is not None and len(decisions) == 1, "the rehearsal places the task without exclusions"
    policy.take_back(decisions)
    policy.decide(0)
    policy.expire(k.PENDING_US + 1)
    policy.view._room_for_tasks(10_000)
    policy.view.predictor.median_ms(0, 0)
    return time.monotonic() - started


if __name__ == "__main__":
    print(f"kernels ready after {warm():.1f} s")
