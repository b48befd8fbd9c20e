"""The task functions of `taskquorum dev`'s agents: small ones to try the system with."""

from __future__ import annotations

import asyncio
from typing import Any

from taskquorum.agent import Agent
from taskquorum.context import Context, TaskFailed

SLEEP_S_MAX = 3_600.0
SLEEP_STEP_S = 0.1

agent = Agent()


@agent.task("echo")
def echo(ctx: Context, data: Any) -> Any:
    """Answers with its data."""
    return data


@agent.task("sum")
def sum_inputs(ctx: Context, data: Any) -> Any:
    """The sum of the numbers in `data` (a list) and of all inputs that are numbers."""
    numbers = [*(data or []), *ctx.inputs.values()]
    return sum(number for number in numbers if isinstance(number, int | float))


@agent.task("sleep")
async def sleep(ctx: Context, data: Any) -> Any:
    """Takes `seconds` (default 1), with progress, and stops when it is cancelled."""
    seconds = min(float((data or {}).get("seconds", 1)), SLEEP_S_MAX)
    steps = max(1, int(seconds / SLEEP_STEP_S))
    for step in range(steps):
        ctx.check()
        await asyncio.sleep(seconds / steps)
        ctx.progress((step + 1) / steps)
    return {"slept": seconds}


@agent.task("fail")
def fail(ctx: Context, data: Any) -> Any:
    """Fails with `code` (default `asked`); `attempts` failures, then it succeeds."""
    given = data or {}
    if ctx.attempt <= int(given.get("attempts", 1_000_000)):
        raise TaskFailed(str(given.get("code", "asked")), "asked to", retryable=bool(given.get("retryable", True)))
    return {"attempt": ctx.attempt}
