"""The seven paths of the specification on three real nodes: each answers alike on the leader and on a follower."""

import socket
import uuid

import pytest
from bench.cluster import Cluster, Node, until

pytestmark = pytest.mark.cluster

COLUMNS = {
    "id",
    "parent_task_id",
    "task_type",
    "task_data",
    "status",
    "assigned_agent_id",
    "created_at",
    "started_at",
    "completed_at",
    "dependencies",
    "priority",
    "retry_count",
}


@pytest.fixture(params=["leader", "follower"])
def node(request: pytest.FixtureRequest, shared: Cluster) -> Node:
    return shared.leader() if request.param == "leader" else shared.follower()


def test_a_submit_is_seen_at_once_on_every_node(shared: Cluster, node: Node) -> None:
    answer = node.call("POST", "/tasks/distributed", {"task_type": "t", "task_data": {"é": [1, 2.5, None]}, "priority": 3})
    assert answer.status == 202, answer.raw
    assert answer.body["status"] == "ready"
    assert int(answer.headers["taskquorum-revision"]) == answer.body["revision"]
    for other in shared.nodes.values():
        task = other.call("GET", f"/tasks/distributed/{answer.body['id']}")
        assert task.status == 200
        assert task.body.keys() >= COLUMNS
        assert (task.body["task_data"], task.body["priority"], task.body["retry_count"]) == ({"é": [1, 2.5, None]}, 3, 0)


def test_a_dag_enters_whole_or_not_at_all(node: Node) -> None:
    tasks = [{"name": "a", "task_type": "t"}, {"name": "b", "task_type": "t", "dependencies": ["a"]}]
    answer = node.call("POST", "/tasks/distributed", {"tasks": tasks})
    assert answer.status == 202, answer.raw
    ids = {item["name"]: item["id"] for item in answer.body["tasks"]}
    assert node.call("GET", f"/tasks/distributed/{ids['b']}").body["status"] == "blocked"
    assert node.call("GET", f"/tasks/distributed/{answer.body['id']}").body["status"] == "waiting"
    before = node.call("GET", "/tasks/distributed?count=true&limit=1").body["count"]
    tasks[0]["dependencies"] = ["b"]
    refused = node.call("POST", "/tasks/distributed", {"tasks": tasks})
    assert refused.status == 422, refused.raw
    assert node.call("GET", "/tasks/distributed?count=true&limit=1").body["count"] == before


def test_cluster_status_and_nodes(shared: Cluster, node: Node) -> None:
    status = node.call("GET", "/cluster/status").body
    assert status["leader"] == shared.leader().name
    assert status["quorum"] == {"voters": 3, "healthy": 3, "has_quorum": True}
    nodes = node.call("GET", "/cluster/nodes").body["nodes"]
    assert {item["node_id"] for item in nodes} == set(shared.nodes)
    assert sorted(item["node_role"] for item in nodes) == ["follower", "follower", "leader"]


def test_coordination_stats(node: Node) -> None:
    stats = node.call("GET", "/coordination/stats")
    assert stats.status == 200

    def applied() -> bool:  # A node's own view is a few milliseconds old.
        return int(node.call("GET", "/coordination/stats").body["node"]["counters"]["applied_index"]) > 0

    until(applied, "the node's counters tell what it applied")
    stats = node.call("GET", "/coordination/stats")
    assert set(stats.body["latency_us"]) == {"consensus", "assignment", "propagation", "recovery"}
    assert stats.body["latency_us"]["propagation"]["count"] > 0
    assert set(stats.body["utilisation"]) == {"slots_total", "slots_taken", "utilisation", "offered_load"}


def test_reschedule_raises_priority_and_refuses_an_ended_task(node: Node) -> None:
    task = node.call("POST", "/tasks/distributed", {"task_type": "t"}).body["id"]
    again = node.call("POST", f"/tasks/{task}/reschedule", {"priority": 7, "exclude_agents": ["nobody"]})
    assert again.status == 200, again.raw
    assert node.call("GET", f"/tasks/distributed/{task}").body["priority"] == 7
    assert node.call("POST", f"/tasks/{task}/cancel", {"mode": "kill"}).status == 200
    assert node.call("POST", f"/tasks/{task}/reschedule", {}).status == 409


