"""`taskquorum serve`: one node, until SIGTERM.

Flags go before the environment, that before the file; what each setting means and which values are
refused is config.py's business.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer


def serve(
    node_id: Annotated[str | None, typer.Option(help="This node's name in the cluster.")] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Where its log and state are kept.")] = None,
    role: Annotated[str | None, typer.Option(help="voter, or observer: follows the cluster without voting.")] = None,
    http: Annotated[str | None, typer.Option(help="HOST:PORT of the HTTP API.")] = None,
    raft: Annotated[str | None, typer.Option(help="HOST:PORT for the other nodes.")] = None,
    cluster: Annotated[str | None, typer.Option(help="NODE=HOST:PORT[,…]: all nodes, for the first start.")] = None,
    snapshot_rate_mib: Annotated[int | None, typer.Option(help="MiB a second at which snapshots leave; default 32.")] = None,
    config: Annotated[Path | None, typer.Option(help="A TOML file with the same names.")] = None,
    insecure: Annotated[bool | None, typer.Option("--insecure", help="Allow other than loopback without access control.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the ready line as JSON.")] = False,
) -> None:
    """Run one node. Prints one line when ready; SIGTERM hands over leadership, flushes and exits 0."""
    from taskquorum.config import load_config
    from taskquorum.server import serve as run

    given: dict[str, Any] = {
        "node_id": node_id,
        "data_dir": data_dir,
        "role": role,
        "http": http,
        "raft": raft,
        "cluster": cluster,
        "insecure": insecure,
        "snapshot_rate_mib": snapshot_rate_mib,
        "json": json or None,
    }
    flags = {name: str(value) for name, value in given.items() if value is not None}
    raise typer.Exit(run(load_config(flags, os.environ, config)))
