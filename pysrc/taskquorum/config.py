"""How one node is started: flags, before environment, before a TOML file, all with the same names.

`load_config` reads and checks everything once; nothing else reads the environment. Names in the
environment are `TASKQUORUM_` and the setting in capitals; `NODE_ID`, `CLUSTER_NODES`, `RAFT_PORT` and
`CLUSTER_SIZE` are the specification's, for containers.
"""

from __future__ import annotations

import ipaddress
import json
import re
import socket
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from taskquorum.errors import ConfigError

DEFAULT_HTTP: Final = "127.0.0.1:8080"
DEFAULT_RAFT_PORT: Final = 5000
NODES_MAX: Final = 101
SNAPSHOT_RATE_MIB: Final = 32
_NODE_ID = re.compile(r"[A-Za-z0-9._-]{1,255}")
_STATEFUL = re.compile(r"(.*)-(\d+)")
_NAMES: Final = ("node_id", "data_dir", "role", "http", "raft", "cluster", "insecure", "json", "node", "snapshot_rate_mib")
_ROLES: Final = ("voter", "observer")
_YES, _NO = frozenset({"1", "true", "yes", "on"}), frozenset({"0", "false", "no", "off", ""})


@dataclass(frozen=True, slots=True)
class Address:
    """`host:port`; IPv6 hosts stand in brackets."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach it."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


@dataclass(frozen=True, slots=True)
class Config:
    """One node."""

    node_id: str
    data_dir: Path
    http: Address
    raft: Address
    """Where the other nodes are accepted."""
    raft_advertise: str
    """`host:port` that the others dial; empty: the bound address."""
    cluster: Mapping[str, str]
    """Node id → Raft address of a new cluster's nodes; empty: a cluster of one. For an observer: nodes to follow."""
    role: str = "voter"
    """`observer`: no part of consensus; it tails the committed log and serves local reads, polls and watches."""
    insecure: bool = False
    """Listen beyond loopback although there is no access control."""
    ready_as_json: bool = False
    snapshot_rate_mib: int = SNAPSHOT_RATE_MIB
    """MiB a second at which snapshots leave this node."""
    node: Mapping[str, Any] = field(default_factory=dict)
    """Further settings of `runtime::Config`, as they are (a TOML table `[node]`)."""

    def to_native(self, http: str) -> bytes:
        """The JSON that `_native.Node` takes; `http` is the address clients can reach."""
        return json.dumps(
            {
                "snapshot_rate_mib": self.snapshot_rate_mib,
                **self.node,
                "node_id": self.node_id,
                "data_dir": str(self.data_dir),
                "role": self.role,
                "raft_listen": str(self.raft),
                "raft_advertise": self.raft_advertise,
                "http_address": http,
                "cluster": [{"node_id": name, "address": address} for name, address in self.cluster.items()],
            }
        ).encode()

    def validate(self) -> None:
        """Checks each setting against the others. Raises ConfigError that names the option."""
        if not _NODE_ID.fullmatch(self.node_id):
            raise ConfigError("--node-id: 1 to 255 letters, digits, '.', '_' or '-'")
        if self.role not in _ROLES:
            raise ConfigError(f"--role: {self.role!r} is neither {' nor '.join(_ROLES)}")
        if self.role == "observer" and (not self.cluster or self.node_id in self.cluster):
            raise ConfigError(f"--cluster: an observer names nodes of the cluster to follow, and not itself ({self.node_id})")
        if self.role == "voter" and self.cluster and self.node_id not in self.cluster:
            raise ConfigError(f"--cluster: this node, {self.node_id}, is not in it ({', '.join(self.cluster)})")
        if len(self.cluster) > NODES_MAX:
            raise ConfigError(f"--cluster: at most {NODES_MAX} nodes")
        if len(set(self.cluster.values())) != len(self.cluster):
            raise ConfigError("--cluster: two nodes have the same address")
        if self.http.port and self.http.port == self.raft.port and self.http.host == self.raft.host:
            raise ConfigError("--http and --raft: the same address")
        if self.insecure:
            return
        for option, address in (("--http", self.http), ("--raft", self.raft)):
            if not address.loopback:
                raise ConfigError(
                    f"{option}: {address} can be reached from other machines and there is no access control: "
                    "use a loopback address, or --insecure (TASKQUORUM_INSECURE=1) in a network that you trust"
                )


def load_config(flags: Mapping[str, str], environ: Mapping[str, str], file: Path | None = None) -> Config:
    """The configuration of one node. Raises ConfigError."""
    settings = _read_file(file)
    for name in _NAMES:
        value = environ.get(f"TASKQUORUM_{name.upper()}")
        if value is not None and name not in ("json", "node"):
            settings[name] = value
    settings.update(flags)
    _specification(settings, environ)
    cluster = parse_cluster(settings.get("cluster", ""))
    node_id = str(settings.get("node_id") or "node-1")
    raft_port = _port(environ.get("RAFT_PORT", str(DEFAULT_RAFT_PORT)), "RAFT_PORT")
    config = Config(
        node_id=node_id,
        data_dir=Path(str(settings.get("data_dir") or f"./{node_id}-data")),
        http=_address(str(settings.get("http") or DEFAULT_HTTP), "--http"),
        raft=_address(str(settings.get("raft") or f"127.0.0.1:{raft_port}"), "--raft"),
        raft_advertise=cluster.get(node_id, ""),
        cluster=cluster,
        role=str(settings.get("role") or "voter"),
        insecure=_truth(settings.get("insecure", False), "--insecure"),
        ready_as_json=_truth(settings.get("json", False), "--json"),
        snapshot_rate_mib=_number(settings.get("snapshot_rate_mib", SNAPSHOT_RATE_MIB), "--snapshot-rate-mib", 1, 100_000),
        node=settings.get("node", {}),
    )
    config.validate()
    return config


