"""R7: agents that come back from the dead, and clients that ask twice: nothing is done twice, epochs fence.

Four shapes, by seed, on one cluster of three real nodes:

- `stopped`: an SDK agent's process is stopped (SIGSTOP) past its lease while it works; another completes its tasks; it goes on,
  deaf to its loss, and its results must change nothing; then it must take work again.
- `zombie`: an agent by raw HTTP falls silent past its lease; then it says that it completed its old attempts, before and after
  the new holder does, by a call and with a poll: each time 409 with the current holder.
- `duplicate`: submits with idempotency keys are sent twice across a failover of the leader: one task a key, the same id always.
- `clock`: one node's wall clock is an hour off (libfaketime) and it leads: agents that beat keep their tasks, silent ones lose
  them after their lease and not before, and the others raise an alert. Skipped without libfaketime.

After each, every task has ended once, by the attempt whose result was accepted, and epochs only grew.
"""

import contextlib
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.cluster import Node, until

from taskquorum.process import child_environment
from trust.fleet import Fleet
from trust.ledger import OP_LABEL, Ack, Ledger
from trust.raw_agent import Attempt, RawAgent
from trust.suite import Counts, RunOne, Suite, Violation
from trust.verify import verify

LEASE_S = 4.0
# From an agent's last beat until its tasks are another's: the lease, granted anew by a new leader, and room for a busy machine.
REASSIGNED_S = 2 * LEASE_S + 6.0
END_S = 30.0
TASKS = 3
# Of one SDK agent (trust/worker.py).
SLOTS = 4
SUBMITS = 20
FAKETIME = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1")
RUNS_A_CLUSTER = 100


def submit(node: Node, task_type: str, data: object = None, count: int = TASKS) -> list[str]:
    """Submits tasks in one batch; their ids."""
    answer = node.call("POST", "/tasks/distributed", [{"task_type": task_type, "task_data": data}] * count, timeout_s=20)
    assert answer.status == 202, answer.raw
    return [item["id"] for item in answer.body["items"]]


def get(fleet: Fleet, task_id: str) -> dict[str, Any]:
    """The task, read from any node that answers."""

    def found() -> dict[str, Any] | None:
        for node in fleet.alive:
            answer = node.try_call("GET", f"/tasks/distributed/{task_id}?include=events")
            if answer is not None and answer.status == 200:
                task: dict[str, Any] = answer.body
                return task
        return None

    return until(found, f"task {task_id} can be read", END_S)


def judge(fleet: Fleet, accepted: dict[str, Any]) -> None:
    """Each task (id → the one result that was accepted) ended once, with that result, and its epochs only grew."""
    for task_id, result in accepted.items():
        judge_one(get(fleet, task_id), result)


def judge_one(task: dict[str, Any], result: object) -> None:
    """One task, as read with its events. Raises [`Violation`]."""
    task_id, events = task["id"], task["events"]
    if task["status"] != "completed" or task["result"] != result:
        raise Violation(f"{task_id} is {task['status']} with {task['result']!r}, but {result!r} was accepted")
    ends = [event for event in events if event["type"] in ("completed", "failed", "cancelled")]
    if len(ends) != 1:
        raise Violation(f"{task_id} ended {len(ends)} times: {events}")
    holders: dict[int, set[str]] = {}
    for event in events:
        if event["type"] == "assigned":
            holders.setdefault(event["epoch"], set()).add(event["agent_id"])
    epochs = [event["epoch"] for event in events]
    if epochs != sorted(epochs):
        raise Violation(f"{task_id}: its epochs fell: {events}")
    if any(len(agents) > 1 for agents in holders.values()):
        raise Violation(f"{task_id}: one epoch was handed over twice: {events}")


def refused(answer: Any, what: str) -> int:
    """1 for a 409. Raises [`Violation`] for anything else."""
    if answer.status != 409 or answer.body["code"] not in ("stale_epoch", "wrong_state"):
        raise Violation(f"{what} was answered with {answer.status} {answer.raw[:300]!r}")
    return 1


