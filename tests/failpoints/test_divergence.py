"""A planted divergence on real nodes: one replica refuses a command that the others apply.

Nobody is told; the exchange of state hashes finds it within seconds. The one that is apart fences itself, keeps its state
aside, and is installed again from the others; no acknowledged write is missing on it afterwards.
"""

import pytest
from bench.cluster import Node, until
from trust.failpoints import FailpointFleet
from trust.verify import Load, status_of, verify

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(180)]


def fences(node: Node) -> int:
    """How often this process has fenced itself, by its metric."""
    answer = node.try_call("GET", "/metrics")
    lines = answer.raw.decode().splitlines() if answer is not None else []
    return sum(int(float(line.rsplit(" ", 1)[1])) for line in lines if line.startswith("taskquorum_fences"))


def agrees(node: Node) -> bool:
    """Whether this node sees no replica that differs from it."""
    status = status_of(node)
    return status is not None and status["state_hash"]["agrees"] is True


@pytest.mark.parametrize("role", ["follower", "leader"])
def test_a_replica_that_is_apart_fences_itself_and_is_installed_again(fleet: FailpointFleet, role: str) -> None:
    fleet.start()
    run = f"divergence-{role}"
    with Load(fleet, run, clients=4, rate=100) as load:
        load.wait_for(50)
        victim = fleet.leader() if role == "leader" else fleet.follower()
        # Until it is found, a leader that is apart answers from its own state: what it refused and is sent again would be new
        # to it. So nobody tries again before.
        with load.paused():
            fleet.set(victim, "machine::machine::invariant", "1*return(skip)")
            fleet.leader().call("POST", "/tasks/distributed", {"task_type": "planted"})
            until(lambda: fences(victim) == 1, f"{victim.name} has fenced itself", 30)
        load.wait_for(50)
        fleet.wait_back(victim)
    # What it said before is remembered until its next hash, which needs no further write.
    until(lambda: all(agrees(node) for node in fleet.nodes.values()), "all say that all agree", 30)
    # Its history as well as its state is that of the others.
    counts = verify(fleet, load.ledger, run)
    assert counts["lost"] == counts["doubled"] == 0
    answer = victim.call("POST", "/cluster/verify", {"timeout_ms": 10_000}).body
    assert answer["complete"] and answer["agrees"] and len(answer["nodes"]) == 3
    (kept,) = victim.call("GET", "/cluster/status").body["kept_aside"]
    aside = fleet.directory / victim.name / kept
    assert list(aside.glob("state-*/CURRENT")), "the state that was apart is kept for study"
    assert (aside / "REASON").read_text()
    assert sum(fences(node) for node in fleet.nodes.values()) == 1, "nobody else was suspected"
