"""From what a client submits to commands: ids, defaults, names resolved, everything checked that needs no state.

Pure: bytes and query in, encoded commands or a ProblemError out. A DAG becomes one command, so it
enters whole or not at all.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

import msgspec
from msgspec import UNSET

from taskquorum._http import scan_json
from taskquorum.api import wire
from taskquorum.api.problems import from_decode
from taskquorum.api.schema import CapabilityNeed, DagSubmit, HasTasks, Requirements, TaskSubmit
from taskquorum.errors import InvalidError, MalformedError, ProblemError
from taskquorum.model import (
    BATCH_ITEMS_MAX,
    BODY_BYTES_MAX,
    DAG_EDGES_MAX,
    JSON_DEPTH_MAX,
    PAYLOAD_BYTES_MAX,
    is_uuid,
    new_task_id,
)

DEFAULT_TENANT: Final = "default"
_WHITE: Final = b" \t\r\n"

_decode_task: Final = msgspec.json.Decoder(TaskSubmit).decode
_decode_dag: Final = msgspec.json.Decoder(DagSubmit).decode
_decode_probe: Final = msgspec.json.Decoder(HasTasks).decode
_decode_array: Final = msgspec.json.Decoder(list[msgspec.Raw]).decode


class Submit(NamedTuple):
    """One encoded Submit command, and what its answer needs."""

    command: bytes
    task_id: str
    """Of the task, or of a DAG's parent."""
    children: list[tuple[str, str]] | None
    """(name, id) of a DAG's tasks, in the order sent; None for a single task."""
    base: str
    """JSON pointer of this item in the body."""


def check_text(text: bytes, base: str = "") -> None:
    """Refuses JSON text that no part of this system may store (400): too deep, `\\u0000`, not UTF-8."""
    found = scan_json(text, JSON_DEPTH_MAX)
    if found == 0:
        return
    code, detail = {
        1: ("too_deep", f"the JSON nests deeper than {JSON_DEPTH_MAX} levels"),
        2: ("nul_character", "the JSON holds an escaped NUL character (\\u0000)"),
        3: ("malformed_json", "the JSON holds half of a surrogate pair"),
        4: ("malformed_json", "the body is not UTF-8"),
    }[found]
    raise MalformedError(detail, code=code, field=base or None)


def submit(body: bytes, idempotency_key: str) -> Submit:
    """A single task or a DAG."""
    check_text(body)
    return _item(body, idempotency_key, "")


def array_items(body: bytes) -> list[bytes]:
    """The items of a JSON array, as their bytes. Raises for what is no array of 1 to 1,000 items."""
    check_text(body)
    try:
        items = [bytes(item) for item in _decode_array(body)]
    except msgspec.DecodeError as error:
        raise from_decode(error) from error
    return _bounded(items)


def ndjson_items(body: bytes) -> list[bytes]:
    """The lines of NDJSON that are not blank."""
    return _bounded([line for line in body.split(b"\n") if line.strip(_WHITE)])


def _bounded(items: list[bytes]) -> list[bytes]:
    if not items:
        raise InvalidError("there is no task in the body", code="empty")
    if len(items) > BATCH_ITEMS_MAX:
        raise InvalidError(f"at most {BATCH_ITEMS_MAX} items", code="too_many_items")
    return items


def batch(items: Sequence[bytes]) -> list[Submit | ProblemError]:
    """Each item alone: what is wrong with one does not touch the others."""
    taken: list[Submit | ProblemError] = []
    for position, item in enumerate(items):
        base = f"/{position}"
        try:
            check_text(item, base)
            taken.append(_item(item, "", base))
        except ProblemError as problem:
            taken.append(problem)
    return taken


def _item(body: bytes, header_key: str, base: str) -> Submit:
    try:
        if b'"tasks"' in body and _decode_probe(body).tasks is not UNSET:
            return _dag(_decode_dag(body), body, header_key, base)
        return _single(_decode_task(body), body, header_key, base)
    except msgspec.DecodeError as error:
        raise from_decode(error, base) from error
    except RecursionError as error:
        raise MalformedError("the JSON nests too deep", code="too_deep", field=base or None) from error


def body_hash(body: bytes) -> str:
    """What makes two submits the same: 32 hexadecimal digits over the bytes as they were sent."""
    return hashlib.blake2b(body.strip(_WHITE), digest_size=16).hexdigest()


def _key(given: Any, header: str, base: str) -> str:
    if given is UNSET:
        return header
    if header and header != given:
        raise InvalidError("the body names another key than the header Idempotency-Key", field=f"{base}/idempotency_key")
    return str(given)


