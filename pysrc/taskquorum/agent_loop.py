"""The life of a running agent: register, poll, run attempts, report, drain.

Two requests can be under way at once: a long poll that waits for work (`_listen`), and a short one
that tells results and progress as soon as there are any (`_report`). Both list what is held and
both may bring assignments; `Lease.take` drops the doubles. Beats go their own way (beat.py).

What always holds: an attempt is in `_attempts` or its result in `_results`, never both; a result is
sent only while `Lease.standing` says HELD, and kept until a server answered for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import aiohttp
import orjson

from taskquorum.agent import AgentConfig, Counts, TaskFunction
from taskquorum.beat import BeatThread
from taskquorum.context import Cancelled, Context, LeaseLost, TaskFailed
from taskquorum.errors import ProblemError, ServerUnreachableError, TaskquorumError
from taskquorum.lease import Key, Lease, Standing
from taskquorum.link import API, Link, backoff_s

POLL_WAIT_MS = 5_000
"""Longest wait of a poll for work. Short, so that a server that stands still is left soon."""
POLL_SLACK_S = 3.0
"""How much longer than that an answer may take before the next server is tried."""
POLL_ITEMS_MAX = 200
"""Most results, progress reports and assignments in one poll."""
POLL_BYTES_MAX = 4 << 20
"""Most bytes of results in one poll (one result is always let through)."""
DOUBLES_PAUSE_S = 0.1
"""Pause after a poll that brought nothing but attempts that are known: they would come again at once."""
PROGRESS_INTERVAL_S = 0.2
"""Progress alone is told no more often than this; results never wait."""
RESULT_BYTES_MAX = 1 << 20
"""The API's inline limit: a larger result fails the task with `result_too_large`."""
PROGRESS_KEPT_MAX = 1_000
"""Progress reports kept while no server answers; the oldest are dropped."""
ERROR_TEXT_MAX = 2_000
CLOSE_S = 3.0
"""Longest time for taking leave of the cluster."""
DEFAULT_LEASE_MS, DEFAULT_HEARTBEAT_MS = 4_000, 500

log = logging.getLogger("taskquorum.agent")


class Attempt:
    """One attempt that runs here."""

    __slots__ = ("context", "task")

    def __init__(self, context: Context) -> None:
        self.context = context
        self.task: asyncio.Task[None] | None = None


