"""Real server processes on loopback, for tests and benches: start, kill, restart, ask.

What always holds: every child is ended by its own process id, and dies with this process; data lies on a real disk, never on a
tmpfs, for fsync there costs and promises nothing; every wait is for a condition and has a bound.
"""

import contextlib
import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from taskquorum.process import child_environment, free_ports

READY_S = 60.0
POLL_S = 0.01
T = TypeVar("T")


def is_tmpfs(directory: Path) -> bool:
    """Whether a directory lies in memory (tmpfs or ramfs), by the longest mount point that holds it."""
    where = directory.resolve()
    best, kind = "", ""
    for line in Path("/proc/mounts").read_text().splitlines() if Path("/proc/mounts").exists() else []:
        point, this = line.split()[1:3]
        if where.is_relative_to(point) and len(point) >= len(best):
            best, kind = point, this
    return kind in ("tmpfs", "ramfs")


def disk_directory(prefix: str) -> Path:
    """A new directory on a disk: in TMPDIR, /var/tmp or build/, whichever comes first that is none in memory."""
    candidates = [Path(tempfile.gettempdir()), Path("/var/tmp"), Path(__file__).resolve().parent.parent / "build"]
    for base in candidates:
        base.mkdir(parents=True, exist_ok=True)
        if not is_tmpfs(base):
            return Path(tempfile.mkdtemp(prefix=prefix, dir=base))
    raise RuntimeError("no directory on a disk: set TMPDIR to one")


def until(condition: Callable[[], T | None], what: str, timeout_s: float = 30.0) -> T:
    """Waits until `condition` returns something true and returns it. Raises TimeoutError naming `what`."""
    deadline = time.monotonic() + timeout_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() >= deadline:
            raise TimeoutError(f"not within {timeout_s:g} s: {what}")
        time.sleep(POLL_S)


class Answer:
    """Status, headers and parsed body of one call."""

    def __init__(self, status: int, headers: dict[str, str], raw: bytes) -> None:
        self.status = status
        self.headers = headers
        self.raw = raw

    @property
    def body(self) -> Any:
        return json.loads(self.raw) if self.raw else None


class Node:
    """One `taskquorum serve` process and its files."""

    def __init__(self, name: str, http_port: int, command: list[str], log: Path, host: str = "127.0.0.1") -> None:
        self.name = name
        self.host = host
        self.http_port = http_port
        self.url = f"http://{host}:{http_port}"
        self.command = command
        self.log = log
        # Beside what it inherits.
        self.environment: dict[str, str] = {}
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=child_environment() | self.environment
            )

    def kill(self, number: int = signal.SIGKILL) -> float:
        """Kills it and waits for its end; the moment (monotonic seconds) of the signal."""
        assert self.process is not None
        moment = time.monotonic()
        self.process.send_signal(number)
        self.process.wait(30)
        return moment

    def call(self, method: str, path: str, body: object = None, timeout_s: float = 10.0, **headers: str) -> Answer:
        """One call under /api/v1 on a connection of its own. Raises OSError or http.client.HTTPException."""
        raw = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        if raw is not None:
            headers.setdefault("Content-Type", "application/json")
        connection = http.client.HTTPConnection(self.host, self.http_port, timeout=timeout_s)
        with contextlib.closing(connection):
            connection.request(method, f"/api/v1{path}", raw, {name.replace("_", "-"): value for name, value in headers.items()})
            response = connection.getresponse()
            return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())

    def try_call(self, method: str, path: str, body: object = None, timeout_s: float = 2.0, **headers: str) -> Answer | None:
        """`call`, or None when no answer came."""
        with contextlib.suppress(OSError, http.client.HTTPException):
            return self.call(method, path, body, timeout_s, **headers)
        return None

    def ready(self) -> bool:
        if not self.alive:
            raise RuntimeError(f"{self.name} ended; the end of {self.log}:\n{self.log_tail()}")
        answer = self.try_call("GET", "/readyz")
        return answer is not None and answer.status == 200

    def log_tail(self, lines: int = 15) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])


