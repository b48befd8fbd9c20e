"""Commands on tasks: submit, get, list, watch, cancel, reschedule, retry, logs."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from taskquorum.cli.output import SERVER, JsonOption, ServerOption, on_terminal, print_fields, print_json, print_rows, say
from taskquorum.sync import Client
from taskquorum.task import SETTLED, TaskState, WatchEvent

TaskArgument = Annotated[str, typer.Argument(metavar="ID", help="The task's id.")]
SUBMIT_BYTES_MAX = 8 << 20
"""The server's limit for one body; a larger NDJSON file is to be cut by the caller."""


def register(app: typer.Typer) -> None:
    """Adds the commands to the application."""
    for function in (submit, get, watch, cancel, reschedule, retry, logs):
        app.command()(function)
    app.command("list")(list_tasks)


def submit(
    file: Annotated[str, typer.Argument(metavar="FILE|-", help="JSON: a task, a DAG or an array; or NDJSON.")],
    wait: Annotated[bool, typer.Option(help="Wait until every task ended; exit 1 unless all completed.")] = False,
    key: Annotated[str | None, typer.Option("--idempotency-key", help="Submitting again with it changes nothing.")] = None,
    server: ServerOption = SERVER,
    json: JsonOption = False,
) -> None:
    """Submit what a file (or standard input) describes."""
    raw = sys.stdin.buffer.read(SUBMIT_BYTES_MAX + 1) if file == "-" else Path(file).read_bytes()
    if len(raw) > SUBMIT_BYTES_MAX:
        raise ValueError(f"{file} is over {SUBMIT_BYTES_MAX} bytes: submit it in parts")
    with Client(server) as client:
        answer = client.submit_raw(raw, _content_type(raw, file), key)
        items: list[Any] = answer.get("items", [answer])
        failed = [item for item in items if "error" in item]
        if wait:
            ended = [_follow(client, str(item["id"]), quiet=json) for item in items if "id" in item]
            _print_tasks([state.raw for state in ended], json)
            failed += [dict(state.raw) for state in ended if not state.succeeded]
        elif json:
            print_json(answer)
        else:
            print_rows(("id", "status", "tasks"), [_submitted_row(item) for item in items])
    if failed:
        raise typer.Exit(1)


def _content_type(raw: bytes, file: str) -> str:
    """NDJSON by name, or when the first line is a whole document and there are more."""
    if file.endswith((".ndjson", ".jsonl")):
        return "application/x-ndjson"
    first, _, rest = raw.lstrip().partition(b"\n")
    if first.startswith(b"{") and rest.strip():
        try:
            orjson.loads(first)
        except orjson.JSONDecodeError:
            return "application/json"
        return "application/x-ndjson"
    return "application/json"


def _submitted_row(item: dict[str, Any]) -> Sequence[Any]:
    if "error" in item:
        return item["error"].get("code"), "refused", item["error"].get("detail")
    return item["id"], item.get("status"), len(item.get("tasks", ())) or None


def get(
    task_id: TaskArgument,
    wait: Annotated[bool, typer.Option(help="Wait until it ended; exit 1 unless it completed.")] = False,
    children: Annotated[bool, typer.Option(help="Show a DAG's tasks too.")] = False,
    server: ServerOption = SERVER,
    json: JsonOption = False,
) -> None:
    """Show a task."""
    with Client(server) as client:
        state = client.wait(task_id) if wait else client.get(task_id, include=["children"] if children else [])
    if json:
        print_json(state.raw)
    else:
        shown = {name: value for name, value in state.raw.items() if name != "children"}
        print_fields(shown)
        if state.raw.get("children"):
            _print_tasks(state.raw["children"], json=False)
    if wait and not state.succeeded:
        raise typer.Exit(1)


