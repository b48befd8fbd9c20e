"""Damaged directories of real nodes: one is repaired from the others, a majority stops the cluster safely.

What is damaged is the witness file, both of whose slots lose their checksums: then nobody can say how far the log had certainly
come, so that the node must not vote with it.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from bench.cluster import Cluster, Node, until

from taskquorum.process import free_ports

KEYS = 30


def write_keys(node: Node) -> None:
    for number in range(KEYS):
        answer = node.call("PUT", f"/state/key-{number}", {"value": number})
        assert answer.status in (200, 201), answer.raw


def check_keys(node: Node) -> None:
    for number in range(KEYS):
        answer = node.call("GET", f"/state/key-{number}?consistency=local")
        assert (answer.status, answer.body.get("value")) == (200, number)


def damage_witness(data: Path) -> None:
    path = data / "witness"
    raw = bytearray(path.read_bytes())
    # The first byte behind the header of each slot: a slot that was written once has but two.
    for at in (12, 4096 + 12):
        raw[at] ^= 1
    path.write_bytes(raw)


def fenced_or_waiting(node: Node) -> str:
    answer = node.try_call("GET", "/cluster/status")
    return str(answer.body["waiting"] or "") if answer is not None and answer.status == 200 else ""


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """Its ports lie below the kernel's own range: nobody takes that of a node that is down."""
    with Cluster(3, ports=free_ports(6, preferred=24_400)) as running:
        yield running


def test_a_node_with_a_damaged_log_is_taken_in_again_by_itself(cluster: Cluster) -> None:
    leader = cluster.leader()
    write_keys(leader)
    victim = cluster.follower()
    data = cluster.directory / victim.name
    victim.kill()
    damage_witness(data)
    cluster.restart(victim)
    said = victim.log.read_text()
    assert "neither slot of the witness file is whole" in said
    status = victim.call("GET", "/cluster/status").body
    (kept,) = status["kept_aside"]
    assert (data / kept / "witness").exists() and (data / kept / "log" / "CURRENT").exists()
    until(
        lambda: (
            victim.call("GET", "/cluster/status").body["applied_index"]
            >= leader.call("GET", "/cluster/status").body["applied_index"]
        ),
        "it caught up",
    )
    check_keys(victim)
    answer = victim.call("POST", "/cluster/verify", {"timeout_ms": 10_000}).body
    assert answer["complete"] and answer["agrees"] and len(answer["nodes"]) == 3
    quorum = until(lambda: _quorum_of_three(victim), "three voters")
    assert quorum["healthy"] == 3


def _quorum_of_three(node: Node) -> "dict[str, int] | None":
    quorum = node.call("GET", "/cluster/status").body["quorum"]
    return quorum if quorum["voters"] == 3 and quorum["healthy"] == 3 else None


def test_a_node_without_its_state_keeps_its_identity(cluster: Cluster) -> None:
    leader = cluster.leader()
    write_keys(leader)
    victim = cluster.follower()
    data = cluster.directory / victim.name
    victim.kill()
    (state,) = data.glob("state-*")
    (state / "CURRENT").write_bytes(b"")
    cluster.restart(victim)
    assert "CURRENT" in victim.log.read_text()
    (kept,) = victim.call("GET", "/cluster/status").body["kept_aside"]
    assert (data / kept / state.name).exists()
    answer = victim.call("POST", "/cluster/verify", {"timeout_ms": 10_000}).body
    assert answer["complete"] and answer["agrees"]
    check_keys(victim)


def test_damage_on_a_majority_stops_safely_and_the_original_files_bring_it_back(cluster: Cluster, tmp_path: Path) -> None:
    write_keys(cluster.leader())
    damaged = list(cluster.nodes.values())[1:]
    for node in damaged:
        node.kill()
        shutil.copytree(cluster.directory / node.name, tmp_path / node.name)
        damage_witness(cluster.directory / node.name)
    for node in damaged:
        node.start()
    for node in damaged:
        until(lambda node=node: "put their original files back" in fenced_or_waiting(node), f"{node.name} says what to do", 60)
        assert node.call("GET", "/readyz").status == 503
        assert list((cluster.directory / node.name).glob("damaged-*/log/CURRENT")), "its files are kept"
    sound = cluster.nodes["node-1"]
    until(lambda: sound.call("GET", "/cluster/status").body["leader"] is None, "nobody leads")
    for node in damaged:
        node.kill()
        data = cluster.directory / node.name
        for path in [*data.glob("state-*"), data / "log"]:
            shutil.rmtree(path, ignore_errors=True)
        shutil.copytree(tmp_path / node.name, data, dirs_exist_ok=True, ignore=shutil.ignore_patterns("LOCK"))
        node.start()
    cluster.wait_ready()
    for node in cluster.nodes.values():
        until(lambda node=node: node.call("GET", f"/state/key-{KEYS - 1}?consistency=local").status == 200, "it has applied all")
        check_keys(node)
