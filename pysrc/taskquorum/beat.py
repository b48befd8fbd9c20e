"""An agent's beats: a thread with a connection of its own, so that no task can hold them up.

It uses the standard library's blocking HTTP client on purpose: nothing that a task's function does
to the event loop, and nothing that the poll waits for, can delay a beat.
"""

from __future__ import annotations

import contextlib
import http.client
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import orjson

from taskquorum.lease import Key, Lease

BEAT_TIMEOUT_S = 1.0
"""Longest time for one beat's answer; two servers can be tried before the agent fences itself."""
RETRY_S = 0.1
"""Pause after a beat that failed on every server."""
ANSWER_BYTES_MAX = 8 << 20


class Load:
    """Utilisation of this machine since the last reading, 0..1 for cpu and memory (Linux; else 0)."""

    def __init__(self) -> None:
        self._last = self._ticks()

    def read(self) -> dict[str, float]:
        busy, total = self._ticks()
        d_busy, d_total = busy - self._last[0], total - self._last[1]
        self._last = (busy, total)
        cpu = d_busy / d_total if d_total > 0 else 0.0
        return {"cpu": round(min(1.0, max(0.0, cpu)), 4), "memory": round(self._memory(), 4), "network": 0.0}

    @staticmethod
    def _ticks() -> tuple[int, int]:
        try:
            fields = [int(word) for word in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
        except OSError:
            return 0, 0
        return sum(fields) - fields[3] - fields[4], sum(fields)

    @staticmethod
    def _memory() -> float:
        try:
            lines = Path("/proc/meminfo").read_text().splitlines()
        except OSError:
            return 0.0
        sizes = {line.split(":")[0]: int(line.split()[1]) for line in lines[:8]}
        total = sizes.get("MemTotal", 0)
        return 1 - sizes.get("MemAvailable", total) / total if total else 0.0


class BeatThread:
    """Beats for one registration; made anew after each. It ends by `stop`, or when the agent is unknown."""

    def __init__(
        self,
        servers: Sequence[str],
        agent_id: str,
        agent_epoch: int,
        heartbeat_ms: int,
        lease: Lease,
        *,
        on_reply: Callable[[Sequence[Mapping[str, Any]]], None],
        on_lost: Callable[[Sequence[Key]], None],
        on_stale: Callable[[], None],
    ) -> None:
        """The callbacks run on this thread: a reply's commands (often none), attempts lost by it, registration void."""
        self._servers = list(servers)
        self._path = f"/api/v1/agents/{quote(agent_id, safe='')}/heartbeat"
        self._agent_epoch = agent_epoch
        self._interval_s = heartbeat_ms / 1000
        self._lease = lease
        self._on_reply, self._on_lost, self._on_stale = on_reply, on_lost, on_stale
        self._load = Load()
        self._stop = threading.Event()
        self._connection: http.client.HTTPConnection | None = None
        self._thread = threading.Thread(target=self._run, name="taskquorum-beat", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread and waits for it (at most one beat's timeout)."""
        self._stop.set()
        self._thread.join(BEAT_TIMEOUT_S * 2)

    def _run(self) -> None:
        failures = 0
        while not self._stop.is_set():
            began = time.monotonic()
            if self._beat():
                failures = 0
                pause = self._interval_s - (time.monotonic() - began)
            else:
                failures += 1
                self._servers.append(self._servers.pop(0))
                self._close()
                pause = RETRY_S if failures % len(self._servers) == 0 else 0.0
            self._stop.wait(max(0.0, pause))
        self._close()

    def _beat(self) -> bool:
        """One beat on the first server; False when another should be tried."""
        asked = self._lease.held()
        body = orjson.dumps(
            {
                "agent_epoch": self._agent_epoch,
                "held": [{"task_id": task_id, "epoch": epoch} for task_id, epoch in asked],
                "load": self._load.read(),
            }
        )
        sent_at = time.monotonic()
        try:
            status, reply = self._post(body)
        except (OSError, http.client.HTTPException, orjson.JSONDecodeError):
            return False
        if status in (404, 409):
            self._stop.set()
            self._on_stale()
            return True
        if status != 200:
            return False
        listed = reply.get("held")
        keys = None if listed is None else [(str(item["task_id"]), int(item["epoch"])) for item in listed]
        lease_ms = int(reply.get("lease_ms") or 0)
        lost = self._lease.beaten(sent_at, lease_ms, asked, keys, time.monotonic())
        if lost:
            self._on_lost(lost)
        self._on_reply(reply.get("commands") or [])
        if reply.get("heartbeat_ms"):
            self._interval_s = int(reply["heartbeat_ms"]) / 1000
        return lease_ms > 0

    def _post(self, body: bytes) -> tuple[int, dict[str, Any]]:
        if self._connection is None:
            url = urlsplit(self._servers[0])
            kind = http.client.HTTPSConnection if url.scheme == "https" else http.client.HTTPConnection
            self._connection = kind(url.hostname or "", url.port, timeout=BEAT_TIMEOUT_S)
        self._connection.request("POST", self._path, body, {"Content-Type": "application/json"})
        response = self._connection.getresponse()
        raw = response.read(ANSWER_BYTES_MAX)
        answer = orjson.loads(raw) if raw else {}
        return response.status, answer if isinstance(answer, dict) else {}

    def _close(self) -> None:
        if self._connection is not None:
            with contextlib.suppress(OSError):
                self._connection.close()
            self._connection = None
