"""Commands that run something: serve, agent, dev, demo."""

from __future__ import annotations

import importlib
import inspect
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from taskquorum.agent import Agent
from taskquorum.cli.output import SERVER, JsonOption, ServerOption, print_json
from taskquorum.cli.serve import serve

V = TypeVar("V")
CAPABILITY_HELP = "DIMENSION=LEVEL with a level 0..1; may be given several times."


def register(app: typer.Typer) -> None:
    """Adds the commands to the application."""
    for function in (serve, agent, dev, demo):
        app.command()(function)


def agent(
    targets: Annotated[list[str], typer.Argument(metavar="MODULE:FUNCTION…", help="Functions, or one Agent object.")],
    capability: Annotated[list[str] | None, typer.Option(help=CAPABILITY_HELP)] = None,
    slots: Annotated[int | None, typer.Option(min=1, help="Tasks at once.")] = None,
    label: Annotated[list[str] | None, typer.Option(help="KEY=VALUE; may be given several times.")] = None,
    resource: Annotated[list[str] | None, typer.Option(help="NAME=AMOUNT; may be given several times.")] = None,
    task_type: Annotated[str | None, typer.Option(help="Type of the tasks of a single function; default its name.")] = None,
    agent_id: Annotated[str | None, typer.Option("--id", help="Default: made of host, process and chance.")] = None,
    node_id: Annotated[str | None, typer.Option(help="Node whose failure domain it shares; default where it registers.")] = None,
    grace: Annotated[float, typer.Option(min=0, help="Seconds for running tasks after SIGTERM.")] = 30.0,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Tell what happens on standard error.")] = False,
    server: ServerOption = SERVER,
    json: JsonOption = False,
) -> None:
    """Run an agent from Python functions until SIGTERM, then drain."""
    level = logging.INFO if verbose else logging.WARNING
    logging.basicConfig(level=level, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    if "" not in sys.path:
        sys.path.insert(0, "")
    loaded = [_load(target) for target in targets]
    runner = _assemble(loaded, task_type)
    config = runner.config
    config.servers = server if server != SERVER or not isinstance(loaded[0], Agent) else config.servers
    config.id = agent_id or config.id
    config.node_id = node_id or config.node_id
    config.slots = slots or config.slots
    config.drain_grace_s = grace
    config.capabilities = {**config.capabilities, **_pairs(capability, float)}
    config.labels = {**config.labels, **_pairs(label, str)}
    config.resources = {**config.resources, **_pairs(resource, int)}
    counts = runner.run()
    if json:
        print_json({"id": config.id, **{name: getattr(counts, name) for name in ("completed", "failed", "refused", "lost")}})


def _load(target: str) -> Any:
    module, _, name = target.partition(":")
    if not module or not name:
        raise ValueError(f"{target!r}: give MODULE:FUNCTION")
    try:
        found: Any = importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise ValueError(f"{target!r}: {error}") from error
    for part in name.split("."):
        found = getattr(found, part, None)
    if found is None:
        raise ValueError(f"{target!r}: {module} has no {name}")
    return found


def _assemble(loaded: list[Any], task_type: str | None) -> Agent:
    if len(loaded) == 1 and isinstance(loaded[0], Agent):
        return loaded[0]
    runner = Agent()
    if task_type is not None and len(loaded) > 1:
        raise ValueError("--task-type goes with a single function")
    for function in loaded:
        if not inspect.isroutine(function):
            raise ValueError(f"{function!r} is neither a function nor an Agent")
        runner.add(task_type or function.__name__, function)
    return runner


def _pairs(given: list[str] | None, convert: Callable[[str], V]) -> dict[str, V]:
    pairs: dict[str, V] = {}
    for item in given or []:
        name, separator, value = item.partition("=")
        if not name or not separator:
            raise ValueError(f"{item!r}: give NAME=VALUE")
        pairs[name] = convert(value)
    return pairs


def dev(
    nodes: Annotated[int, typer.Option(min=1, max=9)] = 3,
    agents: Annotated[int, typer.Option(min=0, max=64, help="Agents that echo, sleep and fail on demand.")] = 4,
    data_dir: Annotated[Path | None, typer.Option(help="Kept when given, else a temporary place.")] = None,
    http_port: Annotated[int, typer.Option(help="Of the first node; the next ones follow.")] = 8080,
    json: JsonOption = False,
) -> None:
    """Run a cluster of processes on this machine until Ctrl-C."""
    from taskquorum.dev import run_dev

    raise typer.Exit(run_dev(nodes=nodes, agents=agents, data_dir=data_dir, http_port=http_port, json=json))


def demo(
    folder: Annotated[Path | None, typer.Argument(metavar="[FOLDER]", help="Default: this Python's own library.")] = None,
    files: Annotated[int, typer.Option(min=8, max=4_000, help="At most so many files.")] = 600,
    report: Annotated[Path, typer.Option(help="Where the report goes.")] = Path("report.html"),
    data_dir: Annotated[Path | None, typer.Option(help="Where nodes keep data and logs; implies --keep.")] = None,
    keep: Annotated[bool, typer.Option(help="Keep data and logs.")] = False,
    json: JsonOption = False,
) -> None:
    """Three nodes, six agents, a real job; a leader and an agent are killed on the way."""
    from taskquorum.demo import DemoOptions, run_demo

    options = DemoOptions(folder=folder, files=files, report=report, data_dir=data_dir, keep=keep, json=json)
    raise typer.Exit(run_demo(options))
