"""A cluster for suites that break it again and again: in a directory of the run, on ports that nobody else is given.

Ports lie below the kernel's own range: while a node is down, no outgoing connection may take the port it comes back to.
"""

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from bench.cluster import Cluster, Node

from taskquorum.process import free_ports
from trust.suite import Violation

# First of the ports that are tried; set it where suites run side by side.
PORTS = int(os.environ.get("TASKQUORUM_TRUST_PORTS", "25000"))

# Small bounds, so that a short run sees what else takes hours: WAL files change, the state is flushed, the log is cut, and a
# node that was away for a while is sent a snapshot.
BUSY = {
    "flush_log_bytes": 64 << 10,
    "flush_dirty_ms": 300,
    "keep_entries": 100,
    "log_write_buffer_bytes": 1 << 20,
    "state_write_buffers_bytes": 1 << 20,
}


class Fleet(Cluster):
    """[`Cluster`] with its files in `directory`, kept by whoever made it.

    `environment` is given to every node (a failpoint build's PYTHONPATH); `data` maps a node's name to the directory that
    holds its data (a mount); `settings` are those of the table `[node]`; `ports` is the first port to try.
    """

    def __init__(
        self,
        directory: Path,
        nodes: int = 3,
        environment: Mapping[str, str] | None = None,
        data: Mapping[str, Path] | None = None,
        settings: Mapping[str, int] | None = None,
        ports: int = PORTS,
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        super().__init__(nodes, keep=True, directory=directory, ports=free_ports(2 * nodes, preferred=ports), data=data)
        config = directory / "node.toml"
        config.write_text("[node]\n" + "".join(f"{name} = {value}\n" for name, value in (settings or {}).items()))
        self.preferred_port = ports + 2 * nodes
        for node in self.nodes.values():
            node.environment.update(environment or {})
            node.command += ["--config", str(config)]

    def restart(self, node: Node) -> None:
        """Starts a dead node again and waits until it is back."""
        node.start()
        self.wait_back(node)

    def wait_back(self, *nodes: Node) -> None:
        """`wait_ready` for nodes that were started again after a fault: one that does not come back breaks a promise.

        Raises [`Violation`] with the end of its log.
        """
        try:
            self.wait_ready(*nodes)
        except (RuntimeError, TimeoutError) as error:
            raise Violation(f"a node did not come back: {error}") from error

    def kill_all(self) -> None:
        """SIGKILL to all nodes, each waited for only after all were sent it."""
        living = [node.process for node in self.alive if node.process is not None]
        for process in living:
            process.kill()
        for process in living:
            process.wait(30)

    def wait_dead(self, node: Node, timeout_s: float = 30.0) -> int:
        """Waits until the node's process ends by itself; its exit code (negative: the signal)."""
        assert node.process is not None
        try:
            return node.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise TimeoutError(f"{node.name} does not end; the end of its log:\n{node.log_tail()}") from None
