"""Members of the cluster: take a node in, give a lost one's place away, remove one.

Each call answers when the change is made on this node (200), or at its deadline with how far it has come (202): the cluster
then goes on with it by itself, and `/cluster/nodes` and `/cluster/status` show it. Asking again is safe.
"""

from __future__ import annotations

from typing import Final

import msgspec

from taskquorum.api import wire
from taskquorum.api.call import Call
from taskquorum.api.schema import MEMBER_WAIT_MS, MemberAdd
from taskquorum.errors import InvalidError
from taskquorum.node import Outcome

_add: Final = msgspec.json.Decoder(MemberAdd)


def add(call: Call) -> None:
    """Takes a node in under a role, changes a member's role or address, or gives a lost node's place to an empty directory."""
    body = call.decode(_add)
    address = body.address or ""
    if body.replace is None:
        command = wire.command("add_member", {"node_id": body.node_id, "address": address, "role": body.role})
    elif body.replace == body.node_id:
        command = wire.command("replace_member", {"node_id": body.node_id, "address": address})
    else:
        raise InvalidError("a node is replaced by an empty directory of the same name", field="/replace")
    _change(call, command, body.node_id, body.wait_ms)


def remove(call: Call) -> None:
    """Removes a node; leadership is handed over first."""
    node_id = call.name("id")
    command = wire.command("remove_member", {"node_id": node_id})
    _change(call, command, node_id, call.query.get("wait_ms", MEMBER_WAIT_MS))


def _change(call: Call, command: bytes, node_id: str, wait_ms: int) -> None:
    def applied(outcome: Outcome) -> None:
        def ended(done: bool, detail: str) -> None:
            shown = {"node_id": node_id, "done": done, "progress": detail, "revision": outcome.revision}
            call.object(shown, outcome.revision, 200 if done else 202)

        call.app.node.await_member(node_id, wait_ms, ended, call.fail)

    call.propose(command, applied)
