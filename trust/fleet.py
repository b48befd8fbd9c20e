"""A cluster for suites that break it again and again: in a directory of the run, on ports that nobody else is given.

Ports lie below the kernel's own range: while a node is down, no outgoing connection may take the port it comes back to.
"""

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from bench.cluster import Cluster, Node

from taskquorum.process import free_ports

# First of the ports that are tried; set it where suites run side by side.
PORTS = int(os.environ.get("TASKQUORUM_TRUST_PORTS", "25000"))


class Fleet(Cluster):
    """[`Cluster`] with its files in `directory`, kept by whoever made it.

    `environment` is given to every node (a failpoint build's PYTHONPATH); `data` maps a node's name to the directory that
    holds its data (a mount).
    """

    def __init__(
        self,
        directory: Path,
        nodes: int = 3,
        environment: Mapping[str, str] | None = None,
        data: Mapping[str, Path] | None = None,
    ) -> None:
        ports = free_ports(2 * nodes, preferred=PORTS)
        super().__init__(nodes, keep=True, directory=directory, ports=ports, data=data)
        for node in self.nodes.values():
            node.environment.update(environment or {})

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
