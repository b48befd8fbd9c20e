"""The command line as a process: what it prints, where, and with which exit code."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import struct
import sys
from pathlib import Path
from typing import Any

import pytest

from taskquorum.cli import wire
from taskquorum.cli.inspect import CannotInspect, inspect_directory

from .fake import FakeServer, fake_servers


async def run(*arguments: str, server: FakeServer | None = None, stdin: bytes = b"", code: int = 0) -> tuple[str, str]:
    """Runs a command to its end and returns (stdout, stderr)."""
    environment = {**os.environ, "TASKQUORUM_SERVER": server.url if server else "http://127.0.0.1:9", "NO_COLOR": "1"}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "taskquorum", *arguments),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=environment,
    )
    out, err = await asyncio.wait_for(process.communicate(stdin), 30)
    assert process.returncode == code, err.decode()
    return out.decode(), err.decode()


async def test_a_task_from_submit_to_result_with_an_agent_from_a_function() -> None:
    async with fake_servers() as (cluster, servers):
        agent = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "taskquorum", "agent", "taskquorum.demo.basic:agent", "--id", "worker"),
            *("--server", servers[0].url, "--capability", "nlp=0.8", "--label", "zone=a", "--slots", "3", "--json"),
            stdout=asyncio.subprocess.PIPE,
        )
        await cluster.until(lambda: "worker" in cluster.agents, 20)
        shown = cluster.agents["worker"]
        assert shown["capabilities"] == {"nlp": 0.8}
        assert shown["labels"] == {"zone": "a"}
        assert shown["resources"] == {"slots": 3}
        out, _ = await run(
            "submit", "-", "--wait", "--json", server=servers[0], stdin=b'{"task_type":"echo","task_data":{"a":1}}'
        )
        assert json.loads(out)["result"] == {"a": 1}
        await run("submit", "-", "--wait", server=servers[0], stdin=b'{"task_type":"fail"}', code=1)
        agent.send_signal(signal.SIGTERM)
        counts, _ = await asyncio.wait_for(agent.communicate(), 20)
        assert json.loads(counts) == {"id": "worker", "completed": 1, "failed": 1, "refused": 0, "lost": 0}
        assert agent.returncode == 0
        assert cluster.left == ["worker"]


async def test_a_plain_function_is_an_agent_of_its_name(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("def double(ctx, data):\n    return data * 2\n")
    async with fake_servers() as (_cluster, servers):
        agent = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "taskquorum", "agent", "mine:double", "--server", servers[0].url), cwd=tmp_path
        )
        out, _ = await run("submit", "-", "--wait", "--json", server=servers[0], stdin=b'{"task_type":"double","task_data":21}')
        assert json.loads(out)["result"] == 42
        agent.terminate()
        assert await asyncio.wait_for(agent.wait(), 20) == 0


async def test_batches_lists_and_plain_lines() -> None:
    async with fake_servers() as (_, servers):
        lines = b'{"task_type":"a"}\n{"task_type":"b"}\n'
        out, _ = await run("submit", "-", server=servers[0], stdin=lines)
        assert [line.split("\t")[1] for line in out.splitlines()] == ["ready", "ready"]
        out, _ = await run("list", server=servers[0])
        assert [line.split("\t")[1] for line in out.splitlines()] == ["b", "a"]
        out, _ = await run("list", "--json", server=servers[0])
        assert json.loads(out)["count"] == 2
        out, _ = await run("submit", "-", "--json", server=servers[0], stdin=b'[{"name":"no type"}]', code=1)
        assert json.loads(out)["items"][0]["error"]["field"] == "/task_type"


async def test_refusals_go_to_standard_error_with_exit_code_1() -> None:
    async with fake_servers() as (_, servers):
        out, err = await run("get", "nothing", server=servers[0], code=1)
        assert (out, "404 not_found" in err) == ("", True)
        _, err = await run("get", "nothing", "--json", server=servers[0], code=1)
        assert json.loads(err)["error"]["code"] == "not_found"
        _, err = await run("agent", "no_such_module:f", server=servers[0], code=1)
        assert "no_such_module" in err
        await run("get", server=servers[0], code=2)


async def test_keys_and_the_state_of_the_cluster() -> None:
    async with fake_servers() as (cluster, servers):
        await run("kv", "put", "a/b", '{"x":1}', server=servers[0])
        out, _ = await run("kv", "get", "a/b", server=servers[0])
        assert json.loads(out) == {"x": 1}
        await run("kv", "put", "a/b", "2", "--if-absent", server=servers[0], code=1)
        await run("kv", "delete", "a/b", server=servers[0])
        await run("kv", "get", "a/b", server=servers[0], code=1)
        out, _ = await run("cluster", "status", server=servers[0])
        assert "leader\tfake-1" in out
        cluster.mute_beats = True
        await run("cluster", "status", server=servers[0], code=1)


async def test_watching_a_task_ends_with_it() -> None:
    async with fake_servers() as (cluster, servers):
        out, _ = await run("submit", "-", "--json", server=servers[0], stdin=b'{"task_type":"a"}')
        task = cluster.tasks[json.loads(out)["id"]]
        watching = asyncio.create_task(run("watch", task["id"], "--json", "--from-revision", "1", server=servers[0]))
        await cluster.touch(task, "completed")
        out, _ = await watching
        assert [json.loads(line)["type"] for line in out.splitlines()] == ["ready", "completed"]


# ---- inspect -------------------------------------------------------------------------------------


def varint(value: int) -> bytes:
    out = b""
    while value > 0x7F:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def message(*fields: tuple[int, Any]) -> bytes:
    """A protobuf message: ints as varints, bytes as length-delimited, ("fixed", n) as fixed64."""
    out = b""
    for tag, value in fields:
        if isinstance(value, bytes):
            out += varint(tag << 3 | 2) + varint(len(value)) + value
        elif isinstance(value, tuple):
            out += varint(tag << 3 | 1) + struct.pack("<Q", value[1])
        else:
            out += varint(tag << 3) + varint(value)
    return out


def frame(payload: bytes) -> bytes:
    return struct.pack("<IBBHI", len(payload), 1, 1, 0, 0) + payload


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """A data directory of a node that applied 7 entries, in the names and bytes of rust/store."""
    rocksdict = pytest.importorskip("rocksdict")
    log = rocksdict.Rdict(str(tmp_path / "log"), rocksdict.Options(raw_mode=True))
    meta = log.create_column_family("meta", rocksdict.Options(raw_mode=True))
    entries = log.create_column_family("entries", rocksdict.Options(raw_mode=True))
    meta[b"identity"] = frame(message((1, ("fixed", 0xABC)), (2, b"node-1"), (3, ("fixed", 0x99))))
    meta[b"hard_state"] = frame(message((1, 4), (2, ("fixed", 0xABC)), (3, 7)))
    meta[b"base"] = frame(message((1, 5), (2, 3), (4, b"state-2")))
    submit, assign = message((1, ("fixed", 1)), (11, b"")), message((4, 4), (40, b""))
    payload = frame(message((1, 10), (4, submit), (4, assign)))
    entries[(6).to_bytes(8, "big")] = frame(message((1, 6), (2, 4), (4, b"")))
    entries[(7).to_bytes(8, "big")] = frame(message((1, 7), (2, 4), (4, payload)))
    log.close()
    state = rocksdict.Rdict(str(tmp_path / "state-2"), rocksdict.Options(raw_mode=True))
    for name in ("meta", "task", "blob", "agent", "member", "session", "key", "idempotency", "event", "index"):
        state.create_column_family(name, rocksdict.Options(raw_mode=True))
    voters = message((1, struct.pack("<QQ", 0xABC, 0xDEF)))
    counts = b"".join(map(varint, [0, 0, 0, 2]))
    row = message((1, 7), (2, 4), (3, voters), (4, 12), (9, ("fixed", 0x99)), (11, 2), (13, counts))
    state.get_column_family("meta")[b""] = b"\x01" + row
    state.get_column_family("task")[b"t" * 16] = b"\x01"
    state.close()
    return tmp_path


def test_inspect_reads_a_stopped_nodes_files_and_writes_nothing(data_dir: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in data_dir.rglob("*")}
    found = inspect_directory(data_dir, 10)
    assert {path: path.stat().st_mtime_ns for path in data_dir.rglob("*")} == before
    assert found["identity"] == {"node_id": "node-1", "raft_id": f"{0xABC:016x}", "cluster_id": f"{0x99:016x}"}
    assert (found["log"]["term"], found["log"]["commit"], found["log"]["first_index"]) == (4, 7, 6)
    assert [entry["commands"] for entry in found["log"]["entries"]] == [[], ["submit", "assign"]]
    assert found["state"]["applied_index"] == 7
    assert found["state"]["voters"] == [f"{0xABC:016x}", f"{0xDEF:016x}"]
    assert found["state"]["tasks_by_status"] == {"ready": 2}
    assert found["state"]["rows"]["task"] == 1


def test_inspect_refuses_a_directory_in_use(data_dir: Path) -> None:
    import fcntl

    with (data_dir / "LOCK").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(CannotInspect, match="in use"):
            inspect_directory(data_dir, 10)
    with pytest.raises(CannotInspect, match="no data directory"):
        inspect_directory(data_dir / "log", 10)


@pytest.mark.parametrize("raw", [b"", b"\x08", b"\x0b\x00", b"\x12\x05ab", b"\xff" * 12])
def test_damaged_messages_are_told_not_guessed(raw: bytes) -> None:
    if raw:
        with pytest.raises(wire.Undecodable):
            wire.message(raw)
    with pytest.raises(wire.Undecodable):
        wire.frame_payload(raw)
