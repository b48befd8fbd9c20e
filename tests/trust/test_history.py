"""What is recorded is what the checker reads, and an answer's outcome is never better than it was."""

from pathlib import Path

import pytest
from trust.asking import Answer
from trust.history import History, check, checker, now_us
from trust.suite import Skip, Violation


@pytest.mark.parametrize(
    ("status", "body", "outcome"),
    [
        (0, None, "unknown"),
        (503, {"code": "outcome_unknown"}, "unknown"),
        (503, {"code": "no_leader"}, "none"),
        (429, {"code": "busy"}, "none"),
        (200, {}, "answered"),
        (404, {"code": "not_found"}, "answered"),
        (409, {"code": "stale_epoch"}, "answered"),
        (412, {"code": "precondition_failed"}, "answered"),
    ],
)
def test_outcomes(status: int, body: object, outcome: str) -> None:
    assert Answer(status, body, 0, 1, "node-1").outcome == outcome


@pytest.mark.parametrize("status", [400, 422, 500])
def test_what_a_correct_client_is_never_told_is_an_error(status: int) -> None:
    with pytest.raises(AssertionError):
        assert Answer(status, {"code": "x"}, 0, 1, "node-1").outcome


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    try:
        checker()
    except Skip as skip:
        pytest.skip(str(skip))
    return tmp_path / "history.jsonl"


def write(path: Path, seen: int) -> None:
    """A write of 1, one of 2 whose outcome is unknown, and a read that sees `seen`."""
    with History(path) as history:
        process, key = history.process(), ("key", "k")
        shown = {"ok": True, "key": {"revision": 5, "version": 1}}
        history.add(process, now_us(), key, "put", {"value": 1}, "answered", shown, "node-1")
        history.add(history.process(), now_us(), key, "put", {"value": 2}, "unknown", None, "node-2")
        shown = {"ok": True, "key": {"value": seen, "revision": 4 + seen, "version": seen}}
        history.add(process, now_us() + 10, key, "get", None, "answered", shown, "node-3", now_us() + 20)
        assert (history.operations, history.unknown) == (3, 1)


@pytest.mark.parametrize("seen", [1, 2])
def test_an_unknown_outcome_is_both(recorded: Path, seen: int) -> None:
    write(recorded, seen)
    assert "linearizable (3 operations" in check(recorded)


def test_what_nobody_wrote_is_a_violation(recorded: Path) -> None:
    write(recorded, 3)
    with pytest.raises(Violation, match="line 3"):
        check(recorded)


def test_a_file_that_cannot_be_read_is_no_verdict(recorded: Path) -> None:
    recorded.write_text("{}\n")
    with pytest.raises(RuntimeError, match="line 1"):
        check(recorded)
