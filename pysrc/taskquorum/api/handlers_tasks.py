"""Tasks: submit, read, wait, list, cancel, put back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from taskquorum.api import normalize, problems, wire
from taskquorum.api.call import NDJSON, Call
from taskquorum.api.normalize import Submit
from taskquorum.api.schema import CancelBody, EmptyBody, RescheduleBody
from taskquorum.api.waits import unknown_task, wait_for_task
from taskquorum.errors import ConflictError, InvalidError, NotFoundError, ProblemError, StorageFullError
from taskquorum.model import STATUSES, uuid_bytes, uuid_text
from taskquorum.node import Outcome

IDEMPOTENCY_KEY_MAX: Final = 255
_WHITE: Final = b" \t\r\n"

_cancel: Final = msgspec.json.Decoder(CancelBody)
_reschedule: Final = msgspec.json.Decoder(RescheduleBody)
_empty: Final = msgspec.json.Decoder(EmptyBody)


# ---- submit --------------------------------------------------------------------------------------


def submit(call: Call) -> None:
    """One task, a DAG, an array or NDJSON of both."""
    body = call.request.body
    content_type = call.request.headers.get("content-type", "")
    key = call.request.headers.get("idempotency-key", "")
    if len(key) > IDEMPOTENCY_KEY_MAX or not key.isprintable():
        raise InvalidError(f"1 to {IDEMPOTENCY_KEY_MAX} printable characters", field="Idempotency-Key")
    if call.app.disk_full():
        raise StorageFullError("less than 5 % of this node's disk is free: send it to another node or later", retry_after_s=30)
    lines = content_type.lower().startswith("application/x-ndjson")
    if lines or body.lstrip(_WHITE)[:1] == b"[":
        _submit_batch(call, normalize.ndjson_items(body) if lines else normalize.array_items(body), key)
        return
    item = normalize.submit(body, key)
    wait_ms = call.query.get("wait_ms", 0)

    def applied(outcomes: Sequence[Outcome]) -> None:
        outcome = outcomes[0]
        if outcome.refusal:
            raise problems.from_outcome(outcome, _body_field(item, outcome.field))
        answer = _submitted(item, outcome)
        answer["revision"] = outcome.revision
        if wait_ms:
            _wait_for_end(call, answer, wait_ms)
        else:
            call.object(answer, outcome.revision, 202)

    call.app.node.propose((item.command,), applied, call.fail)


def _wait_for_end(call: Call, answer: dict[str, Any], wait_ms: int) -> None:
    def waited(ended: bool) -> None:
        if not ended:
            call.object(answer, answer["revision"], 202)
            return
        revision, task = call.app.node.native.task(uuid_bytes(answer["id"]), False, False)
        if task is None:
            raise unknown_task()
        call.json(task, revision)

    wait_for_task(call, answer["id"], wait_ms, None, waited)


def _submitted(item: Submit, outcome: Outcome) -> dict[str, Any]:
    """A replay answers with the ids of the first submit."""
    ids = [uuid_text(raw) for raw in outcome.ids]
    task_id = ids[0] if ids else item.task_id
    if item.children is None:
        return {"id": task_id, "status": STATUSES[outcome.status]}
    children = item.children
    if len(ids) == len(children) + 1:
        children = [(name, child) for (name, _), child in zip(children, ids[1:], strict=True)]
    tasks = [{"name": name, "id": child} for name, child in children]
    return {"id": task_id, "status": STATUSES[outcome.status], "tasks": tasks}


def _body_field(item: Submit, field: str) -> str | None:
    """The machine's pointer into the command as one into the body (a DAG's parent is the command's task 0)."""
    parts = field.split("/")
    if len(parts) < 3 or parts[1] != "tasks" or not parts[2].isdigit():
        return field and item.base + field
    rest = "".join("/" + part for part in parts[3:])
    position = int(parts[2])
    if item.children is None or position == 0:
        return item.base + rest
    return f"{item.base}/tasks/{position - 1}{rest}"


def _submit_batch(call: Call, bodies: Sequence[bytes], key: str) -> None:
    if key:
        raise InvalidError("the items of an array carry their own idempotency_key", field="Idempotency-Key")
    if call.query.get("wait_ms"):
        raise InvalidError("an array cannot be waited for", field="wait_ms")
    items = normalize.batch(bodies)
    commands = [item.command for item in items if isinstance(item, Submit)]

    def applied(outcomes: Sequence[Outcome]) -> None:
        answers: list[dict[str, Any]] = []
        waiting = iter(outcomes)
        revision = 0
        for item in items:
            problem: ProblemError
            if isinstance(item, Submit):
                outcome = next(waiting)
                revision = max(revision, outcome.revision)
                if not outcome.refusal:
                    answers.append(_submitted(item, outcome))
                    continue
                problem = problems.from_outcome(outcome, _body_field(item, outcome.field))
            else:
                problem = item
            answers.append({"error": problems.document(problem)})
        if not revision:
            revision = call.app.node.native.task_status(bytes(16))[0]
        call.object({"items": answers, "revision": revision}, revision, 202)

    if commands:
        call.app.node.propose(commands, applied, call.fail)
    else:
        applied(())


