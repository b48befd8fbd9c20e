"""Commands on the cluster: status, nodes, drain, add, remove, replace, transfer, snapshot."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Annotated, Any

import typer

from taskquorum.cli.output import SERVER, JsonOption, ServerOption, print_fields, print_json, print_rows
from taskquorum.errors import NotFoundError
from taskquorum.sync import Client

app = typer.Typer(help="The cluster and its nodes.", no_args_is_help=True)
NodeArgument = Annotated[str, typer.Argument(metavar="NODE", help="The node's id.")]
_VERIFY_COLUMNS = ("node_id", "agrees", "computed", "kept", "rows", "bytes", "error")
_NODE_COLUMNS = ("node_id", "node_role", "state", "status", "parent", "address", "match_index", "lag", "load_factor", "agents")


@app.command()
def status(server: ServerOption = SERVER, json: JsonOption = False) -> None:
    """Show leader, term, quorum and state hash; exit 1 without a leader or quorum."""
    with Client(server) as client:
        answer = client.cluster_status()
    if json:
        print_json(answer)
    else:
        print_fields({name: value for name, value in answer.items() if name != "nodes"})
        _print_nodes(answer.get("nodes") or [])
    if not answer.get("leader") or not (answer.get("quorum") or {}).get("has_quorum", True):
        raise typer.Exit(1)


@app.command()
def nodes(server: ServerOption = SERVER, json: JsonOption = False) -> None:
    """List the nodes."""
    with Client(server) as client:
        answer = client.nodes()
    if json:
        print_json({"nodes": answer})
    else:
        _print_nodes(answer)


def _print_nodes(items: Any) -> None:
    print_rows(_NODE_COLUMNS, [[item.get(column) for column in _NODE_COLUMNS] for item in items])


@app.command()
def drain(
    node_id: NodeArgument,
    deadline_ms: Annotated[int | None, typer.Option(help="Until when its agents may finish; default 1 h.")] = None,
    undo: Annotated[bool, typer.Option("--undo", help="End the drain.")] = False,
    server: ServerOption = SERVER,
    json: JsonOption = False,
) -> None:
    """Take a node's agents and leadership away from it, or end that with --undo."""
    with Client(server) as client:
        if undo:
            client.undrain_node(node_id)
            _print(({"node_id": node_id, "state": "none"}), json)
        else:
            _print(client.drain_node(node_id, deadline_ms=deadline_ms), json)


AddressOption = Annotated[str | None, typer.Option(metavar="HOST:PORT", help="Its Raft address, as others reach it.")]
WaitOption = Annotated[int, typer.Option(min=0, max=3600, help="Seconds to wait until it is done; the change goes on anyway.")]
_WAIT_S = 120
_WAIT_MS_EACH = 30_000
"""Longest wait of one call; the command asks again until its own wait is over."""


@app.command()
def add(
    node_id: NodeArgument,
    address: AddressOption = None,
    role: Annotated[str, typer.Option(help="voter, learner (a spare) or observer.")] = "voter",
    wait: WaitOption = _WAIT_S,
    server: ServerOption = SERVER,
    json: JsonOption = False,
) -> None:
    """Take in the node that waits at the address with an empty directory, or change a member's role."""
    with Client(server) as client:
        _finish(lambda wait_ms: client.add_member(node_id, address, role, wait_ms=wait_ms), wait, json)


@app.command()
def remove(node_id: NodeArgument, wait: WaitOption = _WAIT_S, server: ServerOption = SERVER, json: JsonOption = False) -> None:
    """Remove a node; leadership is handed over first. Refused where the quorum would be lost."""
    with Client(server) as client:
        _finish(lambda wait_ms: client.remove_member(node_id, wait_ms=wait_ms), wait, json)


@app.command()
def replace(
    node_id: NodeArgument,
    address: AddressOption = None,
    wait: WaitOption = _WAIT_S,
    server: ServerOption = SERVER,
    json: JsonOption = False,
) -> None:
    """Give the place of a node that is lost for good to the empty directory of the same name."""
    with Client(server) as client:
        _finish(lambda wait_ms: client.replace_member(node_id, address, wait_ms=wait_ms), wait, json)


def _finish(ask: Callable[[int], Mapping[str, Any]], wait_s: int, json: bool) -> None:
    """Asks, and again while the change is under way (that is safe), at most for `wait_s`; exit 1 if it is not done by then."""
    deadline = time.monotonic() + wait_s
    answer: Mapping[str, Any] | None = None
    while answer is None or not answer["done"]:
        left_ms = int((deadline - time.monotonic()) * 1000)
        if answer is not None and left_ms <= 0:
            break
        try:
            answer = ask(max(0, min(left_ms, _WAIT_MS_EACH)))
        except NotFoundError:
            # It was there when this command first asked: by now it is gone.
            if answer is None:
                raise
            answer = {**answer, "done": True, "progress": "removed"}
    _print(answer, json)
    if not answer["done"]:
        raise typer.Exit(1)


@app.command()
def transfer(
    to: Annotated[str | None, typer.Argument(metavar="[NODE]", help="Default: the most caught-up one.")] = None,
    server: ServerOption = SERVER,
    json: JsonOption = False,
) -> None:
    """Hand leadership over."""
    with Client(server) as client:
        _print(client.transfer_leader(to), json)


@app.command()
def snapshot(server: ServerOption = SERVER, json: JsonOption = False) -> None:
    """Have a node take a snapshot of its state now."""
    with Client(server) as client:
        _print(client.snapshot(), json)


@app.command()
def verify(
    timeout_s: Annotated[float, typer.Option(help="How long to wait for the nodes.", min=0.1, max=3600)] = 60.0,
    server: ServerOption = SERVER,
    json: JsonOption = False,
) -> None:
    """Have every node recompute its state hash over all rows at one index; exit 1 if any differs or is silent."""
    with Client(server, timeout_s=timeout_s + 10) as client:
        answer = client.verify(timeout_ms=int(timeout_s * 1000))
    if json:
        print_json(answer)
    else:
        print_fields({name: value for name, value in answer.items() if name != "nodes"})
        print_rows(_VERIFY_COLUMNS, [[item.get(column) for column in _VERIFY_COLUMNS] for item in answer.get("nodes") or []])
    if not answer.get("agrees"):
        raise typer.Exit(1)


def _print(answer: Mapping[str, Any], json: bool) -> None:
    if json:
        print_json(answer)
    else:
        print_fields(answer)
