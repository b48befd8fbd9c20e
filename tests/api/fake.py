"""A `Native` small enough to read: rows in dicts, outcomes at once, notices on the next loop turn.

It has no rules of its own but what the tests need; `proposed` keeps every command it was given.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from taskquorum._http import Limits, Server
from taskquorum._native import Busy
from taskquorum.api.app import App
from taskquorum.api.problems import refuse
from taskquorum.metrics import Metrics
from taskquorum.model import STATUSES, uuid_bytes
from taskquorum.node import Node

READY, ASSIGNED, COMPLETED = STATUSES.index("ready"), STATUSES.index("assigned"), STATUSES.index("completed")


def outcome(**given: Any) -> tuple[Any, ...]:
    """An outcome's tuple, as `Node.drain` gives it."""
    fields = {
        "refusal": 0, "revision": 7, "status": READY, "epoch": 0, "agent_id": "", "agent_epoch": 0, "ids": [], "names": [],
        "replayed": False, "field": "", "detail": "", "key_revision": 0, "create_revision": 0, "key_version": 0,
    }  # fmt: skip
    assert set(given) <= set(fields)
    return tuple((fields | given).values())


class FakeNative:
    """Tests set `decide` for outcomes other than accepted, `failure` for proposals that fail, `hold` to keep
    completions back until `release`."""

    node_id = "node-1"
    is_fenced = False

    def __init__(self) -> None:
        self.wake: Callable[[], None] = lambda: None
        self.proposed: list[tuple[str, dict[str, Any]]] = []
        self.groups: list[int] = []
        self.decide: Callable[[str, dict[str, Any]], dict[str, Any]] = lambda name, fields: {}
        self.failure = 0
        self.full = False
        self.hold = False
        self.readable = True
        self.reads = 0
        self.beats: list[Any] = []
        self.beat_answer = (4000, 500, False, False)
        self.notices: list[tuple[Any, ...]] = []
        self.statuses: dict[bytes, tuple[int, int]] = {}
        self.shown: dict[bytes, bytes] = {}
        self.keys: dict[tuple[str, str], tuple[bytes, int]] = {}
        self.agent_epochs: dict[str, int] = {}
        self.work: tuple[bytes, bytes] = (b"[]", b"[]")
        self.held_seen: list[Any] = []
        self.watched: dict[Any, int] = {}
        self.rows: list[tuple[int, bytes]] = []
        self.oldest = 1
        self.queries: list[Any] = []
        self.log = [b'{"log_index":%d,"command_data":{"a":\n1}}' % index for index in range(3, 6)]
        self.view: dict[str, Any] = {"leader": "node-1", "commit_index": 5, "applied_index": 5, "nodes": [{"node_id": "node-1"}]}
        self.transfers: list[str | None] = []
        self.awaited: list[tuple[str, int]] = []
        self.member_end = (True, "voter")
        self.backups: list[FakeBackup] = []
        self._token = 0
        self._called = asyncio.Event()

    async def until(self, wanted: Callable[[], object]) -> None:
        """Waits until calls of this node have made `wanted` true: looks after each."""
        async with asyncio.timeout(5):
            while not wanted():
                self._called.clear()
                await self._called.wait()

    async def heard(self) -> None:
        """Waits until what was told has been taken and handled."""
        await self.until(lambda: not self.notices)

    # ---- completions
    def tell(self, *notices: tuple[Any, ...]) -> None:
        self.notices.extend(notices)
        if not self.hold:
            self.wake()

    def release(self) -> None:
        self.hold = False
        self.wake()

    def drain(self, limit: int) -> list[tuple[Any, ...]]:
        taken, self.notices = self.notices[:limit], self.notices[limit:]
        self._called.set()
        return taken

    def _next(self) -> int:
        if self.full:
            raise Busy("full")
        self._called.set()
        self._token += 1
        return self._token

    def propose(self, commands: bytes, timeout_ms: int) -> int:
        token = self._next()
        items = [next(iter(item.items())) for item in json.loads(commands)]
        self.proposed += items
        self.groups.append(len(items))
        outcomes = [] if self.failure else [outcome(**self.decide(name, fields)) for name, fields in items]
        self.tell((0, token, self.failure, 7, outcomes))
        return token

    def read_index(self, timeout_ms: int) -> int:
        token = self._next()
        self.reads += 1
        self.tell((1, token, self.readable))
        return token

    def beat(self, beats: list[Any], timeout_ms: int) -> int:
        token = self._next()
        self._token += len(beats)
        self.beats += beats
        self.tell(*((2, token + at, *self.beat_answer) for at in range(len(beats))))
        return token

    def transfer_leader(self, to: str | None, timeout_ms: int) -> int:
        self.transfers.append(to)
        return self.snapshot(timeout_ms)

    def await_member(self, node_id: str, timeout_ms: int) -> int:
        token = self._next()
        self.awaited.append((node_id, timeout_ms))
        self.tell((6, token, *self.member_end))
        return token

    def snapshot(self, timeout_ms: int) -> int:
        token = self._next()
        self.tell((6, token, True, ""))
        return token

    def backup(self) -> FakeBackup:
        if self.full:
            raise Busy("2 backups are under way")
        self.backups.append(FakeBackup())
        return self.backups[-1]

    # ---- interest
    def _watch(self, name: Any, watch: bool) -> None:
        self.watched[name] = self.watched.get(name, 0) + (1 if watch else -1)
        self._called.set()

    def watch_task(self, task_id: bytes, watch: bool) -> None:
        self._watch(task_id, watch)

    def watch_agent(self, agent_id: str, watch: bool) -> None:
        self._watch(agent_id, watch)

    def watch_events(self, watch: bool) -> None:
        self._watch("events", watch)

    # ---- reads
    def put_task(self, task_id: str, status: int, epoch: int = 0) -> None:
        self.statuses[uuid_bytes(task_id)] = (status, epoch)
        self.shown[uuid_bytes(task_id)] = json.dumps({"id": task_id, "status": STATUSES[status]}).encode()

    def task(self, task_id: bytes, children: bool, events: bool) -> tuple[int, bytes | None]:
        self.queries.append((children, events))
        return 9, self.shown.get(task_id)

    def tasks(self, query: bytes) -> tuple[int, bytes, str | None, int | None]:
        self.queries.append(json.loads(query))
        if b"broken" in query:
            raise ValueError("a cursor of another list")
        return 9, b"[1]", "next", 1

    agents = tasks

    def task_result(self, task_id: bytes) -> tuple[int, int, bytes | None]:
        status, _ = self.statuses.get(task_id, (-1, 0))
        return 9, status, b'{"r": 1}' if status == COMPLETED else None

    def task_events(self, task_id: bytes) -> tuple[int, bytes | None]:
        return 9, b"[]" if task_id in self.statuses else None

    def task_logs(self, task_id: bytes, attempt: int) -> tuple[int, bytes | None]:
        return 9, b'{"text":"a"}\n' if task_id in self.statuses and attempt < 2 else None

    task_graph = task_events

    def task_status(self, task_id: bytes) -> tuple[int, int, int]:
        return (9, *self.statuses.get(task_id, (-1, 0)))

    def agent(self, agent_id: str) -> tuple[int, bytes | None]:
        return 9, b'{"agent_id":"a"}' if agent_id in self.agent_epochs else None

    def agent_epoch(self, agent_id: str) -> tuple[int, int, int]:
        return 9, self.agent_epochs.get(agent_id, 0), 0

    def assignments(self, agent_id: str, held: bytes, limit: int) -> tuple[int, bytes, bytes]:
        self.held_seen.append(json.loads(held))
        return (9, *self.work)

    def key(self, tenant: str, key: str) -> tuple[int, bytes | None, int]:
        value = self.keys.get((tenant, key))
        return (9, None, 0) if value is None else (9, *value)

    def events(self, from_revision: int, limit: int) -> tuple[int, int, list[tuple[int, bytes]]]:
        newest = self.rows[-1][0] if self.rows else 9
        return newest, self.oldest, [row for row in self.rows if row[0] >= from_revision][:limit]

    def raft_log(self, from_index: int, limit: int) -> tuple[int, int, list[bytes]]:
        return 3, 5, self.log[max(0, from_index - 3) :][:limit] if from_index >= 3 else []

    def status(self) -> bytes:
        return json.dumps(self.view).encode()

    def counters(self) -> bytes:
        histogram = {"count": 2, "sum": 30, "max": 20, "buckets": [[10, 1], [20, 2], [None, 2]]}
        return json.dumps({"commit_us": histogram, "entries_applied": 4, "inbox_depth": 1}).encode()


