"""Set `azure`: arrivals and sizes of a public LLM inference trace on one-slot agents; part of mark Q6.

The trace is bursty, so waits have no absolute mark: ours must be no longer than those of one central FIFO queue.
"""

import csv
import math
from datetime import datetime
from pathlib import Path

import numpy as np

from bench.scheduling.central import central_waits_s
from bench.scheduling.contract import BadInput, Report, Request
from bench.scheduling.engine import SECOND_US, Engine, Task, agent_told, class_told, waits_s
from taskquorum.scheduling.policy import Policy

COLUMNS = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")
LOAD = 0.8
TIMES_MAX = 1.05


def read(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Arrival and service of each request in µs, i64[n], in order of arrival. Raises BadInput."""
    found: list[tuple[int, int]] = []
    with path.open(encoding="utf-8", newline="") as file:
        lines = csv.reader(file)
        header = next(lines, [])
        try:
            places = [header.index(name) for name in COLUMNS]
        except ValueError:
            raise BadInput(path, 1, f"the columns {', '.join(COLUMNS)} are needed") from None
        for cells in lines:
            if not cells:
                continue
            try:
                stamp, context, generated = (cells[place] for place in places)
                whole, _, part = stamp.partition(".")
                moment = datetime.fromisoformat(whole + "+00:00")
                arrival = int(moment.timestamp()) * SECOND_US + int(part[:6].ljust(6, "0") if part else 0)
                service_s = 0.1 + 0.0002 * int(context) + 0.03 * int(generated)
            except (ValueError, IndexError) as error:
                raise BadInput(path, lines.line_num, str(error)) from None
            found.append((arrival, round(service_s * SECOND_US)))
    if not found:
        raise BadInput(path, None, "no requests")
    told = np.array(sorted(found, key=lambda one: one[0]), np.int64)
    return told[:, 0] - told[0, 0], told[:, 1]


def run(request: Request) -> Report:
    """Every trace of the folder."""
    report = Report("azure")
    for path in request.files("*.csv"):
        arrival, service = read(path)
        span = int(arrival[-1])
        agents = max(1, math.ceil(service.sum() / (LOAD * span))) if span > 0 else 1
        offered = float(service.sum() / (agents * span)) if span > 0 else math.nan
        tasks = [
            Task(number, 0, when, takes)
            for number, (when, takes) in enumerate(zip(arrival.tolist(), service.tolist(), strict=True))
        ]
        engine = Engine(Policy(), [agent_told(number) for number in range(agents)], [class_told(0)], tasks)
        engine.run()
        mean_s = float(service.mean()) / SECOND_US
        means: dict[str, float] = {}
        for policy, waits in (("ours", waits_s(engine.tasks)), ("fifo", central_waits_s(arrival, service, agents))):
            means[policy] = float(waits.mean() / mean_s)
            metric = {
                "mean_wait": means[policy], "p99_wait": float(np.percentile(waits, 99) / mean_s), "offered_load": offered,
                "agents": agents,
            }  # fmt: skip
            decide_ms = engine.decide_ms if policy == "ours" else ()
            report.row(path.stem, policy, feasible=True, value=means[policy], metric=metric, decide_ms=decide_ms)
            report.group(f"{path.stem} {policy} mean wait / mean service", [means[policy]])
            report.group(f"{path.stem} {policy} p99 wait / mean service", [metric["p99_wait"]])
        report.group(f"{path.stem} offered load", [offered])
        report.mark("Q6", f"{path.stem} mean wait / central FIFO's", means["ours"] / max(means["fifo"], 1e-12), TIMES_MAX)
        engine.write(request.decisions, path.stem, "ours")
    return report
