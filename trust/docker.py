"""Nodes in Docker containers on two networks: the nodes' own, which containers are disconnected from, and one for the clients.

Needs a Docker daemon and the image `taskquorum:dev` (docker/build.sh). What is made here carries this process's id in its name
and is removed by that name.
"""

import os
import shutil
import subprocess
import time
from pathlib import Path

from bench.cluster import Cluster, Node

from trust.netns import free_block
from trust.suite import Skip

IMAGE = os.environ.get("TASKQUORUM_IMAGE", "taskquorum:dev")
HTTP_PORT = 26070
RAFT_PORT = 26040


def docker(*arguments: str) -> str:
    """What the command printed. Raises RuntimeError."""
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True, timeout=120)
    if done.returncode:
        raise RuntimeError(f"docker {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout.strip()


def need() -> None:
    """Raises [`Skip`] where containers of the image cannot be made."""
    if shutil.which("docker") is None:
        raise Skip("docker is missing")
    try:
        docker("image", "inspect", IMAGE)
    except RuntimeError as error:
        raise Skip(f"no Docker daemon, or no image {IMAGE} (docker/build.sh): {error}") from None


class Container(Node):
    """One node; its process is the container's."""

    def __init__(self, name: str, container: str, log: Path) -> None:
        super().__init__(name, HTTP_PORT, [], log)
        self.container = container

    @property
    def alive(self) -> bool:
        return docker("inspect", "--format", "{{.State.Running}}", self.container) == "true"

    def start(self) -> None:
        docker("start", self.container)

    def kill(self, number: int = 9) -> float:
        moment = time.monotonic()
        docker("kill", "--signal", str(number), self.container)
        docker("wait", self.container)
        return moment

    def log_tail(self, lines: int = 15) -> str:
        shown = subprocess.run(["docker", "logs", "--tail", str(lines), self.container], capture_output=True, text=True)
        return shown.stdout + shown.stderr


class DockerCluster(Cluster):
    """Three containers; a context manager like [`Cluster`]. Their data lies in anonymous volumes that go with them."""

    def __init__(self, directory: Path, nodes: int = 3) -> None:
        need()
        self.directory = directory
        self.keep = True
        self._tag = f"taskquorum-{os.getpid()}"
        self.network = f"{self._tag}-nodes"
        self.clients = f"{self._tag}-clients"
        names = [f"node-{number}" for number in range(1, nodes + 1)]
        self.data = {name: directory / name for name in names}
        self.containers = {name: Container(name, f"{self._tag}-{name}", directory / f"{name}.log") for name in names}
        self.addresses: dict[str, str] = {}
        self.nodes: dict[str, Node] = dict(self.containers)

    def start(self) -> None:
        # By address, not by name: names are found on the clients' network too.
        block = free_block()
        docker("network", "create", "--subnet", f"10.{block}.0.0/24", self.network)
        docker("network", "create", "--subnet", f"10.{block}.1.0/24", self.clients)
        self.addresses = {name: f"10.{block}.0.{number}" for number, name in enumerate(self.containers, 11)}
        members = ",".join(f"{name}={address}:{RAFT_PORT}" for name, address in self.addresses.items())
        for name, container in self.containers.items():
            serve = ["serve", "--node-id", name, "--data-dir", "/data", "--http", f"0.0.0.0:{HTTP_PORT}", "--insecure"]
            address = self.addresses[name]
            serve += ["--raft", f"{address}:{RAFT_PORT}", "--cluster", members]
            docker("create", "--name", container.container, "--network", self.network, "--ip", address, IMAGE, *serve)
            docker("network", "connect", self.clients, container.container)
        for container in self.containers.values():
            container.start()
            where = f'{{{{(index .NetworkSettings.Networks "{self.clients}").IPAddress}}}}'
            container.host = docker("inspect", "--format", where, container.container)
            container.url = f"http://{container.host}:{HTTP_PORT}"
        self.wait_ready()

    def disconnect(self, name: str) -> None:
        """Takes a node off the nodes' network; clients still reach it."""
        docker("network", "disconnect", self.network, self.containers[name].container)

    def connect(self, name: str) -> None:
        docker("network", "connect", "--ip", self.addresses[name], self.network, self.containers[name].container)

    def pause(self, name: str) -> None:
        docker("pause", self.containers[name].container)

    def unpause(self, name: str) -> None:
        docker("unpause", self.containers[name].container)

    def stop(self) -> None:
        for container in self.containers.values():
            with container.log.open("w") as log:
                subprocess.run(["docker", "logs", container.container], stdout=log, stderr=log)
            subprocess.run(["docker", "rm", "--force", "--volumes", container.container], capture_output=True)
        for network in (self.network, self.clients):
            subprocess.run(["docker", "network", "rm", network], capture_output=True)
