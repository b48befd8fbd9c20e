"""Snapshots between real nodes: paced, shown while they are on their way, and resumed when either side is cut off."""

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bench.cluster import Cluster, Node, until
from bench.filling import fill

pytestmark = pytest.mark.cluster

STATE_MIB = 6.0
SETTINGS = """
snapshot_rate_mib = 2
[node]
keep_entries = 10
keep_bytes = 1048576
"""


@pytest.fixture
def slow(tmp_path: Path) -> Iterator[Cluster]:
    """Three nodes that keep little log and send snapshots slowly."""
    (tmp_path / "settings.toml").write_text(SETTINGS)
    cluster = Cluster(3)
    for node in cluster.nodes.values():
        node.command += ["--config", str(tmp_path / "settings.toml")]
    with cluster:
        yield cluster


def shown(node: Node, name: str = "snapshot") -> dict[str, Any]:
    answer = node.try_call("GET", "/cluster/nodes")
    found = answer.body.get(name) if answer is not None and answer.status == 200 else None
    return found if isinstance(found, dict) else {}


def counter(node: Node, name: str) -> int:
    return int(node.call("GET", "/coordination/stats").body["node"]["counters"][name])


def leave_behind(cluster: Cluster) -> tuple[Node, Node, list[str]]:
    """(leader, a follower that is dead and behind the log, ids of the tasks it misses)"""
    leader, behind = cluster.leader(), cluster.follower()
    behind.kill()
    ids = fill(cluster, STATE_MIB, item_bytes=4096)
    assert leader.call("POST", "/cluster/snapshot", {}, timeout_s=60).status == 200
    until(lambda: leader.call("GET", "/cluster/status").body["base_index"] > 5, "the log is cut")
    return leader, behind, ids


def assert_caught_up(cluster: Cluster, node: Node, ids: list[str]) -> None:
    cluster.wait_ready(node)
    for task in (ids[0], ids[len(ids) // 2], ids[-1]):
        answer = node.call("GET", f"/tasks/distributed/{task}", timeout_s=20)
        assert answer.status == 200, answer.raw
    agrees = lambda: node.call("GET", "/cluster/status").body["state_hash"]["agrees"]  # noqa: E731
    until(agrees, "its state hash agrees with the others'")


def test_a_receiver_that_is_killed_goes_on_where_it_was(slow: Cluster) -> None:
    leader, behind, ids = leave_behind(slow)
    behind.start()
    under_way = until(lambda: (s := shown(leader)).get("bytes_sent", 0) > 2 << 20 and s, "the transfer is under way")
    assert (under_way["to"], under_way["phase"]) == (behind.name, "sending")
    assert under_way["bytes_total"] > 3 << 20 and 0 < under_way["rate"] < 4 << 20
    assert shown(behind, "snapshot_in")["index"] == under_way["index"]
    behind.kill()
    behind.start()
    assert_caught_up(slow, behind, ids)
    assert counter(leader, "snapshots_resumed") == 1
    sent = counter(leader, "snapshot_bytes_sent")
    assert sent < under_way["bytes_total"] + (3 << 20), "most of it was not sent twice"
    assert counter(leader, "checkpoints_held") <= 2
    assert shown(leader) == {}
    # What is written from now on reaches it by the log.
    task = leader.call("POST", "/tasks/distributed", {"task_type": "after"}).body["id"]
    assert behind.call("GET", f"/tasks/distributed/{task}").status == 200
    assert counter(leader, "snapshots_sent") == 1


def test_a_receiver_that_is_killed_while_it_installs_finishes(slow: Cluster) -> None:
    leader, behind, ids = leave_behind(slow)
    behind.start()
    until(lambda: shown(leader).get("phase") == "installing", "everything was sent")
    behind.kill()
    behind.start()
    assert_caught_up(slow, behind, ids)
    total = counter(leader, "snapshot_bytes_sent")
    assert total < 12 << 20, f"{total} bytes: everything was sent twice"


def test_a_receiver_that_stands_still_holds_nobody_up(slow: Cluster) -> None:
    leader, behind, ids = leave_behind(slow)
    behind.start()
    until(lambda: shown(leader).get("bytes_sent", 0) > 1 << 20, "the transfer is under way")
    assert behind.process is not None
    behind.process.send_signal(signal.SIGSTOP)
    try:
        for _ in range(50):
            answer = leader.call("POST", "/tasks/distributed", {"task_type": "meanwhile"}, timeout_s=3)
            assert answer.status == 202, answer.raw
        assert slow.leader() is leader
    finally:
        behind.process.send_signal(signal.SIGCONT)
    assert_caught_up(slow, behind, ids)


def test_a_sender_that_is_killed_is_replaced(slow: Cluster) -> None:
    leader, behind, ids = leave_behind(slow)
    behind.start()
    until(lambda: shown(leader).get("bytes_sent", 0) > 1 << 20, "the transfer is under way")
    leader.kill()
    slow.restart(leader)
    assert_caught_up(slow, behind, ids)
