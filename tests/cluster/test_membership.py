"""Real processes that join, leave and are replaced under load: nothing acknowledged is lost, and the command line does it.

Every change goes through `taskquorum cluster …` as an operator would run it; what was measured is printed (`pytest -s`).
"""

import json
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
from bench.cluster import Cluster, Node, until
from trust.verify import Load, verify

from taskquorum.process import child_environment

pytestmark = pytest.mark.cluster
REMOVED_CODE = 3


@pytest.fixture
def grown() -> Iterator[Cluster]:
    """Three nodes of its own: the tests here leave other nodes behind."""
    with Cluster(3) as cluster:
        yield cluster


def command(cluster: Cluster, *arguments: str, code: int = 0) -> dict[str, object]:
    """`taskquorum cluster ARGUMENTS --json` against all nodes; its answer, or the error's text under `error`."""
    servers = ",".join(node.url for node in cluster.nodes.values())
    line = [sys.executable, "-m", "taskquorum", "cluster", *arguments, "--json", "--server", servers]
    done = subprocess.run(line, capture_output=True, text=True, timeout=180, env=child_environment(), check=False)
    assert done.returncode == code, done.stderr
    return json.loads(done.stdout) if done.stdout.strip() else {"error": done.stderr}


def membership(node: Node) -> dict[str, object]:
    answer = node.try_call("GET", "/cluster/status")
    return answer.body["membership"] if answer is not None and answer.status == 200 else {}


def voters(cluster: Cluster) -> set[str]:
    found = membership(cluster.leader())
    assert found.get("joint") is False, found
    return set(found["voters"])  # type: ignore[call-overload]


def wait_removed(node: Node) -> None:
    """The process ends by itself, with the code and the words that the documentation promises."""
    assert node.process is not None
    assert node.process.wait(30) == REMOVED_CODE
    assert "was removed from cluster" in node.log_tail()


@pytest.mark.timeout(300)
def test_three_nodes_grow_to_five_and_shrink_to_three_under_load(grown: Cluster) -> None:
    with Load(grown, "grow", clients=4, rate=100) as load:
        load.wait_for(20)
        for name in ("node-4", "node-5"):
            node = grown.join(name)
            began = time.monotonic()
            answer = command(grown, "add", name, "--address", grown.raft[name])
            print(f"{name} is a voter {time.monotonic() - began:.1f} s after it was asked for")
            assert answer["done"] is True
            grown.wait_ready(node)
        assert voters(grown) == {f"node-{n}" for n in range(1, 6)}
        load.wait_for(20)
        for name in ("node-1", "node-2"):
            leaving = grown.nodes[name]
            assert command(grown, "remove", name)["done"] is True
            wait_removed(leaving)
            grown.forget(leaving)
        load.wait_for(20)
    assert voters(grown) == {"node-3", "node-4", "node-5"}
    counts = verify(grown, load.ledger, "grow")
    print(counts)
    assert counts["acknowledged"] > 60


@pytest.mark.timeout(300)
def test_one_of_three_is_wiped_and_replaced_by_one_command(grown: Cluster) -> None:
    lost = grown.follower()
    with Load(grown, "replace", clients=4, rate=100) as load:
        load.wait_for(50)
        lost.kill()
        grown.wipe(lost)
        lost.start()
        until(lambda: "cluster replace" in lost.log_tail(), "it says what it waits for")
        refused = lost.call("GET", "/readyz")
        assert refused.status == 503 and "cluster replace" in refused.body["detail"]
        began = time.monotonic()
        assert command(grown, "replace", lost.name)["done"] is True
        print(f"replaced {time.monotonic() - began:.1f} s after it was asked for")
        grown.wait_ready(lost)
        load.wait_for(50)
    assert voters(grown) == {"node-1", "node-2", "node-3"}
    counts = verify(grown, load.ledger, "replace")
    print(counts)
    assert counts["lost"] == 0
    # Any two of the three are a quorum again, the new directory among them.
    other = next(node for node in grown.nodes.values() if node is not lost and node is not grown.leader())
    other.kill()
    assert lost.call("PUT", "/state/after", {"value": 1}, timeout_s=20).status == 201


@pytest.mark.timeout(300)
def test_the_leader_is_removed_and_what_would_lose_the_quorum_is_not(grown: Cluster) -> None:
    leader = grown.leader()
    with Load(grown, "leader", clients=4, rate=100) as load:
        load.wait_for(20)
        assert command(grown, "remove", leader.name)["done"] is True
        wait_removed(leader)
        grown.forget(leader)
        load.wait_for(20)
    assert leader.name not in voters(grown)
    counts = verify(grown, load.ledger, "leader")
    print(counts)
    left = grown.leader()
    other = next(node for node in grown.nodes.values() if node is not left)
    answer = left.call("DELETE", "/cluster/members/nobody")
    assert (answer.status, answer.body["code"]) == (404, "not_found")
    alive = left.call("POST", "/cluster/members", {"node_id": other.name, "replace": other.name})
    assert (alive.status, alive.body["code"]) == (409, "member_alive")
    # The removed one starts again from its old directory: it is told, and stops.
    leader.start()
    wait_removed(leader)


@pytest.mark.timeout(300)
def test_a_spare_takes_the_place_of_a_voter_that_was_killed() -> None:
    cluster = Cluster(3)
    config = cluster.directory / "settings.toml"
    config.write_text("[node]\nreplace_dead_ms = 4000\n")
    for node in cluster.nodes.values():
        node.command += ["--config", str(config)]
    with cluster:
        spare = cluster.join("node-4", "--config", str(config))
        assert command(cluster, "add", "node-4", "--address", cluster.raft["node-4"], "--role", "learner")["done"] is True
        cluster.wait_ready(spare)
        leader = cluster.leader()
        dead = next(node for node in cluster.alive if node not in (spare, leader))
        with Load(cluster, "spare", clients=2, rate=50, nodes=[n for n in cluster.alive if n is not dead]) as load:
            load.wait_for(20)
            killed = dead.kill()
            until(lambda: "node-4" in membership(cluster.leader()).get("voters", []), "the spare votes", 60)
            print(f"the spare votes {time.monotonic() - killed:.1f} s after the kill")
            load.wait_for(20)
            cluster.restart(dead)
            until(lambda: dead.name in membership(cluster.leader()).get("learners", []), "the dead one is a spare now")
        assert len(voters(cluster)) == 3
        print(verify(cluster, load.ledger, "spare"))
