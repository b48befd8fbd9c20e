"""The asynchronous client: every call of the HTTP API that a program needs.

One `AsyncClient` belongs to one event loop and may be used by many coroutines at once. Writes that
make something carry an id or an idempotency key, so that they are repeated safely on another
server when one dies under them.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Literal, Self, overload
from urllib.parse import quote

import aiohttp
import orjson

from taskquorum.errors import ProblemError, ServerUnreachableError
from taskquorum.link import ATTEMPT_S, DEFAULT_SERVER, Answer, Link, backoff_s, may_repeat, parse_problem
from taskquorum.sse import SseParser
from taskquorum.task import SETTLED, Dag, Page, Submitted, Task, TaskState, Value, WatchEvent, uuid7

WAIT_MS_MAX = 60_000
"""The server's longest `wait_ms`; longer waits are made of several."""
WATCH_IDLE_S = 60.0
"""A watch that is silent for so long (not even a comment) is opened again."""


def _segment(value: str) -> str:
    return quote(value, safe="")


class AsyncClient:
    """A connection to a cluster: `servers` is one URL, several with commas between, or a list.

    Raises from every call: ProblemError (and its subclasses) for a refusal, ServerUnreachableError when no server
    answered within `timeout_s` (on top of what the call itself waits for).
    """

    def __init__(
        self,
        servers: str | list[str] | tuple[str, ...] = DEFAULT_SERVER,
        *,
        timeout_s: float = 30.0,
        tenant: str | None = None,
    ) -> None:
        self.link = Link(servers, timeout_s=timeout_s)
        self.tenant = tenant

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes the connections; the client can be used again afterwards."""
        await self.link.close()

    # ---- submit ---------------------------------------------------------------------------------

    @overload
    async def submit(
        self,
        spec: Task | Dag,
        *,
        wait: Literal[False] = False,
        timeout_s: float | None = None,
        idempotency_key: str | None = None,
    ) -> Submitted: ...
    @overload
    async def submit(
        self,
        spec: Task | Dag,
        *,
        wait: Literal[True],
        timeout_s: float | None = None,
        idempotency_key: str | None = None,
    ) -> TaskState: ...
    async def submit(
        self,
        spec: Task | Dag,
        *,
        wait: bool = False,
        timeout_s: float | None = None,
        idempotency_key: str | None = None,
    ) -> Submitted | TaskState:
        """Submits one task or a DAG, durably: it is on a quorum of disks when this returns.

        With `wait` it returns the task (a DAG's parent) once that has ended or is parked, and
        raises TimeoutError after `timeout_s`, which cancels nothing.
        """
        started = time.monotonic()
        wire = self._with_tenant(spec.to_wire())
        if isinstance(spec, Task) and idempotency_key is None:
            wire.setdefault("id", uuid7())
        headers = {"Idempotency-Key": idempotency_key or uuid7()} if "id" not in wire or idempotency_key else {}
        answer = await self.link.call("POST", "/tasks/distributed", json=wire, headers=headers, safe=True)
        submitted = _submitted(answer.body, answer.revision)
        if not wait:
            return submitted
        left = None if timeout_s is None else max(0.0, timeout_s - (time.monotonic() - started))
        return await self.wait(submitted.id, timeout_s=left)

    async def submit_many(self, specs: Sequence[Task | Dag]) -> list[Submitted | ProblemError]:
        """Submits ≤ 1,000 tasks or DAGs in one request; the answers are in the same order.

        An item that was refused is an ProblemError in the list: it is returned, not raised.
        """
        items = []
        for spec in specs:
            wire = self._with_tenant(spec.to_wire())
            if isinstance(spec, Task):
                wire.setdefault("id", uuid7())
            else:
                wire["idempotency_key"] = uuid7()
            items.append(wire)
        answer = await self.link.call("POST", "/tasks/distributed", json=items, safe=True)
        return [_item(item, answer.revision) for item in answer.body["items"]]

    async def submit_raw(self, body: bytes, content_type: str = "application/json", key: str | None = None) -> Answer:
        """Submits a body as it is: a task, a DAG, an array, or NDJSON.

        A task or DAG goes under an idempotency key (made up when `key` is None) and is repeated safely.
        Items of an array carry their own, so a lost answer raises ServerUnreachableError instead.
        """
        single = content_type == "application/json" and not body.lstrip().startswith(b"[")
        headers = {"Content-Type": content_type}
        if single or key is not None:
            headers["Idempotency-Key"] = key or uuid7()
        return await self.link.call("POST", "/tasks/distributed", body=body, headers=headers, safe=single)

    def _with_tenant(self, wire: dict[str, Any]) -> dict[str, Any]:
        if self.tenant is not None:
            wire.setdefault("tenant", self.tenant)
        return wire

    # ---- one task -------------------------------------------------------------------------------

    async def get(self, task_id: str, *, include: Sequence[str] = (), local: bool = False) -> TaskState:
        """The task now. `include` may name `children` and `events`; `local` reads one node's own state."""
        params = {"include": ",".join(include)} if include else {}
        if local:
            params["consistency"] = "local"
        answer = await self.link.call("GET", f"/tasks/distributed/{_segment(task_id)}", params=params)
        return TaskState(answer.body)

    async def wait(self, task_id: str, *, timeout_s: float | None = None, until: str | None = None) -> TaskState:
        """Waits until the task ended or is parked, or reached the status `until`.

        Raises TimeoutError after `timeout_s`; None waits for as long as it takes.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            wait_ms = WAIT_MS_MAX
            if deadline is not None:
                wait_ms = min(wait_ms, max(0, int((deadline - time.monotonic()) * 1000)))
            params = {"wait_ms": str(wait_ms)} | ({} if until is None else {"until": until})
            path = f"/tasks/distributed/{_segment(task_id)}"
            state = TaskState((await self.link.call("GET", path, params=params, wait_ms=wait_ms)).body)
            if state.status in SETTLED or state.status == until:
                return await self._with_result(state)
            if deadline is not None and time.monotonic() >= deadline:
                raise TimeoutError(f"task {task_id} is still {state.status}")

    async def _with_result(self, state: TaskState) -> TaskState:
        """A result too large to be shown inline is fetched apart."""
        if not state.succeeded or "result" in state.raw:
            return state
        return TaskState({**state.raw, "result": await self.result(state.id)})

    async def result(self, task_id: str) -> Any:
        """The task's result. Raises NotFoundError for an unknown task, ConflictError while there is none."""
        return (await self.link.call("GET", f"/tasks/{_segment(task_id)}/result")).body

    async def events(self, task_id: str) -> list[Mapping[str, Any]]:
        """The task's timeline, oldest first."""
        body = (await self.link.call("GET", f"/tasks/{_segment(task_id)}/events")).body
        return list(body["items"] if "items" in body else body["events"]) if isinstance(body, dict) else list(body)

    async def logs(self, task_id: str, *, attempt: int | None = None) -> list[Mapping[str, Any]]:
        """Log lines `{"t", "level", "text"}` of one attempt (default: the newest), at most 64 KiB of them."""
        params = {} if attempt is None else {"attempt": str(attempt)}
        body = (await self.link.call("GET", f"/tasks/{_segment(task_id)}/logs", params=params)).body
        if isinstance(body, bytes):
            return [orjson.loads(line) for line in body.splitlines() if line.strip()]
        if isinstance(body, dict):
            return list(body.get("items", []))
        return list(body or [])

    async def graph(self, task_id: str) -> Mapping[str, Any]:
        """The DAG around the task as the server draws it."""
        body: Mapping[str, Any] = (await self.link.call("GET", f"/tasks/{_segment(task_id)}/graph")).body
        return body

    async def cancel(self, task_id: str, *, kill: bool = False, grace_ms: int | None = None) -> Mapping[str, Any]:
        """Cancels the task and its children; `kill` revokes at once instead of asking the agent first."""
        body: dict[str, Any] = {"mode": "kill" if kill else "cooperative"}
        if grace_ms is not None:
            body["grace_ms"] = grace_ms
        return await self._post(f"/tasks/{_segment(task_id)}/cancel", body, safe=True)

    async def reschedule(
        self,
        task_id: str,
        *,
        exclude_agents: Sequence[str] = (),
        priority: int | None = None,
        not_before: str | None = None,
    ) -> Mapping[str, Any]:
        """Puts a live task back into the queue; a running attempt is revoked. Raises ConflictError when it ended."""
        body: dict[str, Any] = {}
        if exclude_agents:
            body["exclude_agents"] = list(exclude_agents)
        if priority is not None:
            body["priority"] = priority
        if not_before is not None:
            body["not_before"] = not_before
        return await self._post(f"/tasks/{_segment(task_id)}/reschedule", body)

    async def retry(self, task_id: str) -> Mapping[str, Any]:
        """Makes a parked or failed task ready again. Raises ConflictError in any other status."""
        return await self._post(f"/tasks/{_segment(task_id)}/retry", {})

    async def _post(self, path: str, body: Any, *, safe: bool = False) -> Mapping[str, Any]:
        answer: Mapping[str, Any] | None = (await self.link.call("POST", path, json=body, safe=safe)).body
        return answer or {}

    # ---- lists ----------------------------------------------------------------------------------

    async def list(
        self,
        *,
        status: str | None = None,
        task_type: str | None = None,
        parent: str | None = None,
        label: str | None = None,
        created_after: str | None = None,
        limit: int = 100,
        cursor: str | None = None,
        count: bool = False,
    ) -> Page:
        """One page of tasks, newest first; `label` is `key=value`, `limit` ≤ 1,000."""
        given = {
            "status": status,
            "task_type": task_type,
            "parent": parent,
            "label": label,
            "created_after": created_after,
            "cursor": cursor,
            "tenant": self.tenant,
            "count": "true" if count else None,
        }
        params = {key: value for key, value in given.items() if value is not None} | {"limit": str(limit)}
        answer = await self.link.call("GET", "/tasks/distributed", params=params)
        return _page(answer)

    async def agents(self) -> Page:
        """The agents, with capabilities, load and status."""
        return _page(await self.link.call("GET", "/agents", params={"limit": "1000"}))

    async def agent(self, agent_id: str) -> Mapping[str, Any]:
        body: Mapping[str, Any] = (await self.link.call("GET", f"/agents/{_segment(agent_id)}")).body
        return body

    async def drain_agent(self, agent_id: str, *, drain: bool = True) -> Mapping[str, Any]:
        """No new work for the agent; what it holds it finishes. `drain=False` ends that."""
        method = "POST" if drain else "DELETE"
        answer = await self.link.call(method, f"/agents/{_segment(agent_id)}/drain", safe=True)
        return dict(answer.body or {})

    async def remove_agent(self, agent_id: str) -> None:
        """The agent leaves: its tasks go back to the queue at once."""
        await self.link.call("DELETE", f"/agents/{_segment(agent_id)}", safe=True)

    # ---- watch ----------------------------------------------------------------------------------

    async def watch(
        self,
        *,
        kinds: Sequence[str] = (),
        task: str | None = None,
        label: str | None = None,
        prefix: str | None = None,
        from_revision: int | None = None,
    ) -> AsyncIterator[WatchEvent]:
        """Yields events for ever, in order, each once, over the death of any server.

        `from_revision` is inclusive (default: from now on). Raises GoneError when the server no
        longer has the revision to go on from, ServerUnreachableError when no server took the watch for `timeout_s`.
        """
        given = {"kinds": ",".join(kinds) or None, "task": task, "label": label, "prefix": prefix}
        params = {key: value for key, value in given.items() if value is not None}
        last: int | None = None
        attempt, deadline = 0, time.monotonic() + self.link.timeout_s
        while True:
            server = self.link.server
            start = {} if from_revision is None or last is not None else {"from_revision": str(from_revision)}
            headers = {} if last is None else {"Last-Event-ID": str(last)}
            try:
                async for revision, events in self._stream(params | start, headers):
                    attempt, deadline = 0, time.monotonic() + self.link.timeout_s
                    if last is not None and revision <= last:
                        continue
                    last = revision
                    for event in events:
                        yield event
                failure: BaseException = ServerUnreachableError(f"{server} ended the watch")
            except ProblemError as error:
                if not may_repeat(error, True):
                    raise
                failure = error
            except (aiohttp.ClientError, OSError, TimeoutError) as error:
                failure = error
            self.link.next_server(server)
            attempt += 1
            if time.monotonic() >= deadline:
                raise ServerUnreachableError(f"watch: no server took it ({failure})") from failure
            await asyncio.sleep(backoff_s(attempt))

    async def _stream(
        self, params: Mapping[str, str], headers: Mapping[str, str]
    ) -> AsyncIterator[tuple[int, Sequence[WatchEvent]]]:
        """One connection's messages as (revision, events)."""
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=2.0, sock_read=WATCH_IDLE_S)
        accept = {"Accept": "text/event-stream", **headers}
        request = self.link.session().get(f"{self.link.server}/api/v1/watch", params=params, headers=accept, timeout=timeout)
        async with request as response:
            if response.status >= 400:
                raw = await response.read()
                raise parse_problem(response.status, raw, response.headers.get("Retry-After"))
            parser = SseParser()
            async for chunk in response.content.iter_any():
                for message in parser.feed(chunk):
                    if message.data:
                        body = orjson.loads(message.data)
                        revision = int(body["revision"])
                        yield revision, [_event(revision, event) for event in body["events"]]

    # ---- keys -----------------------------------------------------------------------------------

    async def kv_put(self, key: str, value: Any, *, if_match: int | None = None, if_absent: bool = False) -> Mapping[str, Any]:
        """Writes a key. With `if_match` only at that revision, with `if_absent` only when there is none.

        Raises PreconditionFailedError with what is there. A conditional write is never repeated blindly:
        when its answer was lost, ServerUnreachableError or OutcomeUnknownError says so.
        """
        headers = {}
        if if_match is not None:
            headers["If-Match"] = f'"{if_match}"'
        if if_absent:
            headers["If-None-Match"] = "*"
        answer = await self.link.call("PUT", _key(key), json={"value": value}, headers=headers, safe=not headers)
        return {"key": key, "revision": answer.revision, **(answer.body or {})}

    async def kv_get(self, key: str, *, local: bool = False) -> Value:
        """Reads a key, linearizably unless `local`. Raises NotFoundError."""
        params = {"consistency": "local"} if local else None
        body = (await self.link.call("GET", _key(key), params=params)).body
        return Value(
            key=str(body["key"]),
            value=body["value"],
            revision=int(body["revision"]),
            create_revision=int(body["create_revision"]),
            version=int(body["version"]),
        )

    async def kv_delete(self, key: str, *, if_match: int | None = None) -> None:
        """Deletes a key. Raises NotFoundError, or PreconditionFailedError with what is there."""
        headers = {} if if_match is None else {"If-Match": f'"{if_match}"'}
        await self.link.call("DELETE", _key(key), headers=headers)

    # ---- cluster --------------------------------------------------------------------------------

    async def cluster_status(self) -> Mapping[str, Any]:
        """One node's view of the cluster, at once; what it does not know is None."""
        return await self._get("/cluster/status")

    async def nodes(self) -> Sequence[Mapping[str, Any]]:
        """The nodes with role, status, lag and load."""
        nodes: Sequence[Mapping[str, Any]] = (await self._get("/cluster/nodes"))["nodes"]
        return nodes

    async def stats(self) -> Mapping[str, Any]:
        """Counters, rates and latency percentiles."""
        return await self._get("/coordination/stats")

    async def drain_node(self, node_id: str, *, deadline_ms: int | None = None) -> Mapping[str, Any]:
        """Takes a node's agents and leadership away from it by the deadline (default 1 h)."""
        body = {} if deadline_ms is None else {"deadline_ms": deadline_ms}
        return await self._post(f"/cluster/nodes/{_segment(node_id)}/drain", body, safe=True)

    async def undrain_node(self, node_id: str) -> None:
        await self.link.call("DELETE", f"/cluster/nodes/{_segment(node_id)}/drain", safe=True)

    async def add_member(
        self, node_id: str, address: str | None = None, role: str = "voter", *, wait_ms: int | None = None
    ) -> Mapping[str, Any]:
        """Takes a node in, or changes a member's role or address; `done` says whether it is made, `progress` how far it is."""
        return await self._member({"node_id": node_id, "role": role}, address, wait_ms)

    async def replace_member(self, node_id: str, address: str | None = None, *, wait_ms: int | None = None) -> Mapping[str, Any]:
        """Gives the place of a node that is lost for good to the empty directory of that name."""
        return await self._member({"node_id": node_id, "replace": node_id}, address, wait_ms)

    async def _member(self, body: dict[str, Any], address: str | None, wait_ms: int | None) -> Mapping[str, Any]:
        body |= {} if address is None else {"address": address}
        body |= {} if wait_ms is None else {"wait_ms": wait_ms}
        wait = 0 if wait_ms is None else wait_ms
        answer = await self.link.call("POST", "/cluster/members", json=body, safe=True, wait_ms=wait)
        shown: Mapping[str, Any] = answer.body
        return shown

    async def remove_member(self, node_id: str, *, wait_ms: int | None = None) -> Mapping[str, Any]:
        """Removes a node; leadership is handed over first. Refused where what is left would be no quorum."""
        params = None if wait_ms is None else {"wait_ms": str(wait_ms)}
        path = f"/cluster/members/{_segment(node_id)}"
        answer = await self.link.call("DELETE", path, params=params, safe=True, wait_ms=wait_ms or 0)
        body: Mapping[str, Any] = answer.body
        return body

    async def transfer_leader(self, to: str | None = None) -> Mapping[str, Any]:
        """Hands leadership over, to the node named or to the most caught-up one."""
        return await self._post("/cluster/transfer-leader", {} if to is None else {"to": to})

    async def snapshot(self) -> Mapping[str, Any]:
        """Has the node that answers take a snapshot of its state now."""
        return await self._post("/cluster/snapshot", {}, safe=True)

    async def verify(self, *, timeout_ms: int = 60_000) -> Mapping[str, Any]:
        """Has every node recompute its state hash over all rows: `agrees`, and one item a node."""
        return await self._post("/cluster/verify", {"timeout_ms": timeout_ms}, safe=True)

    async def _get(self, path: str) -> Mapping[str, Any]:
        body: Mapping[str, Any] = (await self.link.call("GET", path, timeout_s=min(ATTEMPT_S, self.link.timeout_s))).body
        return body


def _key(key: str) -> str:
    return f"/state/{quote(key, safe='/')}"


def _submitted(body: Mapping[str, Any], revision: int) -> Submitted:
    names = {str(task["name"]): str(task["id"]) for task in body.get("tasks", [])}
    return Submitted(str(body["id"]), int(body.get("revision", revision)), body.get("status"), names)


def _item(item: Mapping[str, Any], revision: int) -> Submitted | ProblemError:
    if "error" in item:
        problem = item["error"]
        return parse_problem(int(problem.get("status", 422)), orjson.dumps(problem), None)
    return _submitted(item, revision)


def _page(answer: Answer) -> Page:
    body = answer.body
    return Page(
        items=body["items"],
        next_cursor=body.get("next_cursor"),
        revision=int(body.get("revision", answer.revision)),
        count=body.get("count"),
    )


def _event(revision: int, event: Mapping[str, Any]) -> WatchEvent:
    return WatchEvent(
        revision=revision,
        kind=str(event["kind"]),
        type=str(event["type"]),
        id=str(event["id"]),
        object=event.get("object") or {},
    )
