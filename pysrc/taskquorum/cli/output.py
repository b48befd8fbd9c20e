"""How commands print: tables on a terminal, plain lines elsewhere, JSON when asked.

What always holds: standard output carries the answer and nothing else; failures go to standard error.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import orjson
import typer
from rich.console import Console
from rich.table import Table

from taskquorum.errors import ProblemError
from taskquorum.link import DEFAULT_SERVER

ServerOption = Annotated[
    str,
    typer.Option("--server", envvar="TASKQUORUM_SERVER", help="URL[,URL…] of any servers of the cluster.", show_default=False),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")]
SERVER = DEFAULT_SERVER

STYLES = {
    "completed": "green",
    "healthy": "green",
    "up": "green",
    "running": "cyan",
    "failed": "red",
    "down": "red",
    "lost": "red",
    "damaged": "red",
    "parked": "yellow",
    "suspect": "yellow",
    "draining": "yellow",
    "cancelled": "dim",
    "skipped": "dim",
}


def on_terminal() -> bool:
    return sys.stdout.isatty()


def print_json(value: Any) -> None:
    """One JSON document, indented on a terminal and one line elsewhere."""
    option = orjson.OPT_INDENT_2 if on_terminal() else 0
    sys.stdout.write(orjson.dumps(value, option=option, default=dict).decode() + "\n")
    sys.stdout.flush()


def print_rows(columns: Sequence[str], rows: Sequence[Sequence[Any]], title: str | None = None) -> None:
    """A table on a terminal; elsewhere a line per row, tab between, without a heading."""
    if not on_terminal():
        for row in rows:
            sys.stdout.write("\t".join(text(cell) for cell in row) + "\n")
        sys.stdout.flush()
        return
    table = Table(*columns, title=title, header_style="bold", title_justify="left")
    for row in rows:
        cells = [text(cell) for cell in row]
        table.add_row(*(f"[{STYLES[cell]}]{cell}[/]" if cell in STYLES else cell for cell in cells))
    Console().print(table)


def print_fields(fields: Mapping[str, Any]) -> None:
    """Name and value, one a line; what is None or empty is left out."""
    shown = {name: value for name, value in fields.items() if value not in (None, "", [], {})}
    width = max(map(len, shown), default=0)
    for name, value in shown.items():
        line = f"{name:<{width}}  {text(value)}" if on_terminal() else f"{name}\t{text(value)}"
        sys.stdout.write(line + "\n")
    sys.stdout.flush()


def text(value: Any) -> str:
    """One cell: nothing for None, JSON for what has structure."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.3f}".rstrip("0").rstrip(".")
    if isinstance(value, Mapping | list | tuple):
        return orjson.dumps(value, default=dict).decode()
    return str(value)


def say(message: str) -> None:
    """A remark for people, on standard error."""
    sys.stderr.write(message + "\n")
    sys.stderr.flush()


def print_failure(error: BaseException) -> None:
    """A failure on standard error: as its problem document when the command was asked for JSON."""
    if "--json" in sys.argv[1:]:
        problem: dict[str, Any] = {"code": type(error).__name__, "detail": str(error)}
        if isinstance(error, ProblemError):
            problem = {"status": error.status, "code": error.code, "detail": error.detail, **error.extra}
        say(orjson.dumps({"error": problem}).decode())
    else:
        say(f"taskquorum: {error or type(error).__name__}")