class FakeBackup:
    """Three pieces and an end."""

    def __init__(self) -> None:
        self.pieces = [b"head", b"x" * 300_000, b"tail"]
        self.closed = False

    def manifest(self) -> bytes:
        return b'{"revision": 12, "bytes": 300000}'

    def read(self) -> bytes:
        return self.pieces.pop(0) if self.pieces else b""

    def close(self) -> None:
        self.closed = True


class Clock:
    """The loop's time, which a test puts forward."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.ahead_s = 0.0

    def __call__(self) -> float:
        return self._loop.time() + self.ahead_s


class Answer:
    """What came back."""

    def __init__(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    def __repr__(self) -> str:
        return f"{self.status} {self.body!r}"


class Api:
    """The whole HTTP side over loopback, on a fake node."""

    def __init__(self, native: FakeNative, clock: Clock, port: int, node: Node, app: App) -> None:
        self.native = native
        self.clock = clock
        self.port = port
        self.node = node
        self.app = app

    async def call(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        """One request on a connection of its own; `body` as JSON unless it is bytes. A path from `/tasks` on is
        below the base."""
        reader, writer = await self.open(method, path, body, **headers)
        try:
            async with asyncio.timeout(10):
                status, shown = await read_head(reader)
                size = int(shown["content-length"])
                return Answer(status, shown, await reader.readexactly(size))
        finally:
            writer.close()

    async def open(
        self, method: str, path: str, body: Any = None, **headers: str
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Sends a request and leaves the answer to be read."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        raw = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        named = {name.replace("_", "-").lower(): value for name, value in headers.items()}
        if raw:
            named.setdefault("content-type", "application/json")
        lines = "".join(f"{name}: {value}\r\n" for name, value in named.items())
        base = "" if path.startswith(("/api", "/healthz", "/readyz", "/metrics", "/openapi", "/docs")) else "/api/v1"
        writer.write(f"{method} {base}{path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(raw)}\r\n{lines}\r\n".encode() + raw)
        return reader, writer


async def read_head(reader: asyncio.StreamReader) -> tuple[int, dict[str, str]]:
    """Status and headers of an answer."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    first, *lines = head.strip().split("\r\n")
    return int(first.split(" ")[1]), {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}


@asynccontextmanager
async def serve_api() -> AsyncIterator[Api]:
    """The API on a free port, ended on exit."""
    loop = asyncio.get_running_loop()
    native, clock = FakeNative(), Clock(loop)
    node = Node(native, loop, clock)
    native.wake = lambda: loop.call_soon(node.on_notify)  # type: ignore[assignment,return-value]
    metrics = Metrics(native)
    app = App(node, loop, metrics)
    server = Server(app.admit, app.dispatch, refuse, loop.time, Limits())
    metrics.server = server
    native.tell((7, "node-1", 1, True))
    listening = await loop.create_server(server.protocol, "127.0.0.1", 0)
    try:
        yield Api(native, clock, listening.sockets[0].getsockname()[1], node, app)
    finally:
        listening.close()
        server.abort()
