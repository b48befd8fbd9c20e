"""The demo's parts that need no cluster: its computations, plan, board, report."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from taskquorum import Agent, AsyncClient
from taskquorum.demo import text
from taskquorum.demo.board import Board, percentile
from taskquorum.demo.corpus import NoCorpus, choose
from taskquorum.demo.findings import Findings
from taskquorum.demo.plan import Plan, canonical
from taskquorum.demo.report import render
from taskquorum.demo.work import agent as demo_agent
from taskquorum.task import WatchEvent

from .fake import fake_servers
from .test_agent import running

SENTENCES = ("quorum leader election term vote", "lexer token parser grammar syntax", "socket packet stream buffer frame")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twenty small files of three subjects."""
    for number in range(20):
        subject = SENTENCES[number % 3]
        body = f"{subject} number{number} " * 30 + f"\n{subject}s and the rest {'x' * number}\n"
        (tmp_path / f"file{number:02}.txt").write_text(body)
    (tmp_path / "image.png").write_bytes(b"\x89PNG" * 400)
    (tmp_path / "small.txt").write_text("too small")
    return tmp_path


def test_the_choice_of_files_is_even_and_repeatable(folder: Path) -> None:
    everything = choose(folder, 100)
    assert [file.name for file in everything] == [f"file{number:02}.txt" for number in range(20)]
    assert [file.name for file in choose(folder, 5)] == ["file00.txt", "file04.txt", "file08.txt", "file12.txt", "file16.txt"]
    with pytest.raises(NoCorpus):
        choose(folder / "none", 5)


def test_similar_files_are_found_by_their_subject(folder: Path) -> None:
    results = Plan(choose(folder, 20)).compute()
    for name, near in [item for key in results if key.startswith("similar") for item in results[key]["neighbours"]]:
        assert near, name
        assert all(int(other[4:6]) % 3 == int(name[4:6]) % 3 for other, _ in near)
    assert results["report"]["files"] == 20


def test_a_changed_file_is_refused() -> None:
    with pytest.raises(text.InputChanged):
        text.extract("f", b"new", hashlib.sha256(b"old").hexdigest())


def test_computing_twice_gives_the_same_bytes(folder: Path) -> None:
    plan = Plan(choose(folder, 20))
    assert canonical(plan.compute()) == canonical(plan.compute())


def test_every_task_of_the_dag_has_a_local_twin(folder: Path) -> None:
    plan = Plan(choose(folder, 20))
    dag = plan.dag("x")
    assert {task.name for task in dag.tasks} == set(plan.compute())
    names: set[str] = set()
    for task in dag.tasks:
        assert set(task.dependencies) <= names
        names.add(str(task.name))


async def test_agents_compute_what_one_process_does(folder: Path) -> None:
    async with fake_servers() as (_, servers), AsyncClient(servers[0].url) as client:
        plan = Plan(choose(folder, 20))
        agent = Agent(servers[0].url, slots=4)
        agent.functions.update(demo_agent.functions)
        async with running(agent):
            submitted = await client.submit(plan.dag("x"))
            assert (await client.wait(submitted.id, timeout_s=30)).succeeded
            got = {name: await client.result(task_id) for name, task_id in submitted.tasks.items()}
        assert {name: canonical(value) for name, value in got.items()} == {
            name: canonical(value) for name, value in plan.compute().items()
        }


def event(task_id: str, type_: str, agent: str | None = None, epoch: int = 0, status: str | None = None) -> WatchEvent:
    shown: dict[str, Any] = {"status": status or type_, "assigned_agent_id": agent, "epoch": epoch}
    return WatchEvent(1, "task", type_, task_id, shown)


def test_the_board_tells_when_a_killed_agents_tasks_run_elsewhere() -> None:
    """x holds t1 and t2; t2's result was on its way; x is killed; t1 moves to y under the next epoch"""
    board = Board({"t1": "a", "t2": "b", "t3": "c"})
    board.apply(event("t1", "running", "x", 1), 1.0)
    board.apply(event("t2", "running", "x", 1), 1.0)
    board.apply(event("t3", "running", "y", 1), 1.0)
    board.apply(event("other", "running", "x", 1), 1.0)
    assert board.holders() == {"x": 2, "y": 1}
    board.killed("x")
    board.apply(event("t2", "completed", "x", 1), 1.5)
    assert board.victims_left() == 1
    board.apply(event("t1", "revoked", None, 2, "ready"), 5.0)
    board.apply(event("t1", "assigned", "y", 3), 5.1)
    assert board.victims_left() == 1
    board.apply(event("t1", "started", "y", 3, "running"), 5.2)
    assert board.victims_left() == 0
    assert board.victims["t1"].elsewhere_at == 5.2
    assert board.victims["t2"].finished_before
    assert board.completed == 1


def test_percentiles_are_by_nearest_rank() -> None:
    assert percentile([], 0.99) is None
    assert percentile([3.0], 0.99) == 3.0
    assert percentile([float(value) for value in range(100)], 0.99) == 99.0


def test_the_report_escapes_what_it_shows() -> None:
    findings = Findings(folder="<script>", files=1)
    findings.different = []
    findings.result = {"terms": [["<b>", 2]], "pairs": [["<i>", "b", 900]], "most_repetitive": []}
    page = render(findings)
    assert "<script>" not in page and "&lt;script&gt;" in page
    assert "<b></code>" not in page and "90.0 %" in page
    findings.lost = 1
    assert "did NOT pass" in render(findings)
