"""Backup of a running cluster and restore into a new one, by the command line and over HTTP."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bench.cluster import Cluster, Node, until

from taskquorum.process import child_environment

pytestmark = pytest.mark.cluster


def command(*arguments: object) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "taskquorum", *map(str, arguments), "--json"]
    return subprocess.run(line, env=child_environment(), capture_output=True, text=True, timeout=120, check=False)


def done(*arguments: object) -> Any:
    result = command(*arguments)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def refused(*arguments: object) -> str:
    result = command(*arguments)
    assert result.returncode == 1, result.stdout
    return result.stderr


@pytest.fixture(scope="module")
def backed_up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Cluster, Path, dict[str, Any], dict[str, str]]]:
    """A cluster, a backup of it, the manifest, and tasks by name: done, running, ready; `later` came after the backup."""
    file = tmp_path_factory.mktemp("backup") / "state.tqb"
    with Cluster(3) as cluster:
        node = cluster.leader()
        epoch = node.call("POST", "/agents", {"id": "worker", "resources": {"slots": 2}}).body["agent_epoch"]
        tasks = {}
        for name in ("done", "running"):
            tasks[name] = node.call("POST", "/tasks/distributed", {"task_type": name, "task_data": {"n": 1}}).body["id"]
            poll = {"agent_epoch": epoch, "poll_seq": 1, "max": 1, "wait_ms": 5000, "held": []}
            held = until(lambda poll=poll: node.call("POST", "/agents/worker/poll", poll).body["assignments"], "assigned")[-1]
            body = {"agent_id": "worker", "epoch": held["epoch"]}
            assert node.call("POST", f"/tasks/{tasks[name]}/start", body).status == 200
            if name == "done":
                assert node.call("POST", f"/tasks/{tasks[name]}/complete", {**body, "result": 42}).status == 200
        tasks["ready"] = node.call("POST", "/tasks/distributed", {"task_type": "x", "requirements": {"labels": {"a": "b"}}}).body[
            "id"
        ]
        assert node.call("PUT", "/state/key", {"value": [1, 2]}).status == 201
        manifest = done("backup", file, "--server", cluster.follower().url)
        tasks["later"] = node.call("POST", "/tasks/distributed", {"task_type": "x"}).body["id"]
        yield cluster, file, manifest, tasks


def test_a_backup_is_one_checked_file_that_is_never_overwritten(
    backed_up: tuple[Cluster, Path, dict[str, Any], dict[str, str]],
) -> None:
    cluster, file, manifest, _ = backed_up
    assert manifest["cluster_id"] == cluster.leader().call("GET", "/cluster/status").body["cluster_id"]
    assert file.stat().st_size > manifest["bytes"]
    assert "never overwritten" in refused("backup", file, "--server", cluster.leader().url)
    assert [path.name for path in file.parent.iterdir()] == [file.name]
    for node in cluster.nodes.values():
        folder = cluster.directory / node.name / "backups"
        assert not folder.exists() or list(folder.iterdir()) == [], "the copy on the disk is gone"


def test_a_backup_becomes_a_new_cluster_with_what_was_there(
    backed_up: tuple[Cluster, Path, dict[str, Any], dict[str, str]],
) -> None:
    old, file, manifest, tasks = backed_up
    new = Cluster(3)
    names = ",".join(new.nodes)
    try:
        for node in new.nodes.values():
            listed = node.command[node.command.index("--cluster") + 1]
            restored = done("restore", file, "--data-dir", new.directory / node.name, "--node-id", node.name, "--cluster", listed)
            assert restored["state_hash"] == manifest["state_hash"]
        new.start()
        for node in new.nodes.values():
            status = node.call("GET", "/cluster/status").body
            assert status["cluster_id"] != manifest["cluster_id"]
            assert sorted(member["node_id"] for member in status["nodes"]) == sorted(names.split(","))
            assert_restored(node, tasks)
        node = new.leader()
        # The agent of the old cluster is told to register again, and its attempt is over.
        assert node.call("POST", "/agents/worker/heartbeat", {"agent_epoch": 1}).status == 409
        stale = {"agent_id": "worker", "epoch": 1, "result": 7}
        assert node.call("POST", f"/tasks/{tasks['running']}/complete", stale).status == 409
        assert node.call("POST", "/tasks/distributed", {"task_type": "x"}).status == 202
        until(lambda: node.call("GET", "/cluster/status").body["state_hash"]["agrees"], "the replicas agree")
        # The old cluster did not notice.
        assert old.leader().call("GET", f"/tasks/distributed/{tasks['later']}").status == 200
    finally:
        new.stop()


def assert_restored(node: Node, tasks: dict[str, str]) -> None:
    found = {name: node.call("GET", f"/tasks/distributed/{task}", timeout_s=20) for name, task in tasks.items()}
    assert found["later"].status == 404
    assert (found["done"].body["status"], found["done"].body["result"]) == ("completed", 42)
    running = found["running"].body
    assert (running["status"], running["epoch"], running["retry_count"]) == ("ready", 2, 0)
    assert (found["ready"].body["status"], found["ready"].body["epoch"]) == ("ready", 0)
    assert node.call("GET", "/state/key").body["value"] == [1, 2]
    assert node.call("GET", "/agents/worker").body["status"] == "lost"


def test_what_is_not_whole_or_not_empty_is_refused(
    backed_up: tuple[Cluster, Path, dict[str, Any], dict[str, str]], tmp_path: Path
) -> None:
    _, file, _, _ = backed_up
    raw = file.read_bytes()
    bad, target = tmp_path / "bad", tmp_path / "target"
    for content, words in (
        (raw[: len(raw) // 2], "cut off"),
        (raw[:-1], "cut off"),
        (raw[:5000] + bytes([raw[5000] ^ 1]) + raw[5001:], "damaged"),
        (raw[:8] + bytes([9]) + raw[9:], "version 9"),
        (b"not a backup", "no backup"),
    ):
        bad.write_bytes(content)
        assert words in refused("restore", bad, "--data-dir", target, "--node-id", "a")
        assert list(tmp_path.iterdir()) == [bad], "nothing is left behind"
    target.mkdir()
    (target / "file").write_text("x")
    assert "not empty" in refused("restore", file, "--data-dir", target, "--node-id", "a")


def test_a_restored_node_is_not_taken_for_another(
    backed_up: tuple[Cluster, Path, dict[str, Any], dict[str, str]], tmp_path: Path
) -> None:
    """Nor does it enter the old cluster when it is started with the old cluster's addresses."""
    old, file, _, _ = backed_up
    new = Cluster(1)
    node = new.nodes["node-1"]
    done("restore", file, "--data-dir", new.directory / node.name, "--node-id", "node-1")
    port = node.command[node.command.index("--raft") + 1]
    listed = old.nodes["node-1"].command[old.nodes["node-1"].command.index("--cluster") + 1].split(",")
    others = [entry for entry in listed if not entry.startswith("node-1=")]
    node.command[node.command.index("--cluster") + 1] = ",".join([f"node-1={port}", *others])
    node.start()
    try:
        until(lambda: "exists and does not know this directory" in node.log_tail(), "it says that it is not let in", 20)
        assert node.try_call("GET", "/readyz").status == 503  # type: ignore[union-attr]
        before = old.leader().call("GET", "/cluster/status").body["term"]
        assert old.leader().call("POST", "/tasks/distributed", {"task_type": "x"}).status == 202
        assert old.leader().call("GET", "/cluster/status").body["term"] == before
    finally:
        new.stop()
