"""Data directories that earlier releases wrote (tests/golden) are served by this one: same tasks, and work goes on."""

import json
import tarfile
from pathlib import Path

import pytest
from bench.cluster import Cluster, until

pytestmark = pytest.mark.cluster

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
RELEASES = sorted(path.parent for path in GOLDEN.glob("*/expected.json"))
HELD = ("assigned", "running", "cancelling")


@pytest.mark.parametrize("kind", ["clean", "killed"])
@pytest.mark.parametrize("release", RELEASES, ids=lambda path: path.name)
def test_a_directory_of_an_earlier_release_is_served(release: Path, kind: str) -> None:
    expected = json.loads((release / "expected.json").read_text())[kind]
    cluster = Cluster(1)
    with tarfile.open(release / f"{kind}.tar.gz") as tar:
        tar.extractall(cluster.directory, filter="data")
    with cluster:
        node = cluster.nodes["node-1"]
        for task, was in expected["tasks"].items():
            now = node.call("GET", f"/tasks/distributed/{task}?include=events").body
            if was["status"] in HELD or was["status"] == "ready":
                # Its agents are long gone: a lease that ran out gives the task back meanwhile.
                assert now["status"] in (*HELD, "ready", "cancelled"), task
                assert (now["task_data"], now["task_type"]) == (was["task_data"], was["task_type"])
            else:
                # What a later release adds to a task is not looked at.
                assert {name: now[name] for name in was} == was, task
        assert node.call("GET", "/state/config/a").body == expected["keys"]["config/a"]
        assert node.call("GET", "/state/config/b").status == 404
        # The same idempotency key is still the same task, and what is new is written and done.
        again = node.call("POST", "/tasks/distributed", {"task_type": "once"}, Idempotency_Key="golden")
        assert again.body["id"] in expected["tasks"]
        epoch = node.call("POST", "/agents", {"id": "new", "task_types": ["new"]}).body["agent_epoch"]
        assert epoch > expected["revision"]
        task = node.call("POST", "/tasks/distributed", {"task_type": "new"}).body["id"]
        poll = {"agent_epoch": epoch, "poll_seq": 1, "held": [], "max": 1, "wait_ms": 5000}
        held = until(lambda: node.call("POST", "/agents/new/poll", poll).body["assignments"], "the new task is assigned")[0]
        body = {"agent_id": "new", "epoch": held["epoch"], "result": 1}
        assert node.call("POST", f"/tasks/{task}/complete", body).status == 200
        node.kill()
        cluster.restart(node)
        assert node.call("GET", f"/tasks/distributed/{task}").body["status"] == "completed"
