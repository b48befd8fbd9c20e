"""The Rust extension from Python: one real node on a disk, every kind of call once.

A group of three is the cluster tests' business; here it counts what crosses, and how.
"""

from __future__ import annotations

import json
import select
import struct
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from taskquorum import _native

COMPLETED = 9
REFUSED_NOT_FOUND = 1


class Running:
    """A started node whose notices are taken by whoever waits for one."""

    def __init__(self, data_dir: Path) -> None:
        self.native = _native.Node(json.dumps({"node_id": "n1", "data_dir": str(data_dir)}).encode())
        self.native.start()
        self.seen: list[tuple[Any, ...]] = []
        self.until(lambda notice: notice[0] == 7 and notice[3])

    def until(self, wanted: Callable[[tuple[Any, ...]], bool], seconds: float = 10) -> tuple[Any, ...]:
        """The first notice that is wanted and was not taken yet; the others stay in `seen`."""
        for at, notice in enumerate(self.seen):
            if wanted(notice):
                return self.seen.pop(at)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            select.select([self.native.notify_fd()], [], [], 0.2)
            taken = self.native.drain(1)
            if taken and wanted(taken[0]):
                return taken[0]
            self.seen += taken
        raise AssertionError(f"no such notice among {self.seen}")

    def propose(self, *commands: dict[str, Any]) -> list[tuple[Any, ...]]:
        token = self.native.propose(json.dumps(commands).encode(), 5_000)
        _, _, failure, _, outcomes = self.until(lambda notice: notice[:2] == (0, token))
        assert failure == 0
        return list(outcomes)


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Running]:
    running = Running(tmp_path)
    yield running
    assert running.native.stop(10_000)


def register(node: Running, agent_id: str = "a") -> int:
    """Registers an agent; returns its agent_epoch."""
    [outcome] = node.propose({"register_agent": {"agent_id": agent_id, "node_id": "n1", "capabilities": {"nlp": 8_000}}})
    return int(outcome[5])


def submit(node: Running, **fields: Any) -> uuid.UUID:
    task_id = uuid.uuid4()
    task = {"id": str(task_id), "task_type": "t", "payload": {}, **fields}
    [outcome] = node.propose({"submit": {"tenant": "default", "body_hash": "00" * 16, "tasks": [task]}})
    assert outcome[0] == 0 and outcome[6] == [task_id.bytes]
    return task_id


def assign(node: Running, task_id: uuid.UUID) -> None:
    """Plays the policy for one task."""
    batch = node.native.policy_wait(5_000)
    assert batch is not None and batch.leader and len(batch) == len(batch.op) > 0
    [agent] = json.loads(batch.agents)
    columns = struct.pack("<I", 0), struct.pack("<I", agent["agent"]), struct.pack("<Q", agent["agent_epoch"])
    node.native.policy_assign(batch.term, task_id.bytes, *columns, struct.pack("<6h", 1, 2, 3, 4, 5, -6))


def until_status(node: Running, wanted: Callable[[dict[str, Any]], bool], seconds: float = 10) -> dict[str, Any]:
    """The node's own view is renewed every 50 ms: asks until it holds what is wanted."""
    end = time.monotonic() + seconds
    while not wanted(status := json.loads(node.native.status())):
        assert time.monotonic() < end, status
    return dict(status)


def test_a_task_is_submitted_assigned_and_completed(node: Running) -> None:
    register(node)
    node.native.watch_agent("a", True)
    task_id = submit(node, payload={"n": 1})
    node.native.watch_task(task_id.bytes, True)
    assign(node, task_id)
    assert node.until(lambda notice: notice[0] == 4) == (4, "a")
    _, assignments, commands = node.native.assignments("a", b"[]", 10)
    [assignment] = json.loads(assignments)
    assert (assignment["task_id"], assignment["epoch"], assignment["task_data"]) == (str(task_id), 1, {"n": 1})
    assert json.loads(commands) == []
    done = {"task_id": str(task_id), "epoch": 1, "agent_id": "a", "result": {"ok": True}}
    [outcome] = node.propose({"complete": done})
    assert outcome[2] == COMPLETED
    node.until(lambda notice: notice == (3, task_id.bytes, COMPLETED))
    assert node.native.task_result(task_id.bytes)[1:] == (COMPLETED, b'{"ok": true}')


def test_a_user_s_json_crosses_byte_for_byte(node: Running) -> None:
    task_id = uuid.uuid4()
    payload = b'{"kept" : [1.50, 1e400, "\\ud83d\\ude00"],  "deep":' + b"[" * 500 + b"]" * 500 + b"}"
    command = b'[{"submit":{"tenant":"default","tasks":[{"id":"%s","task_type":"t","payload":%s}]}}]'
    token = node.native.propose(command % (str(task_id).encode(), payload), 5_000)
    node.until(lambda notice: notice[:3] == (0, token, 0))
    _, task = node.native.task(task_id.bytes, False, False)
    assert task is not None and b'"task_data":' + payload + b"," in task
    _, _, rows = node.native.raft_log(1, 100)
    assert any(payload in row for row in rows)


def test_the_documented_form_of_every_command_is_read(node: Running) -> None:
    """The example in `wire.rs` is what callers copy: each command of it has an outcome, refused or not."""
    source = (Path(__file__).resolve().parents[2] / "rust/native/src/wire.rs").read_text()
    example = source.split("//! ```json\n")[1].split("//! ```")[0].replace("//! ", "").replace('"…"', f'"{uuid.uuid4()}"')
    commands = json.loads(example)
    assert len({name for command in commands for name in command}) == 17
    assert len(node.propose(*commands)) == len(commands)


