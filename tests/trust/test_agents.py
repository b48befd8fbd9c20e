"""The judge of the suite `agents` can fail: a task as the cluster would show it after each kind of bug."""

from typing import Any

import pytest
from bench.cluster import Answer
from trust.suite import Violation
from trust.suites.agents import judge_one, refused


def task(*events: tuple[str, int, str | None], result: object = "b", status: str = "completed") -> dict[str, Any]:
    shown = [{"type": kind, "epoch": epoch, "agent_id": agent} for kind, epoch, agent in events]
    return {"id": "t", "status": status, "result": result, "events": shown}


TAKEN_BACK = (("submitted", 0, None), ("assigned", 1, "a"), ("revoked", 2, "a"), ("assigned", 3, "b"))


def test_a_task_that_was_taken_back_and_ended_once_is_good() -> None:
    judge_one(task(*TAKEN_BACK, ("completed", 3, "b")), "b")


@pytest.mark.parametrize(
    ("shown", "words"),
    [
        (task(*TAKEN_BACK, ("completed", 3, "b"), ("completed", 3, "a")), "ended 2 times"),
        (task(*TAKEN_BACK, ("completed", 3, "b"), result="a"), "was accepted"),
        (task(*TAKEN_BACK, status="running"), "is running"),
        (task(*TAKEN_BACK, ("completed", 1, "a")), "epochs fell"),
        (task(*TAKEN_BACK, ("assigned", 3, "c"), ("completed", 3, "b")), "handed over twice"),
    ],
)
def test_what_must_not_be_is_a_violation(shown: dict[str, Any], words: str) -> None:
    with pytest.raises(Violation, match=words):
        judge_one(shown, "b")


def test_only_a_409_is_a_refusal() -> None:
    assert refused(Answer(409, {}, b'{"code": "stale_epoch"}'), "x") == 1
    for status, raw in ((200, b"{}"), (409, b'{"code": "stale_agent"}')):
        with pytest.raises(Violation):
            refused(Answer(status, {}, raw), "x")
