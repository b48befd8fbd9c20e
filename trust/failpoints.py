"""Clusters of the build with failpoints (docs/failpoints.md): places are set before a start and while a node runs."""

import socket
from collections.abc import Mapping
from pathlib import Path

from bench.cluster import Node

from trust.fleet import PORTS, Fleet
from trust.results import ROOT
from trust.suite import Skip

BUILD = ROOT / "build" / "failpoints"
# Exit code of a process that crashed at a place (rust/failpoint).
CRASH_CODE = 86
CRASH = "return(crash)"


def build() -> Path:
    """Where the build with failpoints lies. Raises [`Skip`] where there is none."""
    if not list(BUILD.glob("taskquorum/_native*.so")):
        raise Skip(f"there is no build with failpoints in {BUILD}: make build-failpoints")
    return BUILD


class FailpointFleet(Fleet):
    """A fleet whose nodes have failpoints; `first` sets them (node → `name=actions;…`) for the first start alone."""

    def __init__(
        self,
        directory: Path,
        nodes: int = 3,
        settings: Mapping[str, int] | None = None,
        first: Mapping[str, str] | None = None,
        ports: int = PORTS,
        data: Mapping[str, Path] | None = None,
    ) -> None:
        super().__init__(directory, nodes, {"PYTHONPATH": str(build())}, data, settings, ports)
        for node in self.nodes.values():
            node.environment["TASKQUORUM_FAILPOINTS"] = str(self._socket(node))
        self._first = dict(first or {})

    def _socket(self, node: Node) -> Path:
        return self.directory / f"{node.name}.failpoints"

    def start(self) -> None:
        for node in self.nodes.values():
            self.start_with(node, self._first.pop(node.name, ""))
        self.wait_ready(*self.alive)

    def start_with(self, node: Node, points: str = "") -> None:
        """Starts one node with these places set, and does not wait for it."""
        self._socket(node).unlink(missing_ok=True)
        node.environment["FAILPOINTS"] = points
        node.start()

    def restart(self, node: Node) -> None:
        self.start_with(node)
        self.wait_back(node)

    def set(self, node: Node, name: str, actions: str) -> None:
        """Sets a place of a running node. Raises RuntimeError for one that does not exist."""
        self._obey(node, f"set {name} {actions}")

    def clear(self, node: Node) -> None:
        """All places of a running node do nothing."""
        self._obey(node, "clear")

    def hits(self, node: Node) -> dict[str, int]:
        """How often each place was reached since the node started."""
        words = self._obey(node, "hits").split()
        return {name: int(count) for name, _, count in (word.rpartition("=") for word in words)}

    def _obey(self, node: Node, command: str) -> str:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(10)
            connection.connect(str(self._socket(node)))
            connection.sendall(command.encode() + b"\n")
            line = connection.makefile().readline().strip()
        kind, _, rest = line.partition(" ")
        if kind != "ok":
            raise RuntimeError(f"{node.name}: {command}: {line or 'no answer'}")
        return rest

    def wait_crashed(self, node: Node, timeout_s: float = 20.0) -> None:
        """Waits until the node crashed at a place. Raises RuntimeError when it ended otherwise."""
        code = self.wait_dead(node, timeout_s)
        if code != CRASH_CODE:
            raise RuntimeError(f"{node.name} ended with {code}, not at a failpoint; the end of its log:\n{node.log_tail()}")