def list_tasks(
    status: Annotated[str | None, typer.Option(help="Only this status.")] = None,
    task_type: Annotated[str | None, typer.Option("--type", help="Only this task type.")] = None,
    parent: Annotated[str | None, typer.Option(help="Only children of this task.")] = None,
    label: Annotated[str | None, typer.Option(help="Only tasks with this label, KEY=VALUE.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000)] = 50,
    cursor: Annotated[str | None, typer.Option(help="Where the page before ended.")] = None,
    server: ServerOption = SERVER,
    json: JsonOption = False,
) -> None:
    """List tasks, newest first."""
    with Client(server) as client:
        page = client.list(status=status, task_type=task_type, parent=parent, label=label, limit=limit, cursor=cursor, count=True)
    if json:
        print_json({"items": page.items, "next_cursor": page.next_cursor, "revision": page.revision, "count": page.count})
        return
    _print_tasks(page.items, json=False)
    if page.next_cursor:
        say(f"{len(page.items)} of {page.count}; more with --cursor {page.next_cursor}")


def _print_tasks(items: Sequence[Any], json: bool) -> None:
    if json:
        print_json(items[0] if len(items) == 1 else items)
        return
    columns = ("id", "task_type", "status", "assigned_agent_id", "retry_count", "created_at")
    print_rows(columns, [[item.get(column) for column in columns] for item in items])


def watch(
    task_id: Annotated[str | None, typer.Argument(metavar="[ID]", help="A task: ends with it. Without: everything.")] = None,
    kinds: Annotated[str, typer.Option(help="Kinds of events, commas between.")] = "task,node,agent",
    from_revision: Annotated[int | None, typer.Option(help="Begin with this revision.")] = None,
    server: ServerOption = SERVER,
    json: JsonOption = False,
) -> None:
    """Watch a task until it ended (exit 1 unless it completed), or all events until Ctrl-C."""
    with Client(server) as client:
        if task_id is not None and not json:
            state = _follow(client, task_id, quiet=False)
            print_fields({"id": state.id, "status": state.status, "result": state.result, "error": state.error})
            raise typer.Exit(0 if state.succeeded else 1)
        events = client.watch(kinds=kinds.split(",") if task_id is None else ["task"], task=task_id, from_revision=from_revision)
        for event in events:
            _print_event(event, json)
            if task_id is not None and event.id == task_id and event.object.get("status") in SETTLED:
                raise typer.Exit(0 if event.object["status"] == "completed" else 1)


def _print_event(event: WatchEvent, json: bool) -> None:
    if json:
        fields = {"revision": event.revision, "kind": event.kind, "type": event.type, "id": event.id}
        print_json({**fields, "object": event.object})
    else:
        status, agent = event.object.get("status"), event.object.get("assigned_agent_id")
        line = f"{event.revision:>8}  {event.kind:<6} {event.type:<12} {event.id}"
        sys.stdout.write(line + "".join(f"  {part}" for part in (status, agent) if part) + "\n")
        sys.stdout.flush()


def _follow(client: Client, task_id: str, *, quiet: bool) -> TaskState:
    """Waits for a task, with a bar on a terminal (over its children, when it has some)."""
    if quiet or not on_terminal():
        return client.wait(task_id)
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f}%"), TimeElapsedColumn())
    with Progress(*columns, transient=True) as progress:
        bar = progress.add_task(task_id[:18], total=1.0)
        while True:
            state = client.get(task_id)
            _advance(progress, bar, state)
            if state.status in SETTLED:
                return client.wait(task_id)
            try:
                client.wait(task_id, timeout_s=0.5)
            except TimeoutError:
                continue


def _advance(progress: Progress, bar: TaskID, state: TaskState) -> None:
    join = state.raw.get("join") or {}
    done = join["ended"] / join["children"] if join.get("children") else float(state.raw.get("progress") or 0.0)
    progress.update(bar, completed=1.0 if state.status in SETTLED else done, description=f"{state.status} {state.id[:18]}")


def cancel(
    task_id: TaskArgument,
    kill: Annotated[bool, typer.Option(help="Revoke at once instead of asking the agent first.")] = False,
    grace_ms: Annotated[int | None, typer.Option(help="How long the agent may take before it is revoked.")] = None,
    server: ServerOption = SERVER,
    json: JsonOption = False,
) -> None:
    """Cancel a task and its children."""
    with Client(server) as client:
        _print_done(client.cancel(task_id, kill=kill, grace_ms=grace_ms), json)


def reschedule(
    task_id: TaskArgument,
    exclude: Annotated[list[str] | None, typer.Option(help="Agents that must not get it again.")] = None,
    priority: Annotated[int | None, typer.Option(min=-10, max=10)] = None,
    not_before: Annotated[str | None, typer.Option(help="RFC 3339 time.")] = None,
    server: ServerOption = SERVER,
    json: JsonOption = False,
) -> None:
    """Put a live task back into the queue; a running attempt is revoked."""
    with Client(server) as client:
        answer = client.reschedule(task_id, exclude_agents=exclude or [], priority=priority, not_before=not_before)
        _print_done(answer, json)


def retry(task_id: TaskArgument, server: ServerOption = SERVER, json: JsonOption = False) -> None:
    """Make a parked or failed task ready again."""
    with Client(server) as client:
        _print_done(client.retry(task_id), json)


def _print_done(answer: Any, json: bool) -> None:
    if json:
        print_json(answer)
    else:
        print_fields(answer)


def logs(
    task_id: TaskArgument,
    attempt: Annotated[int | None, typer.Option(min=1, help="Which attempt; default the newest.")] = None,
    server: ServerOption = SERVER,
    json: JsonOption = False,
) -> None:
    """Print what a task's attempt logged."""
    with Client(server) as client:
        lines = client.logs(task_id, attempt=attempt)
    if json:
        print_json(lines)
        return
    for line in lines:
        sys.stdout.write(f"{line.get('t', '')}  {line.get('level', ''):<5}  {line.get('text', '')}\n")
