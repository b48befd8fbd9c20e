"""The agents' side of the demo: each stage as a task function around text.py."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from taskquorum.agent import Agent
from taskquorum.context import Context, TaskFailed
from taskquorum.demo import text

agent = Agent()


@agent.task("extract")
def extract(ctx: Context, data: Mapping[str, Any]) -> Any:
    """Reads one file by its path and checks it against its hash."""
    try:
        return text.extract(data["file"], Path(data["path"]).read_bytes(), data["sha256"])
    except (OSError, text.InputChanged) as error:
        raise TaskFailed("input_changed", str(error), retryable=False) from error


@agent.task("terms")
def terms(ctx: Context, data: Mapping[str, Any]) -> Any:
    (extracted,) = ctx.inputs.values()
    return text.terms(extracted)


@agent.task("merge")
def merge(ctx: Context, data: Mapping[str, Any]) -> Any:
    return text.merge(_named(ctx, "terms-"))


@agent.task("idf")
def idf(ctx: Context, data: Mapping[str, Any]) -> Any:
    return text.inverse_frequency(_named(ctx, "merge-"))


@agent.task("similar")
def similar(ctx: Context, data: Mapping[str, Any]) -> Any:
    groups = _named(ctx, "merge-")
    ctx.progress(0.1, f"comparing {len(data['files'])} files")
    return text.similar(groups, ctx.inputs["idf"], data["files"])


@agent.task("report")
def report(ctx: Context, data: Mapping[str, Any]) -> Any:
    return text.report(_named(ctx, "merge-"), ctx.inputs["idf"], _named(ctx, "similar-"))


def _named(ctx: Context, prefix: str) -> list[Any]:
    """The inputs whose task's name begins so, in the order of the names."""
    return [ctx.inputs[name] for name in sorted(ctx.inputs) if name.startswith(prefix)]
