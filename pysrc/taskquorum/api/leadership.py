"""Handing leadership over from any node: here if this node leads, else by asking the one that does.

Only the leader can give leadership away, so a request elsewhere goes on to the leader's own HTTP
address, once: the header `Taskquorum-Forwarded` keeps it from going round.

A leader that is drained, or a drained node that is elected, gives leadership to a healthy voter.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import msgspec

from taskquorum.errors import ProblemError, UnavailableError, problem_error
from taskquorum.model import API_BASE
from taskquorum.node import Failed, guarded

if TYPE_CHECKING:
    from taskquorum.api.app import App

LOG = logging.getLogger("taskquorum.api")

FORWARDED: Final = "taskquorum-forwarded"
FORWARD_S: Final = 12.0
ANSWER_BYTES_MAX: Final = 1 << 16

Done = Callable[[bool, str], None]


def view(app: App) -> dict[str, Any]:
    """This node's view of the cluster."""
    shown: dict[str, Any] = msgspec.json.decode(app.node.native.status())
    return shown


def hand_over(app: App, to: str | None, forwarded: bool, then: Done, failed: Failed) -> None:
    """Gives leadership to `to`, or to the most caught-up node; `then` gets whether it happened and why not."""
    node = app.node
    if node.is_leader or forwarded:
        node.transfer_leader(to, then, failed)
        return
    leader = node.leader
    addresses = {item["node_id"]: item.get("http_address") for item in view(app).get("nodes", ())}
    address = addresses.get(leader) if leader is not None else None
    if address is None:
        failed(UnavailableError("this node knows no leader to ask", code="no_leader"))
        return
    task = app.loop.create_task(_ask(address, to, then, failed))
    app.background.add(task)
    task.add_done_callback(app.background.discard)


async def _ask(address: str, to: str | None, then: Done, failed: Failed) -> None:
    try:
        async with asyncio.timeout(FORWARD_S):
            status, body = await _post(address, msgspec.json.encode({"to": to}))
        document = msgspec.json.decode(body, type=dict[str, Any])
    except (OSError, ValueError, EOFError, asyncio.LimitOverrunError, TimeoutError, msgspec.DecodeError) as error:
        LOG.warning("the leader at %s did not answer: %s", address, error)
        failed(UnavailableError("the leader did not answer", code="no_leader"))
        return
    if status == 200:
        guarded(then, failed, bool(document.get("done")), str(document.get("detail", "")))
    else:
        failed(problem_error(status, document))


async def _post(address: str, body: bytes) -> tuple[int, bytes]:
    """One request on a connection of its own: (status, body)."""
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host.strip("[]"), int(port), limit=ANSWER_BYTES_MAX)
    try:
        writer.write(
            f"POST {API_BASE}/cluster/transfer-leader HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\n"
            f"{FORWARDED}: 1\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n".encode()
            + body
        )
        head = await reader.readuntil(b"\r\n\r\n")
        answer = await reader.read(ANSWER_BYTES_MAX)
    finally:
        writer.close()
    return int(head.split(b" ", 2)[1]), answer


def step_aside(app: App) -> None:
    """If this node leads and is drained, it hands over, provided a healthy voter is there to take it."""
    if not app.node.is_leader or app.stopping:
        return
    nodes = view(app).get("nodes", ())
    own: dict[str, Any] = next((item for item in nodes if item["node_id"] == app.node.node_id), {})
    others = [
        item["node_id"]
        for item in nodes
        if item["node_id"] != app.node.node_id and item.get("status") == "healthy" and item.get("node_role") == "follower"
    ]
    if own.get("status") in ("draining", "drained") and others:
        app.node.transfer_leader(others[0], _logged, _log_problem)


def _logged(done: bool, detail: str) -> None:
    LOG.info("leadership of a drained node: %s %s", "handed over" if done else "kept", detail)


def _log_problem(problem: ProblemError) -> None:
    LOG.warning("leadership of a drained node: %s", problem)