class Cluster:
    """Some nodes of one cluster; use it as a context manager.

    `raft_address` may change the address by which others reach a node (a proxy that delays); it gets the name and the real
    port and returns host:port. `directory`, `ports` (HTTP, then Raft, one a node) and `data` (node → directory of its data)
    are chosen here unless given.
    """

    def __init__(
        self,
        nodes: int = 3,
        raft_address: Callable[[str, int], str] | None = None,
        keep: bool = False,
        directory: Path | None = None,
        ports: list[int] | None = None,
        data: Mapping[str, Path] | None = None,
    ) -> None:
        self.directory = directory or disk_directory("taskquorum-test-")
        self.keep = keep
        names = [f"node-{number}" for number in range(1, nodes + 1)]
        self.data = {name: self.directory / name for name in names} | dict(data or {})
        ports = ports or free_ports(2 * nodes)
        raft = dict(zip(names, ports[nodes:], strict=True))
        told = {name: raft_address(name, port) if raft_address else f"127.0.0.1:{port}" for name, port in raft.items()}
        self.nodes: dict[str, Node] = {}
        # Where ports for nodes that join later are looked for first; None: anywhere.
        self.preferred_port: int | None = None
        # Where each listens for the others.
        self.raft = {name: f"127.0.0.1:{port}" for name, port in raft.items()}
        for name, http_port in zip(names, ports[:nodes], strict=True):
            # A node listens on its own port and is known to the others by the address they dial.
            cluster = ",".join(f"{peer}={f'127.0.0.1:{raft[name]}' if peer == name else told[peer]}" for peer in names)
            self.nodes[name] = self._node(name, http_port, self.raft[name], cluster)

    def _node(self, name: str, http_port: int, raft: str, cluster: str) -> Node:
        command = [sys.executable, "-m", "taskquorum", "serve", "--node-id", name, "--data-dir", str(self.data[name])]
        command += ["--http", f"127.0.0.1:{http_port}", "--raft", raft, "--cluster", cluster]
        return Node(name, http_port, command, self.directory / f"{name}.log")

    def join(self, name: str, *arguments: str) -> Node:
        """Starts a node that the cluster does not know, with an empty directory: it waits until it is taken in.

        `arguments` are added to its command line.
        """
        http_port, raft_port = free_ports(2, preferred=self.preferred_port)
        if self.preferred_port is not None:
            self.preferred_port += 2
        self.data[name] = self.directory / name
        self.raft[name] = f"127.0.0.1:{raft_port}"
        known = ",".join(f"{peer}={address}" for peer, address in self.raft.items() if peer in self.nodes or peer == name)
        node = self._node(name, http_port, self.raft[name], known)
        if self.nodes:
            node.environment |= next(iter(self.nodes.values())).environment
        node.command += arguments
        self.nodes[name] = node
        node.start()
        return node

    def forget(self, node: Node) -> None:
        """A node that was removed from the cluster is none of its nodes any more; its process has ended."""
        assert not node.alive
        del self.nodes[node.name]

    def __enter__(self) -> "Cluster":
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        for node in self.nodes.values():
            node.start()
        self.wait_ready()

    def wait_ready(self, *nodes: Node, timeout_s: float = READY_S) -> None:
        for node in nodes or self.nodes.values():
            until(node.ready, f"{node.name} is ready; the end of its log:\n{node.log_tail()}", timeout_s)

    def restart(self, node: Node) -> None:
        """Starts a dead node again with the same flags and waits until it is ready."""
        node.start()
        self.wait_ready(node)

    @property
    def alive(self) -> list[Node]:
        return [node for node in self.nodes.values() if node.alive]

    def leader(self, timeout_s: float = 10.0) -> Node:
        """The node that a majority of the living call leader."""
        return until(self.leader_now, "a leader that a majority agrees on", timeout_s)

    def leader_now(self) -> Node | None:
        votes: dict[str, int] = {}
        for node in self.alive:
            answer = node.try_call("GET", "/cluster/status")
            leader = answer.body.get("leader") if answer is not None and answer.status == 200 else None
            if isinstance(leader, dict):
                leader = leader.get("node_id")
            if leader:
                votes[leader] = votes.get(leader, 0) + 1
        for name, count in votes.items():
            if count > len(self.nodes) // 2 and self.nodes[name].alive:
                return self.nodes[name]
        return None

    def follower(self) -> Node:
        leader = self.leader()
        return next(node for node in self.alive if node is not leader)

    def wipe(self, node: Node) -> None:
        """Deletes a dead node's data."""
        assert not node.alive
        shutil.rmtree(self.data[node.name])

    def stop(self) -> None:
        """Ends all nodes: SIGTERM, then SIGKILL after a while; deletes their files."""
        living = self.alive
        for node in living:
            assert node.process is not None
            node.process.terminate()
        for node in living:
            assert node.process is not None
            try:
                node.process.wait(15)
            except subprocess.TimeoutExpired:
                node.process.kill()
                node.process.wait(10)
        if not self.keep:
            shutil.rmtree(self.directory, ignore_errors=True)


def cpu_seconds(pids: list[int]) -> float:
    """User and system CPU seconds these processes have used so far."""
    ticks = os.sysconf("SC_CLK_TCK")
    total = 0.0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        total += (int(fields[11]) + int(fields[12])) / ticks
    return total
