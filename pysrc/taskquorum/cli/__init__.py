"""The `taskquorum` command.

Each command converts its arguments, makes one call of the client and prints what came back. It
exits 0 when the thing asked for was done, 1 when it was refused or failed, 2 for wrong usage.
"""

from __future__ import annotations

import sys

import typer

from taskquorum.cli import backup, cluster, inspect, kv, run, tasks
from taskquorum.cli.output import print_failure
from taskquorum.errors import TaskquorumError
from taskquorum.process import die_with_parent

app = typer.Typer(
    name="taskquorum",
    help="A task coordinator for fleets of AI agents that keeps its promise when machines die.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
run.register(app)
tasks.register(app)
inspect.register(app)
backup.register(app)
app.add_typer(cluster.app, name="cluster")
app.add_typer(kv.app, name="kv")


def main() -> None:
    """Runs the command line of this process and exits."""
    die_with_parent()
    try:
        app()
    except (TaskquorumError, TimeoutError, ValueError, OSError) as error:
        print_failure(error)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
