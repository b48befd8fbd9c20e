"""A cluster of real processes on this machine: `Fleet` starts, watches and ends them.

`taskquorum dev` supervises one until Ctrl-C; the demo drives one and kills parts of it.

What always holds: children are ended by their own process ids, and die with this process however
it ends (process.py); every child writes to a log file of its own in the fleet's directory.
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
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

from taskquorum.cli.output import print_json
from taskquorum.errors import ServerUnreachableError
from taskquorum.link import Link
from taskquorum.process import child_environment, free_ports

READY_S = 60.0
"""Longest time for a cluster to come up; the first start may compile kernels."""
READY_POLL_S = 0.05
STOP_S = 10.0
"""After SIGTERM, how long a child may take before it is killed."""
RESTART_FIRST_S, RESTART_MAX_S = 0.5, 10.0
"""Pause before a dead child is started again; doubles with each death in a row."""
STEADY_S = 30.0
"""A child that lived so long starts again with the first pause."""


@dataclass(slots=True)
class Child:
    """One supervised process: what it is and whether it runs."""

    name: str
    command: Sequence[str]
    log: Path
    process: asyncio.subprocess.Process | None = None
    started_at: float = 0.0
    deaths: int = 0
    held_down: bool = False
    """Killed on purpose: stays down until it is started again."""

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.returncode is None

    async def start(self) -> None:
        """Starts it, or starts it again; its output goes on in the same log file."""
        self.held_down = False
        with self.log.open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                *self.command, stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log, env=child_environment()
            )
        self.started_at = time.monotonic()

    def kill(self, number: int = signal.SIGKILL) -> float:
        """Kills it for good and returns the time (monotonic seconds) at which that was done."""
        assert self.process is not None
        self.held_down = True
        os.kill(self.process.pid, number)
        return time.monotonic()

    async def stop(self) -> None:
        """SIGTERM, then SIGKILL when it takes too long."""
        self.held_down = True
        if self.process is None or self.process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            self.process.terminate()
        try:
            await asyncio.wait_for(self.process.wait(), STOP_S)
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                self.process.kill()
            await self.process.wait()

    def log_tail(self, lines: int = 12) -> str:
        """The end of its log, for a message about its failure."""
        with contextlib.suppress(OSError):
            return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])
        return ""


@dataclass(frozen=True, slots=True)
class AgentSpec:
    """An agent process: what it runs and what it can do."""

    name: str
    target: str
    capabilities: dict[str, float] = field(default_factory=dict)
    slots: int = 2
    niceness: int = 0
    """How far it steps back for others (nice(1)): agents that only compute must not starve the nodes beside them."""


class Fleet:
    """Nodes and agents as child processes of this one."""

    def __init__(self, directory: Path, *, nodes: int, http_port: int | None = None) -> None:
        """Plans `nodes` nodes with data and logs under `directory`; starts nothing yet."""
        self.directory = directory
        http_ports = free_ports(nodes, http_port)
        raft_ports = free_ports(nodes)
        names = [f"node-{number}" for number in range(1, nodes + 1)]
        cluster = ",".join(f"{name}=127.0.0.1:{port}" for name, port in zip(names, raft_ports, strict=True))
        self.urls = {name: f"http://127.0.0.1:{port}" for name, port in zip(names, http_ports, strict=True)}
        self.nodes: dict[str, Child] = {}
        self.agents: dict[str, Child] = {}
        logs = directory / "logs"
        logs.mkdir(parents=True, exist_ok=True)
        for name, http_port, raft_port in zip(names, http_ports, raft_ports, strict=True):
            flags = ["--node-id", name, "--data-dir", str(directory / name), "--cluster", cluster]
            ports = ["--http", f"127.0.0.1:{http_port}", "--raft", f"127.0.0.1:{raft_port}"]
            command = [sys.executable, "-m", "taskquorum", "serve", *flags, *ports]
            self.nodes[name] = Child(name, command, logs / f"{name}.log")

    @property
    def servers(self) -> str:
        """All nodes, as `--server` takes them."""
        return ",".join(self.urls.values())

    def add_agent(self, spec: AgentSpec) -> Child:
        """Plans an agent; each begins at another node."""
        urls = list(self.urls.values())
        first = len(self.agents) % len(urls)
        command = ["nice", "-n", str(spec.niceness)] if spec.niceness and shutil.which("nice") else []
        command += [sys.executable, "-m", "taskquorum", "agent", spec.target, "--id", spec.name]
        command += ["--slots", str(spec.slots), "--server", ",".join(urls[first:] + urls[:first])]
        for dimension, level in spec.capabilities.items():
            command += ["--capability", f"{dimension}={level}"]
        child = Child(spec.name, command, self.directory / "logs" / f"{spec.name}.log")
        self.agents[spec.name] = child
        return child

    async def start_nodes(self) -> None:
        """Starts the nodes and waits until each is ready. Raises ServerUnreachableError with what went wrong."""
        for child in self.nodes.values():
            await child.start()
        await asyncio.gather(*(self.ready(name) for name in self.nodes))

    async def start_agents(self) -> None:
        for child in self.agents.values():
            await child.start()

    async def ready(self, name: str, timeout_s: float = READY_S) -> None:
        """Waits for a node's /readyz. Raises ServerUnreachableError when it died or the time ran out."""
        child, deadline = self.nodes[name], time.monotonic() + timeout_s
        timeout = aiohttp.ClientTimeout(total=2.0)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            while True:
                if not child.running:
                    raise ServerUnreachableError(f"{name} ended; the end of {child.log}:\n{child.log_tail()}")
                with contextlib.suppress(aiohttp.ClientError, TimeoutError, OSError):
                    async with session.get(f"{self.urls[name]}/api/v1/readyz") as response:
                        if response.status == 200:
                            return
                if time.monotonic() >= deadline:
                    what = f"{name} is not ready after {timeout_s:.0f} s"
                    raise ServerUnreachableError(f"{what}; the end of {child.log}:\n{child.log_tail()}")
                await asyncio.sleep(READY_POLL_S)

    async def supervise(self) -> None:
        """Starts again what dies by itself, for ever."""
        await asyncio.gather(*(self._keep(child) for child in [*self.nodes.values(), *self.agents.values()]))

    async def _keep(self, child: Child) -> None:
        while True:
            assert child.process is not None
            await child.process.wait()
            if child.held_down:
                return
            child.deaths = 1 if time.monotonic() - child.started_at > STEADY_S else child.deaths + 1
            await asyncio.sleep(min(RESTART_MAX_S, RESTART_FIRST_S * 2 ** min(child.deaths - 1, 10)))
            await child.start()

    async def stop(self) -> None:
        """Ends agents first, so that they can take leave, then the nodes."""
        await asyncio.gather(*(child.stop() for child in self.agents.values()))
        await asyncio.gather(*(child.stop() for child in self.nodes.values()))


