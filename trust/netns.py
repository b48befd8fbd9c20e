"""Nodes in network namespaces of their own, and links between them that are cut by packet filters.

    switch namespace: bridge br0 ── nftables (bridge family) drops between pairs
       │ 10.x.0.1      │ 10.x.0.2      …          the nodes' traffic
    node-1          node-2
       │ 10.x.1.2      │ 10.x.2.2                 management: one veth pair a node, straight to this namespace
    this namespace: the suite's clients

What always holds: management links are never cut, so that clients reach every node; the filters of all links change in one
transaction; what was made here is removed by its name, which carries this process's id. The bridge lies in a namespace of its
own so that the host's packet filters (Docker's drop what is forwarded) neither see nor need any change.
"""

import itertools
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType

from bench.cluster import Cluster, Node

from trust.suite import Skip

# Directed: packets of the first do not reach the second.
Cut = tuple[str, str]

HTTP_PORT = 26080
RAFT_PORT = 26050
# Second bytes of 10.x.0.0/16 that are tried.
BLOCKS = range(180, 250)


def _run(*command: str, stdin: str | None = None) -> str:
    done = subprocess.run(command, input=stdin, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout


def need() -> None:
    """Raises [`Skip`] where namespaces cannot be made."""
    if sys.platform != "linux" or os.geteuid() != 0:
        raise Skip("network namespaces need root on Linux")
    for tool, package in (("ip", "iproute2"), ("nft", "nftables")):
        if shutil.which(tool) is None:
            raise Skip(f"{tool} is missing: apt-get install {package}")


def free_block() -> int:
    """Second byte of a network 10.x.0.0/16 that nobody here has an address in or a route to."""
    used = {address["local"] for link in json.loads(_run("ip", "-j", "addr")) for address in link["addr_info"] if address}
    used |= set(re.findall(r"[0-9.]+", _run("ip", "route")))
    start = os.getpid() % len(BLOCKS)
    for block in itertools.chain(BLOCKS[start:], BLOCKS[:start]):
        if not any(address.startswith(f"10.{block}.") for address in used):
            return block
    raise RuntimeError("no block of addresses is free in 10.180.0.0 to 10.249.255.255")


class Namespaces:
    """A switch and one namespace a name; a context manager."""

    def __init__(self, names: Iterable[str]) -> None:
        need()
        self.names = list(names)
        self._tag = f"tq{os.getpid()}"
        self.switch = f"{self._tag}-switch"
        self._block = 0
        self._made: list[str] = []

    @property
    def up(self) -> bool:
        return bool(self._made)

    def namespace(self, name: str) -> str:
        return f"{self._tag}-{name}"

    def address(self, name: str) -> str:
        """By which the others reach the node."""
        return f"10.{self._block}.0.{self.names.index(name) + 1}"

    def management(self, name: str) -> str:
        """By which this namespace reaches it, whatever is cut."""
        return f"10.{self._block}.{self.names.index(name) + 1}.2"

    def __enter__(self) -> "Namespaces":
        try:
            self._block = free_block()
            self._add(self.switch)
            _run("ip", "-n", self.switch, "link", "add", "br0", "type", "bridge")
            _run("ip", "-n", self.switch, "link", "set", "br0", "up")
            for number, name in enumerate(self.names, 1):
                self._join(number, name)
            self.cut(())
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _add(self, namespace: str) -> None:
        _run("ip", "netns", "add", namespace)
        self._made.append(namespace)

    def _join(self, number: int, name: str) -> None:
        here, port, host = self.namespace(name), f"port{number}", f"{self._tag}m{number}"
        self._add(here)
        _run("ip", "link", "add", port, "netns", self.switch, "type", "veth", "peer", "name", "eth0", "netns", here)
        _run("ip", "-n", self.switch, "link", "set", port, "master", "br0", "up")
        _run("ip", "-n", here, "addr", "add", f"{self.address(name)}/24", "dev", "eth0")
        _run("ip", "link", "add", host, "type", "veth", "peer", "name", "mgmt", "netns", here)
        _run("ip", "addr", "add", f"10.{self._block}.{number}.1/30", "dev", host)
        _run("ip", "-n", here, "addr", "add", f"{self.management(name)}/30", "dev", "mgmt")
        _run("ip", "link", "set", host, "up")
        for link in ("lo", "eth0", "mgmt"):
            _run("ip", "-n", here, "link", "set", link, "up")

    def cut(self, cuts: Iterable[Cut], loss_percent: int = 100) -> None:
        """Drops what goes along `cuts`, and nothing else, from now on: all of it, or `loss_percent` of the packets at random."""
        chance = "" if loss_percent == 100 else f"numgen random mod 100 < {loss_percent} "
        rules = [
            f"  ip saddr {self.address(source)} ip daddr {self.address(target)} {chance}drop"
            for source, target in sorted(set(cuts))
        ]
        table = "\n".join(
            ["table bridge tq {", " chain forward {", "  type filter hook forward priority 0; policy accept", *rules, " }", "}"]
        )
        script = f"add table bridge tq\ndelete table bridge tq\n{table}\n"
        _run("ip", "netns", "exec", self.switch, "nft", "-f", "-", stdin=script)

    def inside(self, name: str) -> list[str]:
        """Begins a command that runs in the node's namespace (under the same process id)."""
        return ["ip", "netns", "exec", self.namespace(name)]

    def close(self) -> None:
        """Removes all that was made; what still runs inside keeps its namespace until it ends."""
        while self._made:
            subprocess.run(["ip", "netns", "del", self._made.pop()], capture_output=True)
        for number in range(1, len(self.names) + 1):
            # Goes with its peer, unless a process still holds that namespace.
            subprocess.run(["ip", "link", "del", f"{self._tag}m{number}"], capture_output=True)


class NetnsCluster(Cluster):
    """[`Cluster`] whose nodes lie in namespaces: `network.cut(…)` partitions it."""

    def __init__(self, directory: Path, nodes: int = 5, environment: Mapping[str, str] | None = None) -> None:
        names = [f"node-{number}" for number in range(1, nodes + 1)]
        self.network = Namespaces(names)
        self.directory = directory
        self.keep = True
        self.data = {name: directory / name for name in names}
        self.nodes: dict[str, Node] = {}
        self._environment = dict(environment or {})

    def start(self) -> None:
        self.network.__enter__()
        network = self.network
        members = ",".join(f"{name}={network.address(name)}:{RAFT_PORT}" for name in network.names)
        for name in network.names:
            command = [*network.inside(name), sys.executable, "-m", "taskquorum", "serve", "--node-id", name]
            command += ["--data-dir", str(self.data[name]), "--http", f"{network.management(name)}:{HTTP_PORT}"]
            command += ["--raft", f"{network.address(name)}:{RAFT_PORT}", "--cluster", members, "--insecure"]
            node = Node(name, HTTP_PORT, command, self.directory / f"{name}.log", host=network.management(name))
            node.environment.update(self._environment)
            self.nodes[name] = node
        super().start()

    def stop(self) -> None:
        if self.network.up:
            self.network.cut(())
        super().stop()
        self.network.close()