def test_drain_survives_in_the_log_until_it_is_deleted(shared: Cluster, node: Node) -> None:
    """The node drained is the other one, so that the asked one need not give up its leadership under the test."""
    other = (
        shared.follower()
        if node is shared.leader()
        else next(n for n in shared.nodes.values() if n not in (node, shared.leader()))
    )
    drained = node.call("POST", f"/cluster/nodes/{other.name}/drain", {})
    assert drained.status == 202, drained.raw
    assert drained.body.keys() >= {"state", "remaining", "deadline"}

    def state_of(asked: Node) -> str:
        nodes = asked.call("GET", "/cluster/nodes").body["nodes"]
        return next(item["status"] for item in nodes if item["node_id"] == other.name)

    until(lambda: state_of(node) in ("draining", "drained"), "the drain is seen")
    assert node.call("DELETE", f"/cluster/nodes/{other.name}/drain").status == 200
    until(lambda: state_of(node) == "healthy", "the end of the drain is seen")


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "field"),
    [
        ("POST", "/tasks/distributed", b"{", 400, None),
        ("POST", "/tasks/distributed", {"task_type": 3}, 422, "task_type"),
        ("POST", "/tasks/distributed", {"task_type": "t", "colour": 1}, 422, "colour"),
        ("POST", "/tasks/distributed", {"task_type": "t", "timeouts": {"run": 1}}, 422, "timeouts.run"),
        ("POST", "/tasks/distributed", {"task_type": "a\u0000b"}, 400, None),
        ("GET", "/tasks/distributed/not-an-id", None, 422, None),
        ("GET", f"/tasks/distributed/{uuid.UUID(int=7)}", None, 404, None),
        ("PUT", "/tasks/distributed", {}, 405, None),
    ],
)
def test_bad_input_is_named_and_changes_nothing(
    node: Node, method: str, path: str, body: object, status: int, field: str | None
) -> None:
    revision = node.call("GET", "/tasks/distributed?limit=1").body["revision"]
    answer = node.call(method, path, body)
    assert answer.status == status, answer.raw
    assert answer.headers["content-type"] == "application/problem+json"
    assert {"type", "title", "status", "detail", "code"} <= answer.body.keys()
    if field:
        assert field.rsplit(".", 1)[-1] in (answer.body.get("field") or "")
    assert node.call("GET", "/tasks/distributed?limit=1").body["revision"] == revision


def test_what_only_the_state_can_refuse_is_a_problem_too(node: Node) -> None:
    assert node.call("POST", "/cluster/nodes/nobody/drain", {}).status == 404
    missing = node.call("POST", "/tasks/distributed", {"task_type": "t", "dependencies": [str(uuid.UUID(int=9))]})
    assert (missing.status, missing.body["field"]) == (422, "/dependencies/0")


@pytest.mark.parametrize(
    "head",
    [
        b"Content-Length: 6\r\nTransfer-Encoding: chunked\r\n",
        b"Content-Length: 6\r\nContent-Length: 7\r\n",
        b"Transfer-Encoding: chunked, identity\r\n",
        b"Transfer-Encoding : chunked\r\n",
    ],
)
def test_a_smuggled_request_is_refused_and_never_run(node: Node, head: bytes) -> None:
    """The bytes after an ambiguous frame hold a second request; it must not be answered."""
    inner = b"0\r\n\r\nPOST /api/v1/tasks/distributed HTTP/1.1\r\nHost: x\r\nContent-Length: 17\r\n\r\n" + b'{"task_type":"s"}'
    with socket.create_connection(("127.0.0.1", node.http_port), timeout=10) as connection:
        connection.sendall(b"POST /api/v1/tasks/distributed HTTP/1.1\r\nHost: x\r\n" + head + b"\r\n" + inner)
        received = b""
        while chunk := connection.recv(65536):
            received += chunk
    assert received.startswith(b"HTTP/1.1 400"), received
    assert received.count(b"HTTP/1.1") == 1
    assert node.call("GET", "/tasks/distributed?task_type=s").body["items"] == []