def _single(task: TaskSubmit, body: bytes, header_key: str, base: str) -> Submit:
    if len(body) > BODY_BYTES_MAX:
        raise ProblemError(f"one task may have {BODY_BYTES_MAX} bytes", status=413, code="body_too_large", field=base or None)
    task_id = str(task.id).lower() if task.id is not UNSET else new_task_id()
    seen: dict[str, None] = {}
    for at, dependency in enumerate(task.dependencies):
        where = f"{base}/dependencies/{at}"
        if not is_uuid(dependency):
            raise InvalidError("not the id of a task (names count only inside a DAG)", code="unknown_dependency", field=where)
        if dependency.lower() == task_id:
            raise InvalidError("the task depends on itself", code="cycle", field=where, cycle=[task_id])
        seen[dependency.lower()] = None
    if task.name and is_uuid(task.name):
        raise InvalidError("a name must not look like a UUID", field=f"{base}/name")
    fields = _fields(task, task_id, list(seen), base)
    tenant = DEFAULT_TENANT if task.tenant is UNSET else task.tenant
    key = _key(task.idempotency_key, header_key, base)
    return Submit(_command(tenant, key, body, [fields]), task_id, None, base)


def _command(tenant: Any, key: str, body: bytes, tasks: list[dict[str, Any]]) -> bytes:
    fields = {"tenant": tenant, "idempotency_key": key, "body_hash": body_hash(body), "tasks": tasks}
    return wire.command("submit", fields)


def _fields(
    task: TaskSubmit,
    task_id: str,
    dependencies: list[str],
    base: str,
    priority: int = 0,
    labels: Mapping[str, str] | None = None,
    deadline: datetime | None = None,
) -> dict[str, Any]:
    """A TaskSpec; what is at its default is left out. The last three are a DAG's defaults."""
    payload = bytes(task.task_data)
    if len(payload) > PAYLOAD_BYTES_MAX:
        raise ProblemError(
            f"task_data may have {PAYLOAD_BYTES_MAX} bytes", status=413, code="payload_too_large", field=f"{base}/task_data"
        )
    fields: dict[str, Any] = {"id": task_id, "task_type": task.task_type, "payload": task.task_data}
    if task.name:
        fields["name"] = task.name
    if wanted := (priority if task.priority is UNSET else task.priority):
        fields["priority"] = wanted
    if task.requirements is not UNSET:
        fields["requirements"] = _requirements(task.requirements)
    if dependencies:
        fields["dependencies"] = dependencies
    if task.on_dependency_failure != "fail":
        fields["on_dependency_failure"] = task.on_dependency_failure
    for name in ("optional", "idempotent", "preemptible", "size_hint", "cost_estimate"):
        if value := getattr(task, name):
            fields[name] = value
    if task.not_before is not UNSET:
        fields["not_before_wall_us"] = wire.wall_us(task.not_before)
    until = deadline if task.deadline is UNSET else task.deadline
    if until is not None:
        fields["deadline_wall_us"] = wire.wall_us(until)
    if task.timeouts is not UNSET:
        fields.update(msgspec.structs.asdict(task.timeouts))
    fields["retry"] = _retry(task)
    shown = labels if task.labels is UNSET else task.labels
    if shown:
        fields["labels"] = shown
    return fields


def _requirements(needs: Requirements) -> dict[str, Any]:
    capabilities = {}
    for dimension, need in needs.capabilities.items():
        if isinstance(need, CapabilityNeed):
            capabilities[dimension] = {"min_bp": wire.basis_points(need.min), "weight_milli": round(need.weight * 1000)}
        else:
            capabilities[dimension] = {"min_bp": wire.basis_points(need)}
    return {"capabilities": capabilities, "resources": needs.resources, "labels": needs.labels}


_DEFAULT_RETRY: Final = {"max_attempts": 3, "backoff_ms": 200, "factor_milli": 2000, "max_backoff_ms": 60_000}


def _retry(task: TaskSubmit) -> Mapping[str, Any]:
    policy = task.retry
    if policy is UNSET:
        return _DEFAULT_RETRY
    return {
        "max_attempts": policy.max_attempts,
        "backoff_ms": policy.backoff_ms,
        "factor_milli": round(policy.factor * 1000),
        "max_backoff_ms": policy.max_backoff_ms,
        "non_retryable": policy.non_retryable,
    }


def _dag(dag: DagSubmit, body: bytes, header_key: str, base: str) -> Submit:
    tenant = DEFAULT_TENANT if dag.tenant is UNSET else dag.tenant
    priority = 0 if dag.priority is UNSET else dag.priority
    labels = None if dag.labels is UNSET else dag.labels
    deadline = None if dag.deadline is UNSET else dag.deadline
    parent_id = str(dag.id).lower() if dag.id is not UNSET else new_task_id()
    ids, names = _identify(dag, parent_id, tenant, base)
    edges = _resolve(dag.tasks, ids, names, parent_id, base)
    check_acyclic(dag.tasks, edges, base)
    parent: dict[str, Any] = {
        "id": parent_id,
        "task_type": dag.task_type,
        "payload": msgspec.Raw(b"{}"),
        "priority": priority,
        "retry": _DEFAULT_RETRY,
        "join": _join(dag, base),
    }
    if dag.name:
        parent["name"] = dag.name
    if labels:
        parent["labels"] = labels
    if deadline is not None:
        parent["deadline_wall_us"] = wire.wall_us(deadline)
    tasks = [parent]
    for position, task in enumerate(dag.tasks):
        where = f"{base}/tasks/{position}"
        depends = [ids[item] if isinstance(item, int) else item for item in edges[position]]
        fields = _fields(task, ids[position], depends, where, priority, labels, deadline)
        fields["parent_id"] = parent_id
        tasks.append(fields)
    key = _key(dag.idempotency_key, header_key, base)
    children = [(task.name, ids[position]) for position, task in enumerate(dag.tasks)]
    return Submit(_command(tenant, key, body, tasks), parent_id, children, base)