@pytest.mark.parametrize(
    "commands",
    [
        b"",
        b"{}",
        b"[]",
        b'[{"nope":{}}]',
        b'[{"retry":{"task_id":"x"}}]',
        b'[{"retry":{"task_id":"","more":1}}]',
        b'[{"retry":{}}] x',
    ],
)
def test_what_is_no_array_of_commands_is_a_value_error(node: Running, commands: bytes) -> None:
    with pytest.raises(ValueError):
        node.native.propose(commands, 1_000)


def test_a_refusal_says_why(node: Running) -> None:
    [outcome] = node.propose({"cancel": {"task_id": str(uuid.uuid4())}})
    assert outcome[0] == REFUSED_NOT_FOUND and outcome[10]


def test_reads_of_what_is_unknown_have_no_answer(node: Running) -> None:
    native, nobody = node.native, uuid.uuid4().bytes
    for read in (native.task_events, native.task_graph):
        assert read(nobody)[1] is None
    assert native.task(nobody, True, True)[1] is None
    assert native.task_logs(nobody, 0)[1] is None
    assert native.task_result(nobody)[1:] == (-1, None)
    assert native.task_status(nobody)[1] == -1
    assert native.agent("nobody")[1] is None
    assert native.agent_epoch("nobody")[1:] == (0, -1)
    assert native.key("default", "k")[1:] == (None, 0)
    with pytest.raises(ValueError):
        native.task(b"short", False, False)
    with pytest.raises(ValueError):
        native.tasks(b'{"tenant":"default","limit":10,"cursor":"00"}')


def test_a_key_and_its_events(node: Running) -> None:
    node.native.watch_events(True)
    [outcome] = node.propose({"put_key": {"tenant": "default", "key": "k", "value": [1]}})
    revision = outcome[11]
    node.until(lambda notice: notice[0] == 5 and notice[1] >= revision)
    _, key, key_revision = node.native.key("default", "k")
    assert key is not None and json.loads(key)["value"] == [1] and key_revision == revision
    newest, oldest, rows = node.native.events(revision, 10)
    assert oldest <= revision <= newest and json.loads(dict(rows)[revision])[0]["type"] == "put"


def test_reads_beats_and_snapshots_complete(node: Running) -> None:
    agent_epoch = register(node)
    token = node.native.read_index(5_000)
    assert node.until(lambda notice: notice[:2] == (1, token)) == (1, token, True)
    token = node.native.beat([("a", agent_epoch, (1, 2, 3)), ("a", agent_epoch + 1, None), ("nobody", 1, None)], 5_000)
    beats = [node.until(lambda notice, at=at: notice[:2] == (2, token + at)) for at in range(3)]  # type: ignore[misc]
    assert beats[0][2] > 0 and not beats[0][4]
    assert beats[1][2] == 0 and beats[1][4]
    assert beats[2][2] == 0 and beats[2][5]
    token = node.native.snapshot(5_000)
    assert node.until(lambda notice: notice[:2] == (6, token))[2]


def test_a_page_of_tasks_leads_to_the_next(node: Running) -> None:
    ids = [str(submit(node)) for _ in range(5)]
    query = {"tenant": "default", "limit": 2, "count": True}
    seen: list[str] = []
    cursor = None
    for _ in range(3):
        _, items, cursor, count = node.native.tasks(json.dumps({**query, "cursor": cursor}).encode())
        assert count == 5
        seen += [item["id"] for item in json.loads(items)]
    assert cursor is None and sorted(seen) == sorted(ids)


def test_status_and_counters_are_json(node: Running) -> None:
    register(node)
    status = until_status(node, lambda status: status["live_agents"] == 1)
    assert status["leader"] == "n1" and status["quorum"] == {"voters": 1, "healthy": 1, "has_quorum": True}
    assert [(member["node_id"], member["node_role"]) for member in status["nodes"]] == [("n1", "leader")]
    assert json.loads(node.native.counters())["fsync_us"]["count"] > 0


def test_columns_of_different_lengths_are_refused(node: Running) -> None:
    with pytest.raises(ValueError):
        node.native.policy_assign(1, bytes(16), bytes(4), bytes(4), bytes(8), bytes(10))
    with pytest.raises(ValueError):
        node.native.policy_assign(1, bytes(15), b"", b"", b"", b"")


def test_nothing_runs_before_start_and_a_directory_has_one_owner(tmp_path: Path) -> None:
    config = json.dumps({"node_id": "n1", "data_dir": str(tmp_path)}).encode()
    first = _native.Node(config)
    with pytest.raises(_native.NativeError, match="not started"):
        first.drain(1)
    with pytest.raises(_native.NativeError, match="in use"):
        _native.Node(config)
    with pytest.raises(_native.NativeError, match="no_such_field"):
        _native.Node(b'{"no_such_field":1}')


def test_stop_ends_a_policy_s_wait_and_a_restart_finds_everything(tmp_path: Path) -> None:
    node = Running(tmp_path)
    task_id = submit(node)
    while node.native.policy_wait(0) is not None:
        pass
    ended = threading.Event()

    def wait(native: _native.Node) -> None:
        while native.policy_wait(60_000) is not None:
            pass  # A delta may still be on its way when the wait begins.
        ended.set()

    waiter = threading.Thread(target=wait, args=(node.native,))
    waiter.start()
    assert node.native.stop(10_000)
    assert ended.wait(10)
    waiter.join(10)
    with pytest.raises(_native.Busy):
        node.native.read_index(1_000)
    del node, waiter
    again = Running(tmp_path)
    assert again.native.task_status(task_id.bytes)[1] >= 0
    assert again.native.stop(10_000)
