"""What clients that write for as long as a context lasts share: a thread with an event loop, and one attempt of a write."""

import asyncio
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Self

import orjson
from bench.wire import Connection

from trust.ledger import OP_LABEL, Ledger


class Writers(ABC):
    """A context manager: its clients run on an event loop in a thread of their own until the context ends.

    `run` names the tasks' type, `ledger` holds what was sent and acknowledged. Leaving the context raises what ended the
    clients early, unless something else is raised already.
    """

    def __init__(self, run: str, thread: str) -> None:
        self.run = run
        self.ledger = Ledger()
        # Notified after every attempt that changed what a caller may wait for.
        self._told = threading.Condition()
        self._loop = asyncio.new_event_loop()
        self._work: asyncio.Task[None] | None = None
        self._began = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._main, name=thread, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self._began.wait(10)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        # The loop is closed if the clients have ended already.
        with suppress(RuntimeError):
            if self._work is not None:
                self._loop.call_soon_threadsafe(self._work.cancel)
        self._thread.join(30)
        if self._failure is not None and kind is None:
            raise self._failure

    def wait(self, condition: Callable[[], bool], what: str, timeout_s: float) -> None:
        """Waits, looking again after every attempt. Raises TimeoutError."""
        with self._told:
            if not self._told.wait_for(condition, timeout_s):
                raise TimeoutError(f"not within {timeout_s:g} s: {what}")

    def _main(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._work = self._loop.create_task(self._clients())
        self._began.set()
        try:
            self._loop.run_until_complete(self._work)
        except asyncio.CancelledError:
            pass
        except BaseException as error:  # noqa: BLE001 — handed to the thread that owns this
            self._failure = error
        finally:
            self._loop.close()

    @abstractmethod
    async def _clients(self) -> None:
        """All clients, until they are cancelled."""

    async def _submit(self, connection: Connection, key: str, timeout_s: float) -> tuple[int, bytes]:
        """Sends one write: status and body of the answer; status 0, and a closed connection, if there was none."""
        body = orjson.dumps({"task_type": self.run, "idempotency_key": key, "labels": {OP_LABEL: key}})
        self.ledger.sent.add(key)
        try:
            async with asyncio.timeout(timeout_s):
                return await connection.call("POST", "/tasks/distributed", body)
        except (OSError, TimeoutError):
            connection.close()
            return 0, b""
