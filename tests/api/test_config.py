"""Flags before environment before file, and what is refused."""

import json
from pathlib import Path

import pytest

from taskquorum.config import load_config
from taskquorum.errors import ConfigError


def test_the_defaults_are_a_cluster_of_one_on_loopback() -> None:
    config = load_config({}, {})
    assert (config.node_id, str(config.http), str(config.raft), config.cluster) == (
        "node-1",
        "127.0.0.1:8080",
        "127.0.0.1:5000",
        {},
    )
    assert json.loads(config.to_native("127.0.0.1:8080")) == {
        "node_id": "node-1",
        "data_dir": "node-1-data",
        "role": "voter",
        "raft_listen": "127.0.0.1:5000",
        "raft_advertise": "",
        "http_address": "127.0.0.1:8080",
        "cluster": [],
        "snapshot_rate_mib": 32,
    }


def test_flags_come_before_the_environment_and_that_before_the_file(tmp_path: Path) -> None:
    file = tmp_path / "node.toml"
    file.write_text('node_id = "f"\nhttp = "127.0.0.1:1"\nraft = "127.0.0.1:2"\n[node]\ntick_ms = 20\n')
    environ = {"TASKQUORUM_NODE_ID": "e", "TASKQUORUM_HTTP": "127.0.0.1:3"}
    config = load_config({"node_id": "g"}, environ, file)
    assert (config.node_id, config.http.port, config.raft.port) == ("g", 3, 2)
    assert json.loads(config.to_native("x"))["tick_ms"] == 20


def test_the_rate_of_snapshots_is_set_like_the_rest(tmp_path: Path) -> None:
    file = tmp_path / "node.toml"
    file.write_text("snapshot_rate_mib = 8\n")
    rates = [
        load_config(flags, environ, file).snapshot_rate_mib
        for flags, environ in (({}, {}), ({}, {"TASKQUORUM_SNAPSHOT_RATE_MIB": "16"}), ({"snapshot_rate_mib": "64"}, {}))
    ]
    assert rates == [8, 16, 64]
    for bad in ("0", "x", "-1", "100001"):
        with pytest.raises(ConfigError, match="--snapshot-rate-mib"):
            load_config({"snapshot_rate_mib": bad}, {})


def test_the_names_of_the_specification() -> None:
    environ = {
        "NODE_ID": "node-2", "CLUSTER_NODES": "node-1,node-2,node-3", "RAFT_PORT": "5100", "TASKQUORUM_INSECURE": "1",
    }  # fmt: skip
    config = load_config({}, environ)
    assert config.node_id == "node-2"
    assert config.cluster == {"node-1": "node-1:5100", "node-2": "node-2:5100", "node-3": "node-3:5100"}
    assert (str(config.raft), config.raft_advertise) == ("0.0.0.0:5100", "node-2:5100")


def test_a_stateful_set_finds_its_peers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.getfqdn", lambda: "tq-1.tq.default.svc")
    config = load_config({}, {"CLUSTER_SIZE": "3", "TASKQUORUM_INSECURE": "1"})
    assert config.node_id == "tq-1"
    assert config.cluster["tq-0"] == "tq-0.tq.default.svc:5000"
    monkeypatch.setattr("socket.getfqdn", lambda: "laptop")
    with pytest.raises(ConfigError, match="CLUSTER_SIZE"):
        load_config({}, {"CLUSTER_SIZE": "3"})


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        ({"http": "0.0.0.0:8080"}, "--http"),
        ({"raft": "192.168.1.1:5000"}, "--raft"),
        ({"http": "8080"}, "--http"),
        ({"http": "127.0.0.1:99999"}, "--http"),
        ({"node_id": "a b"}, "--node-id"),
        ({"cluster": "a"}, "--cluster"),
        ({"cluster": "a=127.0.0.1:1,a=127.0.0.1:2"}, "--cluster"),
        ({"cluster": "a=127.0.0.1:1,b=127.0.0.1:1"}, "--cluster"),
        ({"cluster": "a=127.0.0.1:1"}, "--cluster"),
        ({"cluster": "node-1=127.0.0.1:0"}, "--cluster"),
        ({"http": "127.0.0.1:5000"}, "--raft"),
        ({"insecure": "perhaps"}, "--insecure"),
    ],
)
def test_what_is_refused_is_named(flags: dict[str, str], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        load_config(flags, {})


def test_insecure_lifts_the_loopback_rule() -> None:
    assert load_config({"http": "0.0.0.0:8080", "insecure": "True"}, {}).insecure
    assert load_config({"http": "[::1]:8080"}, {}).http.host == "::1"


def test_files_that_cannot_be_used(tmp_path: Path) -> None:
    file = tmp_path / "node.toml"
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config({}, {}, file)
    file.write_text("=")
    with pytest.raises(ConfigError, match="not TOML"):
        load_config({}, {}, file)
    file.write_text("nodeid = 1")
    with pytest.raises(ConfigError, match="nodeid"):
        load_config({}, {}, file)
