"""Commands on keys of the replicated store: kv get, put, delete."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import orjson
import typer

from taskquorum.cli.output import SERVER, JsonOption, ServerOption, print_fields, print_json
from taskquorum.sync import Client

app = typer.Typer(help="Keys of the replicated store.", no_args_is_help=True)
KeyArgument = Annotated[str, typer.Argument(metavar="KEY")]
MatchOption = Annotated[int | None, typer.Option("--if-match", help="Only when the key is at this revision.")]


@app.command()
def get(
    key: KeyArgument,
    local: Annotated[bool, typer.Option(help="Read one node's own state; may be old.")] = False,
    server: ServerOption = SERVER,
    json: JsonOption = False,
) -> None:
    """Print a key's value."""
    with Client(server) as client:
        found = client.kv_get(key, local=local)
    if json:
        fields = ("key", "value", "revision", "create_revision", "version")
        print_json({name: getattr(found, name) for name in fields})
    else:
        value: Any = found.value
        sys.stdout.write((value if isinstance(value, str) else orjson.dumps(value).decode()) + "\n")


@app.command()
def put(
    key: KeyArgument,
    value: Annotated[str, typer.Argument(metavar="VALUE|-", help="JSON; anything else is taken as a string.")],
    if_match: MatchOption = None,
    if_absent: Annotated[bool, typer.Option(help="Only when the key does not exist.")] = False,
    server: ServerOption = SERVER,
    json: JsonOption = False,
) -> None:
    """Write a key."""
    text = sys.stdin.read() if value == "-" else value
    try:
        parsed: Any = orjson.loads(text)
    except orjson.JSONDecodeError:
        parsed = text
    with Client(server) as client:
        answer = client.kv_put(key, parsed, if_match=if_match, if_absent=if_absent)
    if json:
        print_json(answer)
    else:
        print_fields({"key": key, "revision": answer["revision"]})


@app.command()
def delete(key: KeyArgument, if_match: MatchOption = None, server: ServerOption = SERVER, json: JsonOption = False) -> None:
    """Delete a key."""
    with Client(server) as client:
        client.kv_delete(key, if_match=if_match)
    if json:
        print_json({"key": key, "deleted": True})
