"""A cluster whose nodes reach each other through one [`FrameProxy`]."""

from pathlib import Path

from bench.cluster import Cluster

from taskquorum.process import free_ports
from trust.fleet import PORTS
from trust.proxy import FrameProxy


class TroubledCluster(Cluster):
    """`proxy.trouble` says what becomes of the frames between nodes."""

    def __init__(self, directory: Path, nodes: int, seed: int) -> None:
        self.proxy = FrameProxy(seed)
        ports = free_ports(2 * nodes, preferred=PORTS)
        front = lambda _, port: f"127.0.0.1:{self.proxy.front(port)}"  # noqa: E731
        super().__init__(nodes, raft_address=front, keep=True, directory=directory, ports=ports)

    def stop(self) -> None:
        super().stop()
        self.proxy.close()