class AgentLoop:
    """Runs one agent in the current event loop."""

    def __init__(self, config: AgentConfig, functions: Mapping[str, TaskFunction], counts: Counts) -> None:
        self._config = config
        self._functions = functions
        self._counts = counts
        self._link = Link(config.servers)
        self._lease = Lease()
        self._pool = ThreadPoolExecutor(config.slots, thread_name_prefix="taskquorum-task")
        self._attempts: dict[Key, Attempt] = {}
        self._results: dict[Key, dict[str, Any]] = {}
        self._flying: set[Key] = set()
        self._working: set[Key] = set()
        self._progress: list[dict[str, Any]] = []
        self._agent_epoch = 0
        self._only_doubles = False
        self._poll_seq = 0
        self._draining = False
        self._wake = asyncio.Event()
        self._stale = asyncio.Event()
        self._idle = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop`, then drains and leaves. Raises ProblemError when the registration itself is refused."""
        stopping = asyncio.create_task(stop.wait())
        try:
            while not stop.is_set():
                registered = asyncio.create_task(self._register())
                waiting: set[asyncio.Task[Any]] = {registered, stopping}
                await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                if not registered.done():
                    registered.cancel()
                    return
                heartbeat_ms = registered.result()
                await self._serve(heartbeat_ms, stopping)
        finally:
            stopping.cancel()
            self._pool.shutdown(wait=False, cancel_futures=True)
            await self._link.close()

    # ---- registration ---------------------------------------------------------------------------

    async def _register(self) -> int:
        config = self._config
        body = {
            "id": config.id,
            "capabilities": dict(config.capabilities),
            "resources": {"slots": config.slots, **config.resources},
            "labels": dict(config.labels),
            "task_types": sorted(self._functions),
        }
        if config.version:
            body["version"] = config.version
        if config.node_id is not None:
            body["node_id"] = config.node_id
        while True:
            sent_at = time.monotonic()
            try:
                answer = (await self._link.call("POST", "/agents", json=body, safe=True)).body
                break
            except ServerUnreachableError as error:
                log.warning("no server takes the registration yet: %s", error)
        self._agent_epoch = int(answer["agent_epoch"])
        self._poll_seq = 0
        self._lease.grant(sent_at, int(answer.get("lease_ms") or DEFAULT_LEASE_MS))
        self._stale.clear()
        log.info("registered as %s (agent_epoch %d) at %s", config.id, self._agent_epoch, self._link.server)
        return int(answer.get("heartbeat_ms") or DEFAULT_HEARTBEAT_MS)

    async def _serve(self, heartbeat_ms: int, stopping: asyncio.Task[bool]) -> None:
        """One registration: until it is stale, or stopping has drained."""

        def call(function: Callable[..., None]) -> Callable[..., None]:
            return lambda *arguments: self._threadsafe(function, *arguments)

        beats = BeatThread(
            self._link.servers,
            self._config.id,
            self._agent_epoch,
            heartbeat_ms,
            self._lease,
            on_reply=call(self._on_commands),
            on_lost=call(self._lose),
            on_stale=call(self._stale.set),
        )
        beats.start()
        loops = [asyncio.create_task(self._listen()), asyncio.create_task(self._report())]
        stale = asyncio.create_task(self._stale.wait())
        try:
            await asyncio.wait({*loops, stale, stopping}, return_when=asyncio.FIRST_COMPLETED)
            for loop in loops:
                if loop.done():
                    loop.result()
            if stopping.done() and not self._stale.is_set():
                await self._drain(stale)
        finally:
            stale.cancel()
            for loop in loops:
                loop.cancel()
            await asyncio.gather(*loops, stale, return_exceptions=True)
            await asyncio.to_thread(beats.stop)
            self._lose(list(self._attempts))
            self._results.clear()
            self._progress.clear()
        if self._stale.is_set():
            log.warning("the registration is void: registering again")

    async def _drain(self, stale: asyncio.Task[bool]) -> None:
        """Takes nothing new, lets attempts end within the grace, then leaves."""
        self._draining = True
        path = f"/agents/{self._config.id}"
        with contextlib.suppress(TaskquorumError):
            await self._link.call("POST", f"{path}/drain", safe=True, timeout_s=CLOSE_S)
        self._note_idle()
        idle = asyncio.create_task(self._idle.wait())
        await asyncio.wait({idle, stale}, timeout=self._config.drain_grace_s, return_when=asyncio.FIRST_COMPLETED)
        idle.cancel()
        if self._attempts:
            log.warning("%d attempts go back to the queue", len(self._attempts))
        with contextlib.suppress(TaskquorumError):
            await self._link.call("DELETE", path, safe=True, timeout_s=CLOSE_S)

    def _note_idle(self) -> None:
        if self._draining and not self._attempts and not self._results:
            self._idle.set()

    # ---- polls ----------------------------------------------------------------------------------

    async def _listen(self) -> None:
        failures = 0
        while True:
            failures = 0 if await self._poll(POLL_WAIT_MS) else failures + 1
            if failures:
                await asyncio.sleep(backoff_s(failures))
            elif self._only_doubles:
                await asyncio.sleep(DOUBLES_PAUSE_S)

    async def _report(self) -> None:
        failures, told_at = 0, 0.0
        while True:
            await self._wake.wait()
            self._wake.clear()
            self._collect_progress()
            if not self._sendable() and self._progress:
                await asyncio.sleep(max(0.0, told_at + PROGRESS_INTERVAL_S - time.monotonic()))
                self._collect_progress()
            if not self._sendable() and not self._progress:
                continue
            told_at = time.monotonic()
            failures = 0 if await self._poll(0) else failures + 1
            if failures:
                await asyncio.sleep(backoff_s(failures))
            if self._progress or self._sendable():
                self._wake.set()

    def _sendable(self) -> list[Key]:
        """Results that may be sent now, within the bounds of one poll."""
        now, size = time.monotonic(), 0
        keys: list[Key] = []
        for key, result in list(self._results.items()):
            if key in self._flying:
                continue
            standing = self._lease.standing(key, now)
            if standing is Standing.LOST:
                self._results.pop(key, None)
                self._counts.lost += 1
            elif standing is Standing.HELD:
                size += result["size"]
                if keys and (size > POLL_BYTES_MAX or len(keys) >= POLL_ITEMS_MAX):
                    break
                keys.append(key)
        return keys

    def _collect_progress(self) -> None:
        for key, attempt in self._attempts.items():
            report = attempt.context.take_report()
            if report is not None:
                self._progress.append(report.to_wire(key))
        del self._progress[:-PROGRESS_KEPT_MAX]

    async def _poll(self, wait_ms: int) -> bool:
        """One poll; False when no usable answer came, and the next server should be asked."""
        keys = self._sendable()
        progress = self._progress[:POLL_ITEMS_MAX]
        del self._progress[: len(progress)]
        self._flying.update(keys)
        try:
            return await self._exchange(wait_ms, keys, progress)
        finally:
            self._flying.difference_update(keys)

    async def _exchange(self, wait_ms: int, keys: Sequence[Key], progress: list[dict[str, Any]]) -> bool:
        self._poll_seq += 1
        body: dict[str, Any] = {
            "agent_epoch": self._agent_epoch,
            "poll_seq": self._poll_seq,
            "held": [{"task_id": key[0], "epoch": key[1]} for key in self._lease.held() if key not in self._results],
            "max": POLL_ITEMS_MAX,
            "wait_ms": 0 if keys or progress else wait_ms,
        }
        if keys:
            body["results"] = [self._results[key]["wire"] for key in keys]
        if progress:
            body["progress"] = progress
        server = self._link.server
        try:
            answer = await self._link.once(
                "POST",
                f"/agents/{self._config.id}/poll",
                body=orjson.dumps(body),
                timeout_s=wait_ms / 1000 + POLL_SLACK_S,
            )
        except ProblemError as error:
            self._progress[:0] = progress
            if error.status == 404 or error.code == "stale_agent":
                self._stale.set()
                await asyncio.sleep(CLOSE_S)
            elif error.status not in (429, 503):
                log.error("the poll was refused: %s", error)
                self._progress.clear()
            self._link.next_server(server)
            return False
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            self._progress[:0] = progress
            log.warning("%s does not answer (%s): trying the next server", server, error or type(error).__name__)
            self._link.next_server(server)
            return False
        self._take_answer(answer.body)
        return True

    def _take_answer(self, answer: Mapping[str, Any]) -> None:
        for item in answer.get("results") or ():
            self._on_result((str(item["task_id"]), int(item["epoch"])), item)
        self._on_commands(answer.get("commands") or ())
        now = time.monotonic()
        assignments, started = answer.get("assignments") or (), 0
        for assignment in assignments:
            key = (str(assignment["task_id"]), int(assignment["epoch"]))
            if not self._draining and key not in self._working and self._lease.take(key, now):
                self._start(key, assignment)
                started += 1
        self._only_doubles = bool(assignments) and not started
        self._note_idle()

    def _on_result(self, key: Key, item: Mapping[str, Any]) -> None:
        problem = item.get("problem") or {}
        if not item.get("accepted") and int(problem.get("status") or item.get("status") or 409) in (429, 503):
            return
        if self._results.pop(key, None) is None:
            return
        self._lease.finish(key)
        if not item.get("accepted"):
            self._counts.refused += 1
            log.warning("the result of %s epoch %d was refused: %s", *key, problem.get("detail") or item)

    def _on_commands(self, commands: Sequence[Mapping[str, Any]]) -> None:
        for command in commands:
            kind = command.get("kind")
            key = (str(command.get("task_id")), int(command.get("epoch") or 0))
            if kind == "cancel":
                attempt = self._attempts.get(key)
                if attempt is not None:
                    attempt.context.ask_to_stop()
            elif kind in ("revoke", "reconcile"):
                self._lose([key])
        if self._results:
            self._wake.set()

    def _lose(self, keys: Sequence[Key]) -> None:
        """These attempts are no longer ours: stop them, send nothing."""
        for key in keys:
            self._lease.lose(key)
            attempt = self._attempts.pop(key, None)
            if attempt is not None:
                self._counts.lost += 1
                log.warning("task %s epoch %d is no longer ours", *key)
                attempt.context.lose()
                if attempt.task is not None:
                    attempt.task.cancel()
        self._note_idle()

    # ---- attempts -------------------------------------------------------------------------------

    def _start(self, key: Key, assignment: Mapping[str, Any]) -> None:
        inputs = {name: entry.get("result") for name, entry in (assignment.get("inputs") or {}).items()}
        context = Context(assignment, inputs, self._lease, self._wake_threadsafe)
        attempt = self._attempts[key] = Attempt(context)
        attempt.task = asyncio.create_task(self._attempt(key, assignment, context))

    def _wake_threadsafe(self) -> None:
        self._threadsafe(self._wake.set)

    def _threadsafe(self, function: Callable[..., None], *arguments: Any) -> None:
        """Calls the function on the loop, from any thread; nothing when the loop has ended meanwhile."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(function, *arguments)

    async def _attempt(self, key: Key, assignment: Mapping[str, Any], context: Context) -> None:
        """Runs the function and keeps what came of it; every failure of the function becomes a result."""
        wire: dict[str, Any]
        size = 0
        try:
            function = self._functions.get(context.task_type)
            if function is None:
                raise TaskFailed("unknown_task_type", f"this agent has no function for {context.task_type!r}")
            await self._fetch_inputs(assignment, context)
            result = await self._call(function, context, assignment.get("task_data"))
            raw = _encode(result)
            size, wire = len(raw), {"status": "completed", "result": orjson.Fragment(raw)}
            self._counts.completed += 1
        except LeaseLost:
            self._lose([key])
            return
        except Cancelled as error:
            wire = _failure("cancelled", str(error), retryable=False)
        except TaskFailed as error:
            wire = _failure(error.code, error.message, error.attempt_retryable, error.retry_after_ms)
        except Exception as error:  # The function is not ours: whatever it raises is its task's failure.
            log.exception("task %s failed", context.task_id)
            wire = _failure(type(error).__name__, str(error))
        if self._attempts.pop(key, None) is None:
            return
        report = context.take_report()
        if report is not None:
            self._progress.append(report.to_wire(key))
        self._counts.failed += wire["status"] == "failed"
        self._results[key] = {"wire": {"task_id": key[0], "epoch": key[1], **wire}, "size": size}
        self._wake.set()

    async def _call(self, function: TaskFunction, context: Context, data: Any) -> Any:
        """The key stays in `_working` until the function has really ended: a thread outlives its cancellation."""
        key = context.key
        self._working.add(key)
        if inspect.iscoroutinefunction(function):
            try:
                return await function(context, data)
            finally:
                self._working.discard(key)
        future = self._pool.submit(function, context, data)
        future.add_done_callback(lambda _: self._threadsafe(self._working.discard, key))
        result = await asyncio.wrap_future(future)
        return await result if inspect.isawaitable(result) else result

    async def _fetch_inputs(self, assignment: Mapping[str, Any], context: Context) -> None:
        """Inputs over the inline limit came as links: fetch them before the function runs."""
        entries = (assignment.get("inputs") or {}).items()
        large = {name: str(entry["href"]) for name, entry in entries if "href" in entry}
        if large:
            bodies = await asyncio.gather(*(self._link.call("GET", href.removeprefix(API)) for href in large.values()))
            context.inputs = {**context.inputs, **{name: body.body for name, body in zip(large, bodies, strict=True)}}


def _encode(result: Any) -> bytes:
    """The result as JSON, once. Raises TaskFailed when it is none, or too large to be stored."""
    try:
        raw = orjson.dumps(result, option=orjson.OPT_SERIALIZE_NUMPY)
    except TypeError as error:
        raise TaskFailed("result_not_json", str(error), retryable=False) from error
    if len(raw) > RESULT_BYTES_MAX:
        raise TaskFailed("result_too_large", f"{len(raw)} bytes, at most {RESULT_BYTES_MAX}", retryable=False)
    return raw


def _failure(code: str, message: str, retryable: bool = True, retry_after_ms: int | None = None) -> dict[str, Any]:
    error: dict[str, Any] = {"code": code[:255], "message": message[:ERROR_TEXT_MAX], "retryable": retryable}
    if retry_after_ms is not None:
        error["retry_after_ms"] = retry_after_ms
    return {"status": "failed", "error": error}