# ---- read ----------------------------------------------------------------------------------------


def get(call: Call) -> None:
    """The task, at once or when it gets somewhere."""
    task_id = call.task_id()
    include = call.query.get("include", frozenset())

    def show(_: bool) -> None:
        revision, task = call.app.node.native.task(uuid_bytes(task_id), "children" in include, "events" in include)
        if task is None:
            raise unknown_task()
        call.json(task, revision)

    wait_ms = call.query.get("wait_ms", 0)
    if wait_ms:
        call.read(lambda: wait_for_task(call, task_id, wait_ms, call.query.get("until"), show))
    else:
        call.read(lambda: show(True))


def page(revision: int, items: bytes, cursor: str | None, count: int | None, counted: bool) -> bytes:
    """`{"items","next_cursor","revision"}` around rendered items."""
    shown: dict[str, Any] = {"items": msgspec.Raw(items), "next_cursor": cursor, "revision": revision}
    if counted:
        shown["count"] = count
    return msgspec.json.encode(shown)


def listing(call: Call) -> None:
    """Tasks, newest first."""
    given = call.query
    query: dict[str, Any] = {
        "tenant": given.get("tenant", normalize.DEFAULT_TENANT),
        "limit": given.get("limit", 100),
        "count": given.get("count", False),
    }
    for name in ("status", "task_type", "parent", "label", "cursor"):
        if name in given:
            query[name] = given[name]
    if "created_after" in given:
        query["created_after_us"] = given["created_after"]
    text = msgspec.json.encode(query)

    def show() -> None:
        try:
            revision, items, cursor, count = call.app.node.native.tasks(text)
        except ValueError as error:
            raise InvalidError(str(error), field="cursor" if "cursor" in given else None) from error
        call.json(page(revision, items, cursor, count, query["count"]), revision)

    call.read(show)


def events(call: Call) -> None:
    """The task's timeline, oldest first."""
    raw = uuid_bytes(call.task_id())

    def show() -> None:
        revision, timeline = call.app.node.native.task_events(raw)
        if timeline is None:
            raise unknown_task()
        call.json(page(revision, timeline, None, None, False), revision)

    call.read(show)


def result(call: Call) -> None:
    """The result itself, as the agent gave it."""
    raw = uuid_bytes(call.task_id())

    def show() -> None:
        revision, status, text = call.app.node.native.task_result(raw)
        if status < 0:
            raise unknown_task()
        if text is None:
            raise ConflictError("the task has no result", code="no_result", task_status=STATUSES[status])
        call.json(text, revision)

    call.read(show)


def logs(call: Call) -> None:
    """Log lines of one attempt, as NDJSON."""
    raw = uuid_bytes(call.task_id())

    def show() -> None:
        native = call.app.node.native
        revision, lines = native.task_logs(raw, call.query.get("attempt", 0))
        if lines is None:
            if native.task_status(raw)[1] < 0:
                raise unknown_task()
            if call.query.get("attempt"):
                raise NotFoundError("there was no such attempt, or it logged nothing", field="attempt")
            lines = b""
        call.answer(200, lines, NDJSON, revision)

    call.read(show)


def graph(call: Call) -> None:
    """The DAG around the task: its nodes with their status, and edges."""
    raw = uuid_bytes(call.task_id())

    def show() -> None:
        revision, text = call.app.node.native.task_graph(raw)
        if text is None:
            raise unknown_task()
        call.json(text, revision)

    call.read(show)


# ---- change --------------------------------------------------------------------------------------


def change(call: Call, task_id: str, command: bytes) -> None:
    """Proposes a command about one task, and answers with where it is now."""

    def applied(outcome: Outcome) -> None:
        shown = {"id": task_id, "status": STATUSES[outcome.status], "epoch": outcome.epoch, "revision": outcome.revision}
        call.object(shown, outcome.revision)

    call.propose(command, applied)


def cancel(call: Call) -> None:
    """Cancels the task and its children."""
    task_id, body = call.task_id(), call.decode(_cancel)
    fields = {"task_id": task_id, "kill": body.mode == "kill", "grace_ms": body.grace_ms}
    change(call, task_id, wire.command("cancel", fields))


def retry(call: Call) -> None:
    """Makes a parked or failed task ready again."""
    task_id = call.task_id()
    call.decode(_empty)
    change(call, task_id, wire.command("retry", {"task_id": task_id}))


def reschedule(call: Call) -> None:
    """Puts a live task back into the queue."""
    task_id, body = call.task_id(), call.decode(_reschedule)
    fields: dict[str, Any] = {"task_id": task_id, "exclude_agents": body.exclude_agents}
    if isinstance(body.priority, int):
        fields["priority"] = body.priority
    if body.not_before is not msgspec.UNSET:
        fields["not_before_wall_us"] = wire.wall_us(body.not_before)
    change(call, task_id, wire.command("reschedule", fields))