def run_dev(*, nodes: int, agents: int, data_dir: Path | None, http_port: int, json: bool) -> int:
    """Runs a cluster until SIGINT or SIGTERM; returns the exit code."""
    directory = data_dir or Path(tempfile.mkdtemp(prefix="taskquorum-dev-"))
    directory.mkdir(parents=True, exist_ok=True)
    try:
        return asyncio.run(_dev(directory, nodes, agents, http_port, json))
    finally:
        if data_dir is None:
            shutil.rmtree(directory, ignore_errors=True)


async def _dev(directory: Path, nodes: int, agents: int, http_port: int, json: bool) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signal_number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(signal_number, stop.set)
    fleet = Fleet(directory, nodes=nodes, http_port=http_port)
    for number in range(agents):
        fleet.add_agent(AgentSpec(f"agent-{number + 1}", "taskquorum.demo.basic:agent", {"basic": 1.0}, slots=4))
    stopping = asyncio.create_task(stop.wait())
    starting = asyncio.create_task(fleet.start_nodes())
    try:
        await asyncio.wait({stopping, starting}, return_when=asyncio.FIRST_COMPLETED)
        if stop.is_set():
            return 0
        starting.result()
        await fleet.start_agents()
        _announce(fleet, directory, json)
        supervising = asyncio.create_task(fleet.supervise())
        await stopping
        supervising.cancel()
        return 0
    finally:
        starting.cancel()
        stopping.cancel()
        await fleet.stop()


def _announce(fleet: Fleet, directory: Path, json: bool) -> None:
    """At most six lines: where the cluster is, and what to try."""
    first = Link(fleet.servers).server
    if json:
        print_json({"servers": fleet.urls, "agents": list(fleet.agents), "data_dir": str(directory)})
        return
    lines = [
        f"{len(fleet.nodes)} nodes: {' '.join(fleet.urls.values())}",
        f"{len(fleet.agents)} agents (task types echo, sleep, sum, fail); data and logs in {directory}",
        f"API and documentation: {first}/docs",
        f"""try: echo '{{"task_type":"echo","task_data":{{"hello":1}}}}' | taskquorum submit - --wait --server {first}""",
        "Ctrl-C stops everything",
    ]
    sys.stdout.write("\n".join(lines) + "\n")
    sys.stdout.flush()
