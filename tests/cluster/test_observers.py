"""Observers as real processes: they join by their flags, serve, take writes, and outlive their parents.

Scenario of the first test: three voters, one observer with HTTP → it is listed with a parent → a submit through it, a
linearizable and a local read on it, and an agent that only knows it gets the task and completes it. Of the second: the
observer's parent is killed → it follows another one and goes on; it is killed itself → it resumes without a snapshot.
"""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from bench.cluster import Cluster, Node, until
from bench.observers import observer_node

pytestmark = pytest.mark.cluster


@contextmanager
def observing(cluster: Cluster, name: str) -> Iterator[Node]:
    node = observer_node(cluster, name)
    node.start()
    try:
        cluster.wait_ready(node)
        yield node
    finally:
        if node.alive:
            node.kill()


def seen(cluster: Cluster, name: str) -> dict[str, Any] | None:
    """The observer as the leader lists it, once that has its report."""
    answer = cluster.leader().try_call("GET", "/cluster/nodes")
    nodes = answer.body["nodes"] if answer is not None and answer.status == 200 else []
    found = next((n for n in nodes if n["node_id"] == name), None)
    return found if found is not None and found["parent"] is not None and found["match_index"] is not None else None


def submit(node: Node) -> str | None:
    task = str(uuid.uuid4())
    answer = node.try_call("POST", "/tasks/distributed", {"id": task, "task_type": "observed"}, 10.0)
    return task if answer is not None and answer.status == 202 else None


def test_an_observer_serves_and_takes_work(cluster: Cluster) -> None:
    with observing(cluster, "observer-1") as observer:
        shown = until(lambda: seen(cluster, "observer-1"), "the leader lists it")
        assert shown["node_role"] == "observer"
        assert shown["parent"] in cluster.nodes
        assert shown["parent"] != cluster.leader().name, "followers come before the leader"
        task = submit(observer)
        assert task is not None
        assert observer.call("GET", f"/tasks/distributed/{task}").body["status"] == "ready"
        assert observer.call("GET", f"/tasks/distributed/{task}?consistency=local").status == 200
        status = observer.call("GET", "/cluster/status").body
        assert status["leader"] == cluster.leader().name and status["quorum"]["has_quorum"]
        assert observer.call("GET", "/cluster/raft-log").body["items"] == [], "it has no log to show"
        assert "taskquorum_lag_entries" in observer.call("GET", "/metrics").raw.decode()

        agent = observer.call("POST", "/agents", {"id": "a", "resources": {"slots": 1}, "task_types": ["observed"]}).body
        poll = {"agent_epoch": agent["agent_epoch"], "poll_seq": 1, "held": [], "results": [], "progress": [], "max": 1}
        got = observer.call("POST", "/agents/a/poll", poll | {"wait_ms": 8000}, 15.0).body["assignments"]
        assert [item["task_id"] for item in got] == [task]
        result = {"task_id": task, "epoch": got[0]["epoch"], "status": "completed", "result": 1}
        answer = observer.call("POST", "/agents/a/poll", poll | {"poll_seq": 2, "results": [result], "wait_ms": 0}, 15.0).body
        assert answer["results"][0]["accepted"] is True
        ended = cluster.leader().call("GET", f"/tasks/distributed/{task}").body
        assert ended["status"] == "completed"


def test_it_outlives_its_parent_and_resumes_after_its_own_death(cluster: Cluster) -> None:
    with observing(cluster, "observer-1") as observer:
        parent = until(lambda: seen(cluster, "observer-1"), "the leader lists it")["parent"]
        cluster.nodes[parent].kill()
        until(lambda: submit(observer), "a write through it without its parent")
        other = until(lambda: (n := seen(cluster, "observer-1")) and n["parent"] != parent and n, "another parent")
        assert other["status"] == "healthy"
        observer.kill()
        task = until(lambda: submit(cluster.leader()), "a write that it misses")
        observer.start()
        cluster.wait_ready(observer)
        assert observer.call("GET", f"/tasks/distributed/{task}").status == 200
        counters = observer.call("GET", "/metrics").raw.decode()
        received = next(line for line in counters.splitlines() if line.startswith("taskquorum_snapshots_received"))
        assert float(received.split()[-1]) == 0, "it resumed by index"
        observer.kill(15)