def _join(dag: DagSubmit, base: str) -> dict[str, Any]:
    if dag.join is UNSET:
        return {"policy": "all", "count": 0}
    policy, count = dag.join.policy, dag.join.count
    if policy != "quorum":
        if count is not UNSET:
            raise InvalidError("count belongs to the policy quorum", field=f"{base}/join/count")
        return {"policy": policy, "count": 0}
    if count is UNSET:
        raise InvalidError("a quorum needs a count", code="missing_field", field=f"{base}/join/count")
    if count > len(dag.tasks):
        raise InvalidError("count is larger than the number of tasks", field=f"{base}/join/count")
    return {"policy": policy, "count": count}


def _identify(dag: DagSubmit, parent_id: str, tenant: Any, base: str) -> tuple[list[str], dict[str, int]]:
    """Ids in order, and positions by name."""
    ids: list[str] = []
    names: dict[str, int] = {}
    taken = {parent_id}
    for position, task in enumerate(dag.tasks):
        where = f"{base}/tasks/{position}"
        if task.name:
            if is_uuid(task.name):
                raise InvalidError("a name must not look like a UUID", field=f"{where}/name")
            if task.name in names:
                raise InvalidError(f"the name {task.name[:100]!r} stands twice", code="duplicate_name", field=f"{where}/name")
            names[task.name] = position
        if task.tenant is not UNSET and task.tenant != tenant:
            raise InvalidError("a task has the tenant of its DAG", field=f"{where}/tenant")
        if task.idempotency_key is not UNSET:
            raise InvalidError("a DAG has one idempotency key", field=f"{where}/idempotency_key")
        task_id = str(task.id).lower() if task.id is not UNSET else new_task_id()
        if task_id in taken:
            raise InvalidError("the id stands twice", code="duplicate_id", field=f"{where}/id")
        taken.add(task_id)
        ids.append(task_id)
    return ids, names


def _resolve(
    tasks: Sequence[TaskSubmit], ids: Sequence[str], names: Mapping[str, int], parent_id: str, base: str
) -> list[list[int | str]]:
    """Each task's dependencies: a position in the DAG, or the id of a task outside."""
    by_id = {task_id: position for position, task_id in enumerate(ids)}
    edges: list[list[int | str]] = []
    total = 0
    for position, task in enumerate(tasks):
        own: dict[int | str, None] = {}
        for at, dependency in enumerate(task.dependencies):
            where = f"{base}/tasks/{position}/dependencies/{at}"
            inside = names.get(dependency)
            if inside is None and is_uuid(dependency):
                lower = dependency.lower()
                if lower == parent_id:
                    raise InvalidError("a task cannot wait for its own DAG", code="cycle", field=where, cycle=[parent_id])
                own[by_id.get(lower, lower)] = None
            elif inside is None:
                raise InvalidError(f"no task of the DAG is named {dependency[:100]!r}", code="unknown_dependency", field=where)
            else:
                own[inside] = None
        total += len(own)
        if total > DAG_EDGES_MAX:
            raise InvalidError(
                f"at most {DAG_EDGES_MAX} dependencies in all", code="too_many_dependencies", field=f"{base}/tasks"
            )
        edges.append(list(own))
    return edges


def check_acyclic(tasks: Sequence[TaskSubmit], edges: Sequence[Sequence[int | str]], base: str) -> None:
    """Raises InvalidError `cycle`, which names the tasks of one cycle in order (Kahn's algorithm, then a
    walk along what it could not take)."""
    open_edges = [sum(isinstance(item, int) for item in own) for own in edges]
    dependents: list[list[int]] = [[] for _ in edges]
    for position, own in enumerate(edges):
        for item in own:
            if isinstance(item, int):
                dependents[item].append(position)
    free = [position for position, count in enumerate(open_edges) if count == 0]
    taken = 0
    while free:
        position = free.pop()
        taken += 1
        for dependent in dependents[position]:
            open_edges[dependent] -= 1
            if open_edges[dependent] == 0:
                free.append(dependent)
    if taken == len(edges):
        return
    # Every task left has a dependency that is left too: walking along those must come round.
    at = next(position for position, count in enumerate(open_edges) if count)
    walked: dict[int, int] = {}
    path: list[int] = []
    while at not in walked:
        walked[at] = len(path)
        path.append(at)
        at = next(item for item in edges[at] if isinstance(item, int) and open_edges[item])
    cycle = [*path[walked[at] :], at]
    shown = [tasks[position].name or f"#{position}" for position in cycle]
    detail = " → ".join(shown[:20]) + (" …" if len(shown) > 20 else "")
    raise InvalidError(
        f"the dependencies form a cycle: {detail}",
        code="cycle",
        field=f"{base}/tasks/{at}/dependencies",
        cycle=shown[:100],
    )
