"""The course of the demo over fake servers and real agent processes: both deaths, and the comparison."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import orjson
import pytest

from taskquorum.demo import DemoOptions
from taskquorum.demo.drive import Course
from taskquorum.dev import AgentSpec, Child, Fleet

from .fake import FakeCluster, FakeServer
from .test_demo import folder

__all__ = ["folder"]


class FakeNode(Child):
    """A node that is a fake server in this process."""

    server: FakeServer

    @property
    def running(self) -> bool:
        return True

    async def start(self) -> None:
        await self.server.start(int(self.command[0]))

    def kill(self, number: int = 9) -> float:
        self.server.cluster.leader = None
        self.stopping = asyncio.create_task(self._die())
        return time.monotonic()

    async def _die(self) -> None:
        await self.server.stop()
        self.server.cluster.leader = "node-2"

    async def stop(self) -> None:
        await self.server.stop()


class MortalAgent(Child):
    """An agent process whose lease runs out as soon as it is killed."""

    cluster: FakeCluster

    def kill(self, number: int = 9) -> float:
        at = super().kill()
        self.expiring = asyncio.create_task(self.cluster.expire(self.name))
        return at


class FakeFleet(Fleet):
    """Three addresses of one fake cluster; agents are processes."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, nodes=3)
        self.cluster = FakeCluster()
        self.cluster.leader = "node-1"
        for name, url in self.urls.items():
            node = FakeNode(name, [url.rsplit(":", 1)[1]], directory / "none.log")
            node.server = FakeServer(self.cluster)
            self.nodes[name] = node

    def add_agent(self, spec: AgentSpec) -> Child:
        planned = super().add_agent(spec)
        child = MortalAgent(planned.name, planned.command, planned.log)
        child.cluster = self.cluster
        self.agents[spec.name] = child
        return child


async def run_course(folder: Path, out: Path) -> tuple[int, Course]:
    options = DemoOptions(folder=folder, files=20, report=out / "report.html", json=True)
    course = Course(options, FakeFleet(out / "fleet"))
    return await asyncio.wait_for(course.run(), 60), course


async def test_the_demo_survives_both_deaths_and_compares(
    folder: Path, tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path_factory.mktemp("out")
    code, course = await run_course(folder, out)
    summary = orjson.loads(capsys.readouterr().out)
    assert code == 0, summary
    assert summary["different"] == []
    assert summary["lost"] == 0
    assert summary["leader_recovery_s"] > 0
    assert summary["duplicates_refused"] == summary["tasks_moved"]
    assert sum(summary["completed_by_agent"].values()) == summary["tasks"] - 1
    page = (out / "report.html").read_text()
    assert "Nothing was lost" in page and "killed" in page
    assert not any(child.running for child in course.fleet.agents.values())


async def test_a_wrong_result_is_noticed(
    folder: Path, tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    original = FakeCluster.result

    async def forge(self: FakeCluster, agent_id: str, item: dict[str, Any]) -> dict[str, Any]:
        if self.tasks[item["task_id"]]["task_type"] == "idf" and "documents" in item["result"]:  # Not the dead agent's.
            item["result"]["documents"] += 1
        return await original(self, agent_id, item)

    monkeypatch.setattr(FakeCluster, "result", forge)
    code, _ = await run_course(folder, tmp_path_factory.mktemp("out"))
    summary = orjson.loads(capsys.readouterr().out)
    assert code == 1
    assert summary["different"] == ["idf"]
