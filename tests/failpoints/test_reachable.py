"""Each failpoint is reached by what `trust/crashes.py` says reaches it: a place that nothing reaches would test nothing."""

import random
import re
import signal
from pathlib import Path

import pytest
from bench.cluster import until
from trust.crashes import CASES, Reach, behind, cut_off
from trust.failpoints import CRASH, FailpointFleet
from trust.verify import Load

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

ROOT = Path(__file__).resolve().parents[2]
# The process ends with them: shown by crashing there.
STOP = {place for trigger, place, _ in CASES if trigger.name == "stop"}


def test_every_place_has_a_case() -> None:
    named = set(re.findall(r"^\| `([a-z_:]+)` \|", (ROOT / "docs" / "failpoints.md").read_text(), re.MULTILINE))
    assert {place for _, place, _ in CASES} == named


def test_every_place_is_reached(fleet: FailpointFleet) -> None:
    """found · load · checkpoint · a node far behind · entries of a cut-off leader · leadership handed over · stops."""
    seen: set[str] = set()

    def look() -> None:
        for node in fleet.alive:
            seen.update(fleet.hits(node))

    fleet.start()
    look()
    with Load(fleet, "reach", clients=8, rate=300) as load:
        load.wait_for(50)
        look()
        late = fleet.follower()
        behind(fleet, load, late)
        look()
        fleet.restart(late)
        fleet.leader().call("POST", "/cluster/snapshot", {})
        look()
        leader = fleet.leader()
        with cut_off(fleet, load, leader):
            fleet.restart(leader)
            until(lambda: look() or "store::log::tail_cut" in seen, "the cut-off leader's entries are replaced")
        fleet.leader().call("POST", "/cluster/transfer-leader", {})
        load.wait_for(20)
        look()
        for place in sorted(STOP):
            node = fleet.follower()
            fleet.set(node, place, CRASH)
            node.process.send_signal(signal.SIGTERM)
            fleet.wait_crashed(node)
            seen.add(place)
            fleet.restart(node)
    look()
    missing = {place for _, place, _ in CASES} - seen
    assert not missing, f"never reached: {sorted(missing)}"


def test_a_crash_is_told_apart_from_another_end(fleet: FailpointFleet) -> None:
    fleet.start()
    with Load(fleet, "crash", clients=2, rate=100) as load:
        load.wait_for(5)
        Reach(fleet, load, random.Random(1)).crash(*next(case for case in CASES if case[0].name == "load"))
        node = fleet.follower()
        node.kill()
        with pytest.raises(RuntimeError, match="not at a failpoint"):
            fleet.wait_crashed(node)
