"""Words and bounds that server, SDK and command line share (DESIGN §7, §6)."""

from __future__ import annotations

import os
import random
import re
import time
from importlib.metadata import PackageNotFoundError, version
from typing import Final

STATUSES: Final = (
    "blocked",
    "delayed",
    "waiting",
    "ready",
    "assigned",
    "running",
    "cancelling",
    "input_required",
    "parked",
    "completed",
    "failed",
    "skipped",
    "cancelled",
)
"""Task statuses; the position is the number that crosses from Rust."""

ASSIGNED: Final = STATUSES.index("assigned")
PARKED: Final = STATUSES.index("parked")

END_STATUSES: Final = frozenset({"completed", "failed", "skipped", "cancelled"})
SETTLED_STATUSES: Final = END_STATUSES | {"parked"}
"""Where a wait ends: nothing happens any more without someone asking for it."""

AGENT_STATUSES: Final = ("up", "draining", "lost", "left")

API_BASE: Final = "/api/v1"

PAYLOAD_BYTES_MAX: Final = 1 << 20
"""One task's `task_data`, a result, a checkpoint or a key's value."""
BODY_BYTES_MAX: Final = 1 << 20
BATCH_BODY_BYTES_MAX: Final = 8 << 20
BATCH_ITEMS_MAX: Final = 1_000
DAG_TASKS_MAX: Final = 10_000
DAG_EDGES_MAX: Final = 100_000
JSON_DEPTH_MAX: Final = 64
WAIT_MS_MAX: Final = 60_000
LIST_LIMIT_MAX: Final = 1_000
BASIS_POINTS: Final = 10_000
DRAIN_DEADLINE_MS: Final = 3_600_000

_UUID = re.compile(r"[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}")


def is_uuid(text: str) -> bool:
    """Whether `text` has the 36-character form of a UUID of any version."""
    return _UUID.fullmatch(text) is not None


def uuid_bytes(text: str) -> bytes:
    """The 16 bytes of a UUID in text form. Raises ValueError when it is none."""
    if not is_uuid(text):
        raise ValueError("not a UUID")
    return bytes.fromhex(text.replace("-", ""))


def uuid_text(raw: bytes) -> str:
    """The text form of 16 bytes. Raises ValueError for another length."""
    if len(raw) != 16:
        raise ValueError("a UUID has 16 bytes")
    text = raw.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


class _Sequence:
    """UUIDs of version 7 (RFC 9562 §5.7) that grow within the process: 48 bits of milliseconds, 12 bits
    of a counter that restarts each millisecond, 62 random bits."""

    def __init__(self) -> None:
        self._random = random.Random(os.urandom(32))
        self._last_ms = 0
        self._counter = 0

    def next(self) -> str:
        now_ms = time.time_ns() // 1_000_000
        if now_ms > self._last_ms:
            self._last_ms = now_ms
            self._counter = self._random.getrandbits(9)
        else:
            self._counter += 1
            if self._counter > 0xFFF:  # more than 3,500 in one millisecond: borrow from the next one
                self._last_ms += 1
                self._counter = 0
        low = 0x8000_0000_0000_0000 | self._random.getrandbits(62)
        text = f"{self._last_ms:012x}7{self._counter:03x}{low:016x}"
        return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


_SEQUENCE = _Sequence()


def new_task_id() -> str:
    """A new UUIDv7 as text. Not safe to call after a fork without `exec`."""
    return _SEQUENCE.next()


def release() -> str:
    """This release's version, `0.0.0` when it is not installed."""
    try:
        return version("taskquorum")
    except PackageNotFoundError:
        return "0.0.0"