def _read_file(file: Path | None) -> dict[str, Any]:
    if file is None:
        return {}
    try:
        settings = tomllib.loads(file.read_text())
    except OSError as error:
        raise ConfigError(f"--config: {file} cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"--config: {file} is not TOML: {error}") from error
    unknown = sorted(set(settings) - set(_NAMES))
    if unknown:
        raise ConfigError(f"--config: {file} has unknown settings: {', '.join(unknown)}")
    if not isinstance(settings.get("node", {}), dict):
        raise ConfigError(f"--config: [node] in {file} is a table")
    return settings


def _specification(settings: dict[str, Any], environ: Mapping[str, str]) -> None:
    """The specification's names: host names are node ids, and each listens on `RAFT_PORT`."""
    if "node_id" not in settings and environ.get("NODE_ID"):
        settings["node_id"] = environ["NODE_ID"]
    port = _port(environ.get("RAFT_PORT", str(DEFAULT_RAFT_PORT)), "RAFT_PORT")
    names = [name.strip() for name in environ.get("CLUSTER_NODES", "").split(",") if name.strip()]
    size = environ.get("CLUSTER_SIZE", "")
    if "cluster" not in settings and not names and size:
        names = _stateful_set(settings, size)
    if "cluster" not in settings and names:
        settings["cluster"] = ",".join(name if "=" in name else f"{_label(name)}={_with_port(name, port)}" for name in names)
        if len(names) > 1:
            settings.setdefault("raft", f"0.0.0.0:{port}")


def _stateful_set(settings: dict[str, Any], size: str) -> list[str]:
    """Peers of a Kubernetes StatefulSet from this pod's host name: `name-0.service…`."""
    if not size.isdigit() or not 0 < int(size) <= NODES_MAX:
        raise ConfigError(f"CLUSTER_SIZE: a number from 1 to {NODES_MAX}")
    host = socket.getfqdn()
    label, _, domain = host.partition(".")
    found = _STATEFUL.fullmatch(label)
    if found is None:
        raise ConfigError(f"CLUSTER_SIZE: the host name {label!r} does not end in a number as in a StatefulSet; use --cluster")
    settings.setdefault("node_id", label)
    suffix = f".{domain}" if domain else ""
    return [f"{found.group(1)}-{number}{suffix}" for number in range(int(size))]


def _label(host: str) -> str:
    return host.partition(":")[0].partition(".")[0]


def _with_port(host: str, port: int) -> str:
    return host if ":" in host else f"{host}:{port}"


def parse_cluster(value: Any) -> dict[str, str]:
    """`a=host:port,b=host:port`, or a TOML table."""
    if isinstance(value, dict):
        pairs = [(str(name), str(address)) for name, address in value.items()]
    else:
        pairs = []
        for item in str(value).split(","):
            if item.strip():
                name, found, address = item.strip().partition("=")
                if not found:
                    raise ConfigError(f"--cluster: {item.strip()!r} is not NODE=HOST:PORT")
                pairs.append((name.strip(), address.strip()))
    cluster: dict[str, str] = {}
    for name, address in pairs:
        if name in cluster:
            raise ConfigError(f"--cluster: {name} stands twice")
        if not _NODE_ID.fullmatch(name):
            raise ConfigError(f"--cluster: {name!r} is no node id")
        if _address(address, "--cluster").port == 0:
            raise ConfigError(f"--cluster: {name} needs a port")
        cluster[name] = address
    return cluster


def _number(value: Any, option: str, low: int, high: int) -> int:
    text = str(value)
    if not (text.isascii() and text.isdigit()) or not low <= int(text) <= high:
        raise ConfigError(f"{option}: {text!r} is no number from {low} to {high}")
    return int(text)


def _port(text: str, option: str) -> int:
    if not (text.isascii() and text.isdigit()) or int(text) > 65_535:
        raise ConfigError(f"{option}: {text!r} is no port")
    return int(text)


def _address(text: str, option: str) -> Address:
    host, found, port = text.rpartition(":")
    if not found or not host:
        raise ConfigError(f"{option}: {text!r} is not HOST:PORT")
    return Address(host.removeprefix("[").removesuffix("]"), _port(port, option))


def _truth(value: Any, option: str) -> bool:
    if isinstance(value, bool):
        return value
    text = str(value).lower()
    if text in _YES or text in _NO:
        return text in _YES
    raise ConfigError(f"{option}: {value!r} is neither true nor false")
