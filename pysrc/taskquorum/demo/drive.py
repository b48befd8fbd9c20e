"""The course of the demo: start the fleet, submit, kill, watch it recover, compare.

`Course` acts; what it learns goes into `Findings`, which the screen (screen.py) shows and the
report (report.py) tells.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from taskquorum.cli.output import print_json, say
from taskquorum.client import AsyncClient
from taskquorum.demo import DemoOptions
from taskquorum.demo.board import Board
from taskquorum.demo.corpus import choose, default_folder
from taskquorum.demo.findings import Findings
from taskquorum.demo.plan import Plan, canonical
from taskquorum.demo.probe import Probe
from taskquorum.demo.report import write_report
from taskquorum.demo.screen import Screen
from taskquorum.dev import AgentSpec, Fleet
from taskquorum.errors import ConflictError, ProblemError, ServerUnreachableError, TaskquorumError
from taskquorum.task import Submitted

NODES = 3
_ABLE = {
    "reader-1": {"read": 0.9, "write": 0.5},
    "reader-2": {"read": 0.9},
    "reader-3": {"read": 0.6, "language": 0.9},
    "linguist": {"language": 0.9, "aggregate": 0.6},
    "analyst": {"aggregate": 0.9, "compare": 0.8},
    "author": {"compare": 0.6, "write": 0.9},
}
AGENTS = tuple(AgentSpec(name, "taskquorum.demo.work:agent", able, slots=4, niceness=5) for name, able in _ABLE.items())
"""Every capability is there twice, so that any one agent can be lost."""
JOB_S = 600.0
"""The demo fails when the job takes longer."""
RECOVERY_S = 60.0
LEADER_S = 0.2
"""How often the leader is asked for."""
FETCH_AT_ONCE = 16


class DemoFailed(TaskquorumError):
    """The demo did not show what it should; the text says what was different."""


def drive(options: DemoOptions) -> int:
    """Runs the demo and returns its exit code; SIGTERM and Ctrl-C end every child process."""
    directory = options.data_dir or Path(tempfile.mkdtemp(prefix="taskquorum-demo-"))
    directory.mkdir(parents=True, exist_ok=True)
    keep = options.keep or options.data_dir is not None
    try:
        return asyncio.run(_guarded(options, directory))
    except (ServerUnreachableError, DemoFailed) as error:
        keep = True
        say(f"taskquorum demo: {error}")
        return 1
    except asyncio.CancelledError:
        return 130
    finally:
        if keep:
            say(f"data and logs are kept in {directory}")
        else:
            shutil.rmtree(directory, ignore_errors=True)


async def _guarded(options: DemoOptions, directory: Path) -> int:
    course = asyncio.create_task(Course(options, Fleet(directory, nodes=NODES)).run())
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, course.cancel)
    return await course


class Course:
    """One run."""

    def __init__(self, options: DemoOptions, fleet: Fleet) -> None:
        self.options = options
        self.fleet = fleet
        self.client = AsyncClient(self.fleet.servers, timeout_s=RECOVERY_S)
        self.findings = Findings()
        self.screen = Screen(self.findings, quiet=options.json)
        self.probe = Probe(list(self.fleet.urls.values()))

    async def run(self) -> int:
        folder = self.options.folder or default_folder()
        files = await asyncio.to_thread(choose, folder, self.options.files)
        plan = Plan(files)
        self.findings.folder, self.findings.files = str(folder), len(files)
        self.findings.bytes = sum(file.bytes for file in files)
        helpers: list[asyncio.Task[None]] = []
        with self.screen:
            try:
                self.findings.note(f"starting {NODES} nodes and {len(AGENTS)} agents")
                await self._start()
                helpers += [asyncio.create_task(self._follow_leader()), asyncio.create_task(self.probe.run())]
                helpers.append(asyncio.create_task(self.screen.run()))
                submitted = await self._submit(plan)
                helpers.append(asyncio.create_task(self._follow_job(submitted.revision)))
                await asyncio.wait_for(self._play(submitted, helpers), JOB_S)
                await self._zombie()
                results = await self._fetch(submitted)
                await self._settle()
            finally:
                for helper in helpers:
                    helper.cancel()
                await asyncio.gather(*helpers, return_exceptions=True)
                await self.client.close()
                await self.fleet.stop()
            await self._compare(plan, results)
        return self._finish()

    async def _start(self) -> None:
        started = time.monotonic()
        await self.fleet.start_nodes()
        for spec in AGENTS:
            self.fleet.add_agent(spec)
            self.findings.agents[spec.name] = dict(spec.capabilities)
        await self.fleet.start_agents()
        while True:
            up = [agent for agent in (await self.client.agents()).items if agent.get("status") in ("up", None)]
            if len(up) >= len(AGENTS):
                break
            if time.monotonic() - started > RECOVERY_S:
                raise DemoFailed(f"only {len(up)} of {len(AGENTS)} agents registered; see {self.fleet.directory}/logs")
            await asyncio.sleep(0.05)
        self.findings.note(f"all are there after {time.monotonic() - started:.1f} s")

    async def _submit(self, plan: Plan) -> Submitted:
        dag = plan.dag(str(os.getpid()))
        submitted = await self.client.submit(dag)
        ids = {task_id: name for name, task_id in submitted.tasks.items()}
        self.findings.board = Board({submitted.id: "job", **ids})
        self.findings.started_at = time.monotonic()
        self.findings.note(f"submitted {len(dag.tasks)} tasks in one DAG over {self.findings.files} files")
        return submitted

    # ---- following ------------------------------------------------------------------------------

    async def _follow_job(self, from_revision: int) -> None:
        async for event in self.client.watch(kinds=["task"], from_revision=from_revision):
            self.findings.board.apply(event, time.monotonic())
            self.findings.changed()

    async def _follow_leader(self) -> None:
        while True:
            with contextlib.suppress(TaskquorumError):
                leader = (await self.client.cluster_status()).get("leader")
                self.findings.leader = leader["node_id"] if isinstance(leader, dict) else leader
            self.findings.p99_ms = self.probe.p99_ms()
            await asyncio.sleep(LEADER_S)

    # ---- the two deaths -------------------------------------------------------------------------

    async def _play(self, submitted: Submitted, helpers: list[asyncio.Task[None]]) -> None:
        """From the submit to the end of the job, with a leader and an agent killed on the way."""
        board = self.findings.board
        await self._until(lambda: board.completed >= board.total / 3, helpers)
        killed = await self._kill_leader()
        await self._until(lambda: board.completed >= board.total * 2 / 3, helpers)
        await self._kill_agent(helpers)
        self.findings.note(f"starting {killed} again")
        await self.fleet.nodes[killed].start()
        state = await self.client.wait(submitted.id)
        self.findings.ended_at = time.monotonic()
        if not state.succeeded:
            raise DemoFailed(f"the job ended as {state.status}: {state.error}")
        await self._until(lambda: board.completed >= board.total, helpers)
        self.findings.note(f"the job is done after {self.findings.elapsed():.1f} s")

    async def _until(self, reached: Any, helpers: list[asyncio.Task[None]]) -> None:
        """Waits at each change; a helper that fails ends the demo with its error."""
        waiting = asyncio.create_task(self.findings.until(reached))
        await asyncio.wait({waiting, *helpers}, return_when=asyncio.FIRST_COMPLETED)
        for helper in helpers:
            if helper.done():
                waiting.cancel()
                helper.result()
        await waiting

    async def _kill_leader(self) -> str:
        while (leader := self.findings.leader) is None:
            await asyncio.sleep(0.01)
        killed_at = self.fleet.nodes[leader].kill()
        self.findings.mark(f"{leader} (leader) killed", killed_at)
        self.findings.note(f"killed the leader {leader} with SIGKILL")
        accepted_at = await self.probe.first_after(killed_at, RECOVERY_S)
        if accepted_at is None:
            raise DemoFailed(f"no write was accepted within {RECOVERY_S:.0f} s after the leader was killed")
        self.findings.leader_recovery_s = accepted_at - killed_at
        self.findings.mark("writes accepted", accepted_at)
        self.findings.note(f"writes are accepted again after {self.findings.leader_recovery_s:.2f} s")
        return leader

    async def _kill_agent(self, helpers: list[asyncio.Task[None]]) -> None:
        board = self.findings.board
        await self._until(lambda: board.holders() or board.completed >= board.total - 1, helpers)
        holders = board.holders().most_common()
        name = holders[0][0] if holders else "reader-2"
        killed_at = self.fleet.agents[name].kill()
        board.killed(name)
        self.findings.killed_agent = name
        self.findings.mark(f"{name} killed", killed_at)
        self.findings.note(f"killed the agent {name} with SIGKILL; it held {len(board.victims)} tasks")
        await asyncio.wait_for(self._until(lambda: board.victims_left() == 0, helpers), RECOVERY_S)
        moved = [victim.elsewhere_at for victim in board.victims.values() if victim.elsewhere_at is not None]
        if moved:
            self.findings.agent_recovery_s = max(moved) - killed_at
            self.findings.mark("its tasks run elsewhere", max(moved))
            self.findings.note(f"its tasks run elsewhere after {self.findings.agent_recovery_s:.2f} s")
        else:
            self.findings.note("its results had arrived before it died: nothing was to be moved")

    async def _zombie(self) -> None:
        """Sends again what the killed agent would send if it were a zombie: each must be refused."""
        agent = self.findings.killed_agent
        for victim in self.findings.board.victims.values():
            if victim.finished_before:
                continue
            body = {"agent_id": agent, "epoch": victim.epoch, "result": {"from": "the dead"}}
            try:
                await self.client.link.call("POST", f"/tasks/{victim.task_id}/complete", json=body, safe=True)
            except ConflictError:
                self.findings.duplicates_refused += 1
            except ProblemError as error:
                raise DemoFailed(f"a late completion was answered with {error}") from error
            else:
                self.findings.duplicates_accepted += 1

    # ---- the end --------------------------------------------------------------------------------

    async def _fetch(self, submitted: Submitted) -> Mapping[str, Any]:
        """Every task's result, by name; a task without one counts as lost."""
        limit = asyncio.Semaphore(FETCH_AT_ONCE)
        results: dict[str, Any] = {}

        async def fetch(name: str, task_id: str) -> None:
            async with limit:
                try:
                    results[name] = await self.client.result(task_id)
                except ProblemError:
                    self.findings.lost += 1

        await asyncio.gather(*(fetch(name, task_id) for name, task_id in submitted.tasks.items()))
        self.findings.note(f"{len(results)} results, {self.findings.lost} tasks lost")
        return results

    async def _settle(self) -> None:
        """The node that was killed catches up, and all nodes report the same state."""
        started = time.monotonic()
        for name in self.fleet.nodes:
            await self.fleet.ready(name)
        status = await self.client.cluster_status()
        self.findings.state_hash = status.get("state_hash") or {}
        self.findings.rejoined_s = time.monotonic() - started
        self.findings.write_latencies = list(self.probe.latencies)

    async def _compare(self, plan: Plan, results: Mapping[str, Any]) -> None:
        findings = self.findings
        findings.note("computing the same job in one process")
        started = time.monotonic()
        expected = await asyncio.to_thread(plan.compute)
        findings.local_s = time.monotonic() - started
        findings.different = sorted(
            name for name in expected if name not in results or canonical(results[name]) != canonical(expected[name])
        )
        findings.result = results.get("report") or {}

    def _finish(self) -> int:
        findings = self.findings
        write_report(self.options.report, findings)
        if self.options.json:
            print_json({**findings.summary(), "report": str(self.options.report)})
        else:
            sys.stdout.write("\n".join(findings.lines()) + f"\nreport: {self.options.report.resolve()}\n")
        return 0 if findings.passed() else 1
