"""The check of what nodes hold against what clients were told: each planted fault is found, and nothing else."""

import pytest
from trust.ledger import Ack, Findings, Ledger, compare, judge
from trust.suite import Violation


def ledger(acked: dict[str, str], unknown: set[str] = frozenset()) -> Ledger:
    made = Ledger(sent={*acked, *unknown})
    for key, task in acked.items():
        made.acknowledge(Ack(key, task, 0.0, 1.0, "node-1"))
    return made


def test_what_was_acknowledged_once_and_held_once_is_good() -> None:
    told = ledger({"a": "1", "b": "2"}, {"c", "d"})
    held = {"a": ["1"], "b": ["2"], "c": ["3"]}
    assert judge(told, {"node-1": held, "node-2": dict(held)}) == {"acknowledged": 2, "unknown": 2, "lost": 0, "doubled": 0}


@pytest.mark.parametrize(
    ("held", "found"),
    [
        ({"a": ["1"]}, Findings(("b",), (), (), ())),
        ({"a": ["1"], "b": ["2", "9"]}, Findings((), ("b",), (), ())),
        ({"a": ["1"], "b": ["2"], "c": ["3", "4"]}, Findings((), ("c",), (), ())),
        ({"a": ["1"], "b": ["7"]}, Findings((), (), ("b",), ())),
        ({"a": ["1"], "b": ["2"], "x": ["5"]}, Findings((), (), (), ("x",))),
    ],
    ids=["lost", "doubled", "unknown doubled", "another id", "never sent"],
)
def test_each_planted_fault_is_found(held: dict[str, list[str]], found: Findings) -> None:
    told = ledger({"a": "1", "b": "2"}, {"c"})
    assert compare(told, held) == found
    with pytest.raises(Violation, match="node-2"):
        judge(told, {"node-1": {"a": ["1"], "b": ["2"]}, "node-2": held})


def test_two_ids_for_one_key_and_different_nodes_are_found() -> None:
    told = ledger({"a": "1"}, {"c"})
    with pytest.raises(Violation, match="different writes"):
        judge(told, {"node-1": {"a": ["1"], "c": ["3"]}, "node-2": {"a": ["1"]}})
    told.acknowledge(Ack("a", "8", 2.0, 3.0, "node-2"))
    with pytest.raises(Violation, match="acknowledged as 1 and as 8"):
        judge(told, {"node-1": {"a": ["1"]}})
