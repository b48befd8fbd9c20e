"""One node as a process: Rust threads, the event loop with the HTTP API, and the leader's policy thread.

Order of life: warm the kernels → bind HTTP → open the node → start it → serve → SIGTERM: not ready, stop accepting, end
what waits, hand leadership over, finish answers, flush, exit 0. A node that cannot go on exits 1; one that the cluster has
removed exits 3, and starting it again is of no use.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from typing import Final

import msgspec
import uvloop

from taskquorum import _native
from taskquorum._http import Limits, Server
from taskquorum.api import fence
from taskquorum.api.app import App
from taskquorum.api.disk import Disk
from taskquorum.api.problems import refuse
from taskquorum.config import Address, Config
from taskquorum.errors import ConfigError
from taskquorum.metrics import Metrics
from taskquorum.model import release
from taskquorum.node import Node

LOG = logging.getLogger("taskquorum.server")

SWEEP_S: Final = 0.5
BACKLOG: Final = 4096
FINISH_S: Final = 5.0
"""After SIGTERM, how long answers under way may take."""
STOP_MS: Final = 10_000
SAY_WAITING_S: Final = 5.0
"""Without a leader for so long after the start, the process says what it waits for."""
REMOVED_CODE: Final = 3
"""Exit code of a node that the cluster has removed: a supervisor need not start it again."""
SWITCH_INTERVAL_S: Final = 5e-4
"""The policy thread must not hold the loop for longer."""


def serve(config: Config) -> int:
    """Runs one node until SIGTERM or SIGINT; returns the exit code. Raises ConfigError for what cannot be used."""
    logging.basicConfig(level=os.environ.get("TASKQUORUM_LOG", "WARNING").upper(), format="%(asctime)s %(levelname)s %(message)s")
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    _warm_kernels()
    listener = _bind(config.http)
    try:
        http = _reachable(config.http, listener)
        native = _native.Node(config.to_native(http))
    except _native.NativeError as error:
        listener.close()
        raise ConfigError(str(error)) from error
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_Process(config, native, listener, http).run())


def _warm_kernels() -> None:
    """Compiles the placement kernels, or loads them from their cache, before anybody is served: compiling holds the GIL.

    Any node may lead at any moment, so every node does it.
    """
    from taskquorum.scheduling.runner import warm

    seconds = warm()
    LOG.info("placement kernels ready after %.1f s", seconds)


def _bind(address: Address) -> socket.socket:
    """A listening socket. Raises ConfigError when the address cannot be had."""
    try:
        family, kind, protocol, _, target = socket.getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(target)
        listener.listen(BACKLOG)
    except OSError as error:
        raise ConfigError(f"--http: {address} cannot be listened on: {error.strerror or error}") from error
    listener.setblocking(False)
    return listener


def _reachable(address: Address, listener: socket.socket) -> str:
    """The bound address with the real port; a wildcard is told as this machine's name."""
    port = listener.getsockname()[1]
    host = socket.gethostname() if address.host in ("0.0.0.0", "::") else address.host
    return str(Address(host, port))


class _Process:
    """The event loop's side of one node."""

    def __init__(self, config: Config, native: _native.Node, listener: socket.socket, http: str) -> None:
        self._config = config
        self._native = native
        self._listener = listener
        self._http = http
        self._stop = asyncio.Event()
        self._said_ready = False
        self._broken: str | None = None
        self._policy_stop = threading.Event()
        self._policy: threading.Thread | None = None

    async def run(self) -> int:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        node = Node(self._native, loop)
        node.on_stopped = self._on_stopped
        node.on_led = self._say_ready
        metrics = Metrics(self._native)
        app = App(node, loop, metrics)
        app.disk_full = Disk(self._config.data_dir).full
        server = Server(app.admit, app.dispatch, refuse, time.monotonic, Limits())
        metrics.server = server
        try:
            self._native.start()
        except _native.NativeError as error:
            print(f"taskquorum {self._config.node_id}: {error}", file=sys.stderr, flush=True)
            return 1
        loop.add_reader(self._native.notify_fd(), node.on_notify)
        self._policy = threading.Thread(target=self._run_policy, name="taskquorum-policy", daemon=True)
        self._policy.start()
        listening = await loop.create_server(server.protocol, sock=self._listener, backlog=BACKLOG)
        end_sweep = _every(loop, SWEEP_S, server.sweep)
        end_fence = _every(loop, SWEEP_S, lambda: fence.sweep(app))
        waiting = loop.call_later(SAY_WAITING_S, self._say_waiting)
        gc.collect()
        gc.freeze()
        await self._stop.wait()
        waiting.cancel()
        app.stopping = True
        listening.close()
        app.stop()
        server.drain()
        code = await self._shut_down(server)
        end_sweep()
        end_fence()
        server.abort()
        loop.remove_reader(self._native.notify_fd())
        return code

    def _say_waiting(self) -> None:
        if not self._said_ready:
            seen = msgspec.json.decode(self._native.status())
            reason = seen.get("waiting") or "no leader is known"
            print(f"taskquorum {self._config.node_id} is not ready: {reason}", file=sys.stderr, flush=True)

    def _say_ready(self) -> None:
        """Once, with the first leader that is known."""
        if self._said_ready:
            return
        self._said_ready = True
        shown = {"node_id": self._config.node_id, "http": self._http, "raft": self._native.raft_address, "version": release()}
        if self._config.ready_as_json:
            print(msgspec.json.encode({"ready": True, **shown}).decode(), flush=True)
        else:
            line = f"taskquorum {shown['node_id']} ready http={shown['http']} raft={shown['raft']}"
            print(line, flush=True)

    def _on_stopped(self, detail: str) -> None:
        self._broken = detail
        self._stop.set()

    def _run_policy(self) -> None:
        try:
            from taskquorum.scheduling.runner import run_policy

            run_policy(self._native, self._policy_stop)
        except Exception:  # One of the two edges: without a policy nothing is assigned, so another node must lead.
            LOG.exception("the policy thread failed")
            self._broken = "the policy thread failed"
            os.kill(os.getpid(), signal.SIGTERM)

    async def _shut_down(self, server: Server) -> int:
        """Answers under way first, then Rust: it hands leadership over and flushes."""
        loop = asyncio.get_running_loop()
        if self._broken is not None:
            print(f"taskquorum {self._config.node_id}: {self._broken}", file=sys.stderr, flush=True)
        await _until(loop, lambda: server.busy_connections == 0, FINISH_S)
        self._policy_stop.set()
        removed = bool(msgspec.json.decode(self._native.status()).get("removed"))
        stopped = await loop.run_in_executor(None, self._native.stop, STOP_MS)
        if self._policy is not None:
            await loop.run_in_executor(None, self._policy.join, 2.0)
        if not stopped:
            print(f"taskquorum {self._config.node_id}: the threads did not end in time", file=sys.stderr, flush=True)
        if removed:
            return REMOVED_CODE
        return 0 if stopped and self._broken is None else 1


def _every(loop: asyncio.AbstractEventLoop, seconds: float, function: Callable[[], None]) -> Callable[[], None]:
    """Calls a function again and again; returns what ends that."""
    handle: asyncio.TimerHandle

    def turn() -> None:
        nonlocal handle
        function()
        handle = loop.call_later(seconds, turn)

    handle = loop.call_later(seconds, turn)
    return lambda: handle.cancel()


async def _until(loop: asyncio.AbstractEventLoop, condition: Callable[[], bool], seconds: float) -> None:
    """Returns when the condition holds or the time has passed."""
    end = loop.time() + seconds
    while not condition() and loop.time() < end:
        await asyncio.sleep(0.01)