class Workers:
    """Two SDK agents in processes of their own."""

    def __init__(self, fleet: Fleet, directory: Path, task_type: str) -> None:
        servers = ",".join(node.url for node in fleet.nodes.values())
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.names = [f"{task_type}-a", f"{task_type}-b"]
        for name in self.names:
            command = [sys.executable, "-m", "trust.worker", "--servers", servers, "--id", name, "--type", task_type]
            with (directory / f"{name}.log").open("wb") as log:
                self.processes[name] = subprocess.Popen(command, stdout=log, stderr=log, env=child_environment())

    def close(self) -> None:
        for process in self.processes.values():
            process.send_signal(signal.SIGCONT)
            process.kill()
            process.wait(10)


def holders(fleet: Fleet, tasks: Sequence[str]) -> dict[str, tuple[str, int]] | None:
    """Task → (agent, epoch), once each of them runs."""
    found = {task_id: get(fleet, task_id) for task_id in tasks}
    if any(task["status"] != "running" for task in found.values()):
        return None
    return {task_id: (task["assigned_agent_id"], task["epoch"]) for task_id, task in found.items()}


def stopped(fleet: Fleet, seed: int, workdir: Path) -> Counts:
    """SIGSTOP past the lease."""
    run, released = f"stopped-{seed}", workdir / "release"
    workers = Workers(fleet, workdir, run)
    try:
        tasks = submit(fleet.leader(), run, {"until": str(released)})
        first = until(lambda: holders(fleet, tasks), "the tasks run", END_S)
        victim = first[tasks[0]][0]
        os.kill(workers.processes[victim].pid, signal.SIGSTOP)

        def moved() -> dict[str, tuple[str, int]] | None:
            now = holders(fleet, tasks)
            return now if now is not None and all(agent != victim for agent, _ in now.values()) else None

        second = until(moved, f"the tasks of {victim} run at the other agent", REASSIGNED_S)
        lost = [task_id for task_id in tasks if first[task_id][0] == victim]
        for task_id in tasks:
            if (second[task_id][1] > first[task_id][1]) != (task_id in lost):
                raise Violation(f"{task_id} went from {first[task_id]} to {second[task_id]}")
        # Half of the time both finish at once, else the zombie comes back when all is done.
        together = seed % 8 < 4
        if together:
            os.kill(workers.processes[victim].pid, signal.SIGCONT)
        released.touch()
        accepted = {task_id: {"agent": agent, "epoch": epoch} for task_id, (agent, epoch) in second.items()}
        until(lambda: all(get(fleet, task_id)["status"] == "completed" for task_id in tasks), "the tasks complete", END_S)
        os.kill(workers.processes[victim].pid, signal.SIGCONT)

        # More than the other has slots for: the one that came back must take some.
        more = submit(fleet.leader(), run, {"until": str(workdir / "more")}, SLOTS + 1)
        again = until(lambda: holders(fleet, more), f"{victim} takes work again", END_S)
        (workdir / "more").touch()
        until(lambda: all(get(fleet, task_id)["status"] == "completed" for task_id in more), "these complete", END_S)
        accepted |= {task_id: {"agent": agent, "epoch": epoch} for task_id, (agent, epoch) in again.items()}
        judge(fleet, accepted)
    finally:
        workers.close()
    return {"tasks": len(tasks) + len(more), "fenced": len(lost)}


def zombie(fleet: Fleet, seed: int, workdir: Path) -> Counts:
    """A late completion under an old epoch."""
    run, nodes = f"zombie-{seed}", list(fleet.nodes.values())
    old = RawAgent(nodes, f"{run}-old", run)
    new = RawAgent(nodes[::-1], f"{run}-new", run)
    old.register()
    tasks = submit(fleet.leader(), run)
    until(lambda: old.poll() and len(old.held) == TASKS, "the old agent holds the tasks", END_S)
    old.poll(wait_ms=0)
    attempts: dict[str, Attempt] = {attempt[0]: attempt for attempt in old.held}
    new.register()
    until(lambda: new.poll() and len(new.held) == TASKS, "the new agent holds the tasks", REASSIGNED_S)
    # A hand-over that its agent does not confirm within 2 s is taken back.
    new.poll(wait_ms=0)
    taken: dict[str, Attempt] = {attempt[0]: attempt for attempt in new.held}
    fenced = 0
    accepted: dict[str, Any] = {}
    for task_id in tasks:
        if taken[task_id][1] <= attempts[task_id][1]:
            raise Violation(f"{task_id} was handed over under epoch {taken[task_id][1]} after {attempts[task_id][1]}")
        fenced += refused(old.complete(attempts[task_id], "zombie"), "a completion under an old epoch")
        new.poll(wait_ms=0)
        won = new.complete(taken[task_id], f"new {task_id}")
        if won.status != 200:
            raise Violation(f"the holder's completion was answered with {won.status} {won.raw[:300]!r}")
        accepted[task_id] = f"new {task_id}"
        fenced += refused(old.complete(attempts[task_id], "zombie"), "a late completion under an old epoch")
        if new.complete(taken[task_id], "again").status != 200:
            raise Violation("the same completion, sent again, was refused")
    results = [{"task_id": t, "epoch": e, "status": "completed", "result": "zombie"} for t, e in attempts.values()]
    answer = old.poll(wait_ms=0, results=results)
    if any(item["accepted"] for item in answer["results"]):
        raise Violation(f"a poll's late results were accepted: {answer['results']}")
    judge(fleet, accepted)
    return {"tasks": len(tasks), "fenced": fenced + len(results)}


