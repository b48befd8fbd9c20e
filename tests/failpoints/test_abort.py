"""DESIGN rule 5: a panic in a vital thread aborts the process, and one bad command is refused everywhere and kills nobody."""

import signal

import pytest
from bench.cluster import until
from trust.failpoints import FailpointFleet
from trust.verify import Load, converged, verify

pytestmark = pytest.mark.cluster


@pytest.mark.parametrize(
    ("place", "thread"),
    [
        ("runtime::raft_thread::step", "raft"),
        ("runtime::apply_thread::step_before", "apply"),
        ("runtime::log_writer::append_before", "log"),
        ("transport::conn::read", "net"),
    ],
)
def test_a_panic_aborts_the_process(fleet: FailpointFleet, place: str, thread: str) -> None:
    """panic in one thread of the leader → SIGABRT at once, the thread is named, the others go on, nothing is lost."""
    fleet.start()
    with Load(fleet, "panic", clients=4, rate=200) as load:
        load.wait_for(20)
        leader = fleet.leader()
        fleet.set(leader, place, "1*panic")
        assert fleet.wait_dead(leader) == -signal.SIGABRT
        assert f"the {thread} thread failed" in leader.log.read_text()
        load.wait_for(20)
        fleet.restart(leader)
        load.wait_for(20)
    assert verify(fleet, load.ledger, "panic")["lost"] == 0


def test_a_command_that_breaks_an_invariant_is_refused_everywhere(fleet: FailpointFleet) -> None:
    """The same command is treated as a breach on every node (the count runs alike from the first entry on): it is answered
    with 500 `internal_invariant`, its bytes are kept on each node, and all states stay equal."""
    # Counted commands are applied alike on all nodes; far enough in that it is one of the submits below.
    for node in fleet.nodes.values():
        fleet.start_with(node, "machine::machine::invariant=40*off->1*return(breach)")
    fleet.wait_ready()
    answers = [fleet.leader().call("POST", "/tasks/distributed", {"task_type": "t"}) for _ in range(60)]
    refused = [answer.body for answer in answers if answer.status != 202]
    assert [(answer["status"], answer["code"]) for answer in refused] == [(500, "internal_invariant")]
    until(lambda: converged(fleet.nodes.values()), "all nodes have applied the same")
    for node in fleet.nodes.values():
        assert node.alive
        kept = list((fleet.data[node.name] / "quarantine").iterdir())
        assert len(kept) == 1, "the command's bytes are kept for study"
        assert kept[0].stat().st_size > 0
        assert "would have broken an invariant" in node.log.read_text()
