"""The client for programs without an event loop: `AsyncClient` behind a loop on a thread of its own.

It holds no logic: each method runs its twin of the same name and waits for it. It may be used from
several threads at once, never from inside a running event loop's thread (it would stop that loop).
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Coroutine, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Literal, Self, TypeVar, overload

from taskquorum.client import AsyncClient
from taskquorum.errors import ProblemError
from taskquorum.link import DEFAULT_SERVER
from taskquorum.task import Dag, Page, Submitted, Task, TaskState, Value, WatchEvent

T = TypeVar("T")
_END = object()


class Client:
    """See `AsyncClient` for arguments, answers and errors; `aio` is the client behind this one."""

    def __init__(
        self,
        servers: str | list[str] | tuple[str, ...] = DEFAULT_SERVER,
        *,
        timeout_s: float = 30.0,
        tenant: str | None = None,
    ) -> None:
        self.aio = AsyncClient(servers, timeout_s=timeout_s, tenant=tenant)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="taskquorum-client", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connections and ends the thread. Calling it again does nothing."""
        if self._loop.is_closed():
            return
        self._run(self.aio.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            return future.result()
        finally:
            future.cancel()  # Changes nothing once it is done; otherwise the wait was interrupted.

    @overload
    def submit(
        self,
        spec: Task | Dag,
        *,
        wait: Literal[False] = False,
        timeout_s: float | None = None,
        idempotency_key: str | None = None,
    ) -> Submitted: ...
    @overload
    def submit(
        self,
        spec: Task | Dag,
        *,
        wait: Literal[True],
        timeout_s: float | None = None,
        idempotency_key: str | None = None,
    ) -> TaskState: ...
    def submit(
        self,
        spec: Task | Dag,
        *,
        wait: bool = False,
        timeout_s: float | None = None,
        idempotency_key: str | None = None,
    ) -> Submitted | TaskState:
        if wait:
            return self._run(self.aio.submit(spec, wait=True, timeout_s=timeout_s, idempotency_key=idempotency_key))
        return self._run(self.aio.submit(spec, idempotency_key=idempotency_key))

    def submit_many(self, specs: Sequence[Task | Dag]) -> Sequence[Submitted | ProblemError]:
        return self._run(self.aio.submit_many(specs))

    def submit_raw(self, body: bytes, content_type: str = "application/json", key: str | None = None) -> Mapping[str, Any]:
        return dict(self._run(self.aio.submit_raw(body, content_type, key)).body)

    def get(self, task_id: str, *, include: Sequence[str] = (), local: bool = False) -> TaskState:
        return self._run(self.aio.get(task_id, include=include, local=local))

    def wait(self, task_id: str, *, timeout_s: float | None = None, until: str | None = None) -> TaskState:
        return self._run(self.aio.wait(task_id, timeout_s=timeout_s, until=until))

    def result(self, task_id: str) -> Any:
        return self._run(self.aio.result(task_id))

    def events(self, task_id: str) -> Sequence[Mapping[str, Any]]:
        return self._run(self.aio.events(task_id))

    def logs(self, task_id: str, *, attempt: int | None = None) -> Sequence[Mapping[str, Any]]:
        return self._run(self.aio.logs(task_id, attempt=attempt))

    def graph(self, task_id: str) -> Mapping[str, Any]:
        return self._run(self.aio.graph(task_id))

    def cancel(self, task_id: str, *, kill: bool = False, grace_ms: int | None = None) -> Mapping[str, Any]:
        return self._run(self.aio.cancel(task_id, kill=kill, grace_ms=grace_ms))

    def reschedule(
        self,
        task_id: str,
        *,
        exclude_agents: Sequence[str] = (),
        priority: int | None = None,
        not_before: str | None = None,
    ) -> Mapping[str, Any]:
        return self._run(self.aio.reschedule(task_id, exclude_agents=exclude_agents, priority=priority, not_before=not_before))

    def retry(self, task_id: str) -> Mapping[str, Any]:
        return self._run(self.aio.retry(task_id))

    def list(
        self,
        *,
        status: str | None = None,
        task_type: str | None = None,
        parent: str | None = None,
        label: str | None = None,
        limit: int = 100,
        cursor: str | None = None,
        count: bool = False,
    ) -> Page:
        return self._run(
            self.aio.list(
                status=status,
                task_type=task_type,
                parent=parent,
                label=label,
                limit=limit,
                cursor=cursor,
                count=count,
            )
        )

    def agents(self) -> Page:
        return self._run(self.aio.agents())

    def agent(self, agent_id: str) -> Mapping[str, Any]:
        return self._run(self.aio.agent(agent_id))

    def watch(
        self,
        *,
        kinds: Sequence[str] = (),
        task: str | None = None,
        label: str | None = None,
        prefix: str | None = None,
        from_revision: int | None = None,
    ) -> Iterator[WatchEvent]:
        stream = self.aio.watch(kinds=kinds, task=task, label=label, prefix=prefix, from_revision=from_revision)
        while True:
            event = self._run(_next(stream))
            if not isinstance(event, WatchEvent):
                return
            yield event

    def kv_put(self, key: str, value: Any, *, if_match: int | None = None, if_absent: bool = False) -> Mapping[str, Any]:
        return self._run(self.aio.kv_put(key, value, if_match=if_match, if_absent=if_absent))

    def kv_get(self, key: str, *, local: bool = False) -> Value:
        return self._run(self.aio.kv_get(key, local=local))

    def kv_delete(self, key: str, *, if_match: int | None = None) -> None:
        self._run(self.aio.kv_delete(key, if_match=if_match))

    def cluster_status(self) -> Mapping[str, Any]:
        return self._run(self.aio.cluster_status())

    def nodes(self) -> Sequence[Mapping[str, Any]]:
        return self._run(self.aio.nodes())

    def drain_node(self, node_id: str, *, deadline_ms: int | None = None) -> Mapping[str, Any]:
        return self._run(self.aio.drain_node(node_id, deadline_ms=deadline_ms))

    def undrain_node(self, node_id: str) -> None:
        self._run(self.aio.undrain_node(node_id))

    def add_member(
        self, node_id: str, address: str | None = None, role: str = "voter", *, wait_ms: int | None = None
    ) -> Mapping[str, Any]:
        return self._run(self.aio.add_member(node_id, address, role, wait_ms=wait_ms))

    def replace_member(self, node_id: str, address: str | None = None, *, wait_ms: int | None = None) -> Mapping[str, Any]:
        return self._run(self.aio.replace_member(node_id, address, wait_ms=wait_ms))

    def remove_member(self, node_id: str, *, wait_ms: int | None = None) -> Mapping[str, Any]:
        return self._run(self.aio.remove_member(node_id, wait_ms=wait_ms))

    def transfer_leader(self, to: str | None = None) -> Mapping[str, Any]:
        return self._run(self.aio.transfer_leader(to))

    def snapshot(self) -> Mapping[str, Any]:
        return self._run(self.aio.snapshot())

    def verify(self, *, timeout_ms: int = 60_000) -> Mapping[str, Any]:
        return self._run(self.aio.verify(timeout_ms=timeout_ms))

    def stats(self) -> Mapping[str, Any]:
        return self._run(self.aio.stats())


async def _next(stream: AsyncIterator[WatchEvent]) -> WatchEvent | object:
    return await anext(stream, _END)
