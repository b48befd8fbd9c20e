"""`taskquorum inspect DIR`: what is in a stopped node's data directory. It never writes there.

The databases are opened read-only through a directory of links in a temporary place, so that even
a library that would leave a file behind leaves it elsewhere.
"""

from __future__ import annotations

import fcntl
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from taskquorum.cli import wire
from taskquorum.cli.output import JsonOption, print_fields, print_json, print_rows
from taskquorum.errors import TaskquorumError
from taskquorum.model import STATUSES

STATE_FAMILIES = ("meta", "task", "blob", "agent", "member", "session", "key", "idempotency", "event", "index")
COMMANDS = {
    10: "open_session",
    11: "submit",
    12: "cancel",
    13: "reschedule",
    14: "retry",
    15: "register_agent",
    16: "leave_agent",
    17: "drain_agent",
    18: "start",
    19: "progress",
    20: "complete",
    21: "fail",
    22: "put_key",
    23: "delete_key",
    24: "drain_node",
    40: "assign",
    41: "expire",
    42: "retention",
    43: "hash_check",
    44: "clock_advance",
}
LAST_ENTRIES_MAX = 1_000


class CannotInspect(TaskquorumError):
    """The directory cannot be looked into; the text says what to do."""


def register(app: typer.Typer) -> None:
    """Adds the command to the application."""
    app.command("inspect")(inspect)


def inspect(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Data directory of a node that is stopped.")],
    entries: Annotated[int, typer.Option(min=0, max=LAST_ENTRIES_MAX, help="Show so many of the last log entries.")] = 10,
    json: JsonOption = False,
) -> None:
    """Look into a stopped node's files: identity, applied index, rows, last log entries."""
    found = inspect_directory(directory, entries)
    if json:
        print_json(found)
        return
    print_fields(found["identity"])
    print_fields({f"log.{name}": value for name, value in found["log"].items() if name != "entries"})
    print_fields({f"state.{name}": value for name, value in found["state"].items() if name != "rows"})
    print_rows(("column family", "rows"), list(found["state"]["rows"].items()))
    columns = ("index", "term", "kind", "bytes", "commands")
    print_rows(columns, [[entry[column] for column in columns] for entry in found["log"]["entries"]])


def inspect_directory(directory: Path, entries: int) -> dict[str, Any]:
    """What `inspect` prints, as JSON values. Raises CannotInspect, or Undecodable for damaged bytes."""
    if not (directory / "log").is_dir():
        raise CannotInspect(f"{directory} is no data directory of a node: it has no 'log' in it")
    _refuse_while_in_use(directory)
    with _open(directory / "log") as log:
        meta, records = log.get_column_family("meta"), log.get_column_family("entries")
        identity = _frame(meta, b"identity")
        base = _frame(meta, b"base")
        hard_state = _frame(meta, b"hard_state")
        last = _last_entries(records, entries)
        first_index = next((int.from_bytes(key, "big") for key in records.keys()), None)  # noqa: SIM118 (no mapping)
    state_name = wire.blob(base, 4).decode()
    report = {
        "identity": {
            "node_id": wire.blob(identity, 2).decode(),
            "raft_id": f"{wire.number(identity, 1):016x}",
            "cluster_id": f"{wire.number(identity, 3):016x}",
        },
        "log": {
            "term": wire.number(hard_state, 1),
            "vote": f"{wire.number(hard_state, 2):016x}",
            "commit": wire.number(hard_state, 3),
            "base_index": wire.number(base, 1),
            "first_index": first_index,
            "last_index": last[-1]["index"] if last else wire.number(base, 1),
            "entries": last,
        },
        "state": {"directory": state_name, "rows": {}},
    }
    if state_name and (directory / state_name).is_dir():
        with _open(directory / state_name) as state:
            report["state"] = {"directory": state_name, **_state(state)}
    return report


def _refuse_while_in_use(directory: Path) -> None:
    """A node holds a lock on LOCK; a shared try of it tells, and changes nothing."""
    path = directory / "LOCK"
    if not path.exists():
        return
    with path.open("rb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError as error:
            raise CannotInspect(f"{directory} is in use: stop the node first") from error


@contextmanager
def _open(database: Path) -> Iterator[Any]:
    try:
        from rocksdict import AccessType, Options, Rdict
    except ImportError as error:
        raise CannotInspect("inspect needs the package rocksdict: pip install 'taskquorum[inspect]'") from error
    with tempfile.TemporaryDirectory(prefix="taskquorum-inspect-") as scratch:
        for file in database.iterdir():
            if file.name not in ("LOCK", "rocksdict-config.json"):
                (Path(scratch) / file.name).symlink_to(file.resolve())
        names = Rdict.list_cf(scratch)
        families = {name: Options(raw_mode=True) for name in names}
        opened = Rdict(scratch, Options(raw_mode=True), column_families=families, access_type=AccessType.read_only())
        try:
            yield opened
        finally:
            opened.close()


def _frame(family: Any, key: bytes) -> Mapping[int, list[wire.Field]]:
    raw = family.get(key)
    return {} if raw is None else wire.message(wire.frame_payload(raw))


def _last_entries(records: Any, count: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    rows = records.iter()
    rows.seek_to_last()
    while rows.valid() and len(found) < max(count, 1):
        found.append(_entry(rows.value()))
        rows.prev()
    return found[::-1]


def _entry(raw: bytes) -> dict[str, Any]:
    record = wire.message(wire.frame_payload(raw))
    data = wire.blob(record, 4)
    change = wire.number(record, 3) == 1
    return {
        "index": wire.number(record, 1),
        "term": wire.number(record, 2),
        "kind": "configuration" if change else "normal" if data else "no-op",
        "bytes": len(data),
        "commands": [] if change or not data else _commands(data),
    }


def _commands(data: bytes) -> list[str]:
    """The names of an entry's commands, in order."""
    payload = wire.message(wire.frame_payload(data))
    names = []
    for command in payload.get(4, []):
        tags = [tag for tag, _ in wire.fields(command) if tag >= 10] if isinstance(command, bytes) else []
        names += [COMMANDS.get(tag, f"unknown_{tag}") for tag in tags]
    return names


def _state(state: Any) -> dict[str, Any]:
    raw = state.get_column_family("meta").get(b"")
    meta = {} if raw is None else wire.message(wire.row_payload(raw))
    configuration = wire.message(wire.blob(meta, 3))
    by_status = wire.numbers(meta, 13)
    rows = {}
    for name in STATE_FAMILIES:
        rows[name] = sum(1 for _ in state.get_column_family(name).keys())  # noqa: SIM118 (no mapping)
    return {
        "applied_index": wire.number(meta, 1),
        "applied_term": wire.number(meta, 2),
        "revision": wire.number(meta, 4),
        "wall_time": datetime.fromtimestamp(wire.number(meta, 6) / 1e6, UTC).isoformat(),
        "hash": wire.blob(meta, 7).hex(),
        "machine_version": wire.number(meta, 8),
        "cluster_id": f"{wire.number(meta, 9):016x}",
        "voters": [f"{voter:016x}" for voter in wire.numbers(configuration, 1, width=8)],
        "learners": [f"{learner:016x}" for learner in wire.numbers(configuration, 2, width=8)],
        "tasks_submitted": wire.number(meta, 11),
        "tasks_by_status": {name: count for name, count in zip(STATUSES, by_status, strict=False) if count},
        "rows": rows,
    }
