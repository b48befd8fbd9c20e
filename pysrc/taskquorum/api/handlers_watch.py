"""Watch: every change of the cluster's objects in the order of revisions, as server-sent events."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec
from msgspec import Raw, Struct

from taskquorum.api.call import SSE, Call
from taskquorum.api.streams import EventStream
from taskquorum.errors import GoneError, InvalidError

KINDS: Final = ("task", "node", "agent", "kv")
REVISIONS_READ_MAX: Final = 256


def watch(call: Call) -> None:
    """Streams from `from_revision` (included) or after `Last-Event-ID`; without either, from now on."""
    native = call.app.node.native
    newest, oldest, _ = native.events(1 << 62, 1)
    start = _start(call, newest)
    if start < oldest:
        raise GoneError(
            f"revisions before {oldest} have been compacted: read the state and watch from there",
            field="from_revision",
            oldest=oldest,
            newest=newest,
        )
    keep = _Filter(call.query)
    at = start

    def read() -> tuple[list[bytes], bool]:
        nonlocal at
        newest, oldest, rows = native.events(at, REVISIONS_READ_MAX)
        if at < oldest:
            raise GoneError(f"revisions before {oldest} have been compacted", oldest=oldest)
        pieces = []
        for revision, events in rows:
            kept = keep(events)
            if kept is not None:
                kept = kept.replace(b"\n", b" ")
                pieces.append(b'id: %d\ndata: {"revision":%d,"events":%b}\n\n' % (revision, revision, kept))
        at = rows[-1][0] + 1 if rows else max(at, newest + 1)
        return pieces, len(rows) > 0 and at <= newest

    EventStream(call, SSE, read).begin()


def _start(call: Call, newest: int) -> int:
    last = call.request.headers.get("last-event-id")
    if last is not None:
        if not (last.isascii() and last.isdigit()) or len(last) > 18:
            raise InvalidError("a revision", field="Last-Event-ID")
        return int(last) + 1
    start = call.query.get("from_revision")
    return newest + 1 if start is None else int(start)


class _Event(Struct):
    kind: str
    id: str = ""
    object: Raw = msgspec.field(default_factory=lambda: Raw(b"{}"))


class _Task(Struct):
    parent_task_id: str | None = None
    labels: dict[str, str] = {}


_items: Final = msgspec.json.Decoder(list[Raw]).decode
_event: Final = msgspec.json.Decoder(_Event).decode
_task: Final = msgspec.json.Decoder(_Task).decode


class _Filter:
    """Keeps the events asked for; what is kept passes through as it was rendered."""

    def __init__(self, query: Mapping[str, Any]) -> None:
        self._kinds = query.get("kinds")
        self._task = query.get("task")
        self._label = query.get("label")
        self._prefix = query.get("prefix")
        if self._kinds is not None and self._kinds >= set(KINDS):
            self._kinds = None
        self._all = all(wanted is None for wanted in (self._kinds, self._task, self._label, self._prefix))

    def __call__(self, events: bytes) -> bytes | None:
        if self._all:
            return events
        kept = [bytes(text) for text in _items(events) if self._keeps(_event(text))]
        return b"[" + b",".join(kept) + b"]" if kept else None

    def _keeps(self, event: _Event) -> bool:
        kind = event.kind
        if self._kinds is not None and kind not in self._kinds:
            return False
        if kind == "task":
            task = _task(event.object)
            if self._task is not None and self._task not in (event.id, task.parent_task_id):
                return False
            if self._label is not None:
                key, value = self._label
                return bool(task.labels.get(key) == value)
        if kind == "kv" and self._prefix is not None:
            return event.id.startswith(self._prefix)
        return True
