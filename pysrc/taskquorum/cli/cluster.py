"""Commands on the cluster: status, nodes, drain, transfer, snapshot."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from taskquorum.cli.output import SERVER, JsonOption, ServerOption, print_fields, print_json, print_rows
from taskquorum.sync import Client

app = typer.Typer(help="The cluster and its nodes.", no_args_is_help=True)
NodeArgument = Annotated[str, typer.Argument(metavar="NODE", help="The node's id.")]
_VERIFY_COLUMNS = ("node_id", "agrees", "computed", "kept", "rows", "bytes", "error")
_NODE_COLUMNS = ("node_id", "node_role", "status", "address", "match_index", "lag", "load_factor", "agents")


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
