"""Backup of a running cluster into one file, and restore of that file into a new cluster."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from taskquorum.cli.output import SERVER, JsonOption, ServerOption, print_fields, print_json

FileArgument = Annotated[Path, typer.Argument(metavar="FILE")]


def register(app: typer.Typer) -> None:
    """Adds the commands to the application."""
    app.command()(backup)
    app.command()(restore)


def backup(file: FileArgument, server: ServerOption = SERVER, json: JsonOption = False) -> None:
    """Write the cluster's state at one revision to a new file, checked before it gets its name."""
    from taskquorum.backup import save_backup

    _print(asyncio.run(save_backup(server, file)), {"file": str(file), "file_bytes": None}, json)


def restore(
    file: FileArgument,
    data_dir: Annotated[Path, typer.Option(help="The new node's data directory: absent or empty.")],
    node_id: Annotated[str, typer.Option(help="Its name; it starts under no other.")] = "",
    cluster: Annotated[str, typer.Option(help="NODE=HOST:PORT[,…] as for serve; it starts with no other list.")] = "",
    json: JsonOption = False,
) -> None:
    """Restore a backup as the first state of a NEW cluster: do it on each of its nodes with the same file, then start them."""
    from taskquorum.backup import restore_backup
    from taskquorum.config import parse_cluster

    names = list(parse_cluster(cluster))
    _print(restore_backup(file, data_dir, node_id, names), {"data_dir": str(data_dir)}, json)


def _print(manifest: Mapping[str, Any], more: Mapping[str, Any], json: bool) -> None:
    shown = {**{name: value for name, value in more.items() if value is not None}, **manifest}
    if json:
        print_json(shown)
    else:
        print_fields({**shown, "files": len(manifest["files"])})