def duplicate(fleet: Fleet, seed: int, workdir: Path) -> Counts:
    """The same submits before, during and after a failover."""
    run, choice, ledger = f"duplicate-{seed}", random.Random(seed), Ledger()
    nodes = list(fleet.nodes.values())
    keys = [f"{run}-{number}" for number in range(SUBMITS)]
    ledger.sent.update(keys)

    def send(key: str, node: Node, timeout_s: float) -> bool:
        body = {"task_type": run, "idempotency_key": key, "labels": {OP_LABEL: key}}
        sent_at = time.monotonic()
        answer = node.try_call("POST", "/tasks/distributed", body, timeout_s=timeout_s)
        if answer is None or answer.status != 202:
            return False
        ledger.acknowledge(Ack(key, answer.body["id"], sent_at, time.monotonic(), node.name))
        return True

    leader = fleet.leader()
    threads = [threading.Thread(target=send, args=(key, choice.choice(nodes), choice.uniform(0.005, 0.3))) for key in keys]
    for thread in threads[: SUBMITS // 2]:
        thread.start()
    kind = choice.choice(["kill", "stop", "transfer"])
    if kind == "kill":
        leader.kill()
    elif kind == "stop":
        os.kill(leader.pid, signal.SIGSTOP)
    else:
        leader.try_call("POST", "/cluster/transfer-leader", {})
    try:
        for thread in threads[SUBMITS // 2 :]:
            thread.start()
        for thread in threads:
            thread.join()
        answered_first = len(ledger.acks)
        rest = [node for node in nodes if kind == "transfer" or node is not leader]
        for _ in range(2):
            for key in keys:
                until(lambda key=key: send(key, choice.choice(rest), 3.0), f"{key} is acknowledged", END_S)
    finally:
        if kind == "stop":
            os.kill(leader.pid, signal.SIGCONT)
    if kind == "kill":
        fleet.restart(leader)
    for key in keys:
        until(lambda key=key: send(key, leader, 3.0), f"{leader.name} acknowledges {key} too", END_S)
    counts = verify(fleet, ledger, run)
    return counts | {"unanswered_at_first": SUBMITS - answered_first}


def clock(fleet: Fleet, seed: int, workdir: Path) -> Counts:
    """The leader's wall clock is an hour off."""
    run = f"clock-{seed}"
    nodes = list(fleet.nodes.values())
    skewed = nodes[seed // 4 % len(nodes)]
    hour = "+3600" if seed // 4 % 2 else "-3600"
    faithful = RawAgent(nodes, f"{run}-faithful", run, slots=TASKS)
    silent = RawAgent(nodes, f"{run}-silent", run, slots=TASKS)
    for agent in (faithful, silent):
        agent.register()
    tasks = submit(fleet.leader(), run, count=2 * TASKS)
    both = lambda: faithful.poll(200) and silent.poll(200) and len(faithful.held) == len(silent.held) == TASKS  # noqa: E731
    until(both, "both agents hold tasks", END_S)
    with beating([faithful, silent]):
        skewed.kill()
        skewed.environment |= {"LD_PRELOAD": str(FAKETIME), "FAKETIME": hour, "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
        try:
            fleet.restart(skewed)
            lead(fleet, skewed)
            alert = lambda: any("clock of" in text for node in nodes for text in status(node)["alerts"])  # noqa: E731
            until(alert, "an alert tells the clocks' difference", END_S)
        finally:
            for name in ("LD_PRELOAD", "FAKETIME", "FAKETIME_DONT_FAKE_MONOTONIC"):
                skewed.environment.pop(name, None)
    kept, given = dict(faithful.held), dict(silent.held)
    if len(kept) != TASKS or len(given) != TASKS:
        raise Violation(f"with a clock {hour} s off the agents that beat kept {len(kept)} and {len(given)} of {TASKS} tasks")
    # From now on only one of them beats. It finishes its own first, to have room for the other's.
    last_beat = time.monotonic()
    accepted: dict[str, Any] = {}
    for attempt in kept.items():
        if faithful.complete(attempt, f"kept {attempt[0]}").status != 200:
            raise Violation(f"with a clock {hour} s off the holder's completion of {attempt} was refused")
        accepted[attempt[0]] = f"kept {attempt[0]}"
    until(lambda: faithful.poll() and len(faithful.held) == TASKS, "the silent agent's tasks move", REASSIGNED_S)
    lease_s = time.monotonic() - last_beat
    faithful.poll(wait_ms=0)
    if lease_s < LEASE_S - 1.0:
        raise Violation(f"with a clock {hour} s off a lease of {LEASE_S} s ended {lease_s:.2f} s after the last beat")
    fenced = sum(refused(silent.complete(attempt, "zombie"), "a completion under an old epoch") for attempt in given.items())
    for attempt in dict(faithful.held).items():
        if faithful.complete(attempt, f"taken {attempt[0]}").status != 200:
            raise Violation(f"the holder's completion of {attempt} was refused")
        accepted[attempt[0]] = f"taken {attempt[0]}"
    judge(fleet, accepted)
    skewed.kill()
    fleet.restart(skewed)
    return {"tasks": len(tasks), "fenced": fenced, "lease_s_max": round(lease_s, 3)}


@contextmanager
def beating(agents: Sequence[RawAgent]) -> Iterator[None]:
    """Polls for these agents, each in a thread, while the context lasts."""
    over = threading.Event()

    def beat(agent: RawAgent) -> None:
        while not over.is_set():
            with contextlib.suppress(TimeoutError):
                agent.poll(wait_ms=300)

    threads = [threading.Thread(target=beat, args=(agent,), daemon=True) for agent in agents]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join(30)


def status(node: Node) -> dict[str, Any]:
    """Its own view of the cluster."""
    answer = node.try_call("GET", "/cluster/status")
    return answer.body if answer is not None and answer.status == 200 else {"alerts": []}


def lead(fleet: Fleet, node: Node) -> None:
    """Hands leadership to a node."""

    def leads() -> bool:
        leader = fleet.leader()
        if leader is not node:
            leader.try_call("POST", "/cluster/transfer-leader", {"to": node.name})
        return fleet.leader_now() is node

    until(leads, f"{node.name} leads", END_S)


SHAPES = (stopped, zombie, duplicate, clock)


@contextmanager
def session(directory: Path) -> Iterator[RunOne]:
    """One cluster for many runs, made anew now and then."""
    running: list[Fleet] = []
    used = [0]
    skipped: set[str] = set()

    def one(seed: int, workdir: Path) -> Counts:
        if not running or used[0] == RUNS_A_CLUSTER:
            while running:
                running.pop().stop()
            (directory / f"cluster-{seed}").mkdir()
            running.append(Fleet(directory / f"cluster-{seed}"))
            running[0].start()
            used[0] = 0
        used[0] += 1
        shape = SHAPES[seed % len(SHAPES)]
        if shape is clock and not FAKETIME.exists():
            if not skipped:
                print("agents: the shape `clock` is SKIPPED: libfaketime is missing: apt-get install faketime", flush=True)
                skipped.add("clock")
            return {"shape": "clock (skipped)", "skipped": 1}
        return {"shape": shape.__name__, **shape(running[0], seed, workdir)}

    try:
        yield one
    finally:
        while running:
            running.pop().stop()


SUITE = Suite(name="agents", id="R7", title="zombies, duplicates and clocks", full=200, cut=8, session=session)
