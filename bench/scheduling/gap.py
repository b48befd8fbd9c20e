"""Set `gap`: generalised assignment against the best known values; mark Q1.

Time runs from the arrays to the answer, on one thread, after a generated instance has warmed the kernels.
"""

import csv
import time
from pathlib import Path

import numpy as np

from bench.scheduling.contract import BadInput, Report, Request
from taskquorum.scheduling.columns import I32, I64
from taskquorum.scheduling.gap import solve

COLUMNS = ("Path", "Best known solution value")
BUDGET_MS = 20.0
LARGE = 400
LARGE_BUDGET_MS = 1000.0
LIMITS = {"cattrysse1994": 0.005, "a": 0.01, "b": 0.01, "c": 0.01, "d": 0.02, "e": 0.02}
LARGE_LIMITS = {"c": 0.01, "d": 0.025, "e": 0.025}


def read(path: Path) -> tuple[I32, I64, I64]:
    """Cost i32[n, m], size i64[n, m, 1], capacity i64[m, 1]. Raises BadInput."""
    numbers: list[int] = []
    for at, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        try:
            numbers += [int(cell) for cell in line.split()]
        except ValueError:
            raise BadInput(path, at, "a field is not a whole number") from None
    m, n = (*numbers[:2], 0, 0)[:2]
    if m <= 0 or n <= 0 or len(numbers) != 2 + 2 * m * n + m:
        raise BadInput(path, None, f"{len(numbers)} numbers are not an instance of {m} agents and {n} tasks")
    told = np.array(numbers[2:], np.int64)
    cost, size, capacity = told[: m * n], told[m * n : 2 * m * n], told[2 * m * n :]
    return (
        np.ascontiguousarray(cost.reshape(m, n).T, np.int32),
        np.ascontiguousarray(size.reshape(m, n).T)[:, :, None].copy(),
        capacity[:, None].copy(),
    )


def generated(seed: int, n: int, m: int, width: int = 1) -> tuple[I32, I64, I64]:
    """An instance of type C of Chu and Beasley (J. Heuristics 4, 1998): capacities at 0.8 of the mean share."""
    rng = np.random.default_rng(seed)
    size = rng.integers(5, 26, (n, m, width))
    capacity = np.maximum((0.8 * size.sum(axis=0) / m).astype(np.int64), size.max(axis=(0, 1)))
    return rng.integers(10, 51, (n, m)).astype(np.int32), size, capacity


def greedy(cost: I32, size: I64, capacity: I64) -> I32:
    """Each task in turn on its cheapest agent with room; −1 where none has."""
    left = capacity.copy()
    agent = np.full(len(cost), -1, np.int32)
    for j in range(len(cost)):
        for a in np.argsort(cost[j], kind="stable").tolist():
            if (size[j, a] <= left[a]).all():
                left[a] -= size[j, a]
                agent[j] = a
                break
    return agent


def run(request: Request) -> Report:
    """Every instance of the table whose file is there."""
    report = Report("gap")
    bounds = request.files("bounds.csv")[0]
    with bounds.open(encoding="utf-8", newline="") as file:
        table = csv.DictReader(file)
        if not set(COLUMNS) <= set(table.fieldnames or ()):
            raise BadInput(bounds, 1, f"the columns {', '.join(COLUMNS)} are needed")
        rows = [row for row in table if (bounds.parent / row["Path"]).is_file()]
    solve(*generated(0, 30, 4), BUDGET_MS)
    found: dict[tuple[str, bool, float], list[float]] = {}
    infeasible = 0
    for row in rows:
        path = bounds.parent / row["Path"]
        cost, size, capacity = read(path)
        folder = row["Path"].split("/")[0]
        large = len(cost) >= LARGE
        budgets = [request.budget_ms] if request.budget_ms else [BUDGET_MS, LARGE_BUDGET_MS] if large else [BUDGET_MS]
        try:
            best = float(row["Best known solution value"])
        except ValueError:
            best = None
        for policy, budget in [("ours", budget) for budget in budgets] + [("greedy", 0.0)]:
            began = time.perf_counter()
            agent = solve(cost, size, capacity, budget) if policy == "ours" else greedy(cost, size, capacity)
            took_ms = (time.perf_counter() - began) * 1000
            feasible = bool((agent >= 0).all())
            value = int(cost[np.arange(len(cost)), agent].sum()) if feasible else None
            gap = value / best - 1 if value is not None and best else None
            report.row(
                row["Path"], policy, variant=f"{budget:g}ms", feasible=feasible, value=value, bound=best,
                metric={"gap": gap}, decide_ms=[took_ms],
            )  # fmt: skip
            if policy == "ours":
                infeasible += not feasible
                family = folder if folder in LIMITS else path.name[0]
                found.setdefault((family, large, budget), []).append(np.inf if gap is None else gap)
                for task, chosen in enumerate(agent.tolist()):
                    request.decisions.write(
                        row["Path"], policy, 0.0, task, chosen if chosen >= 0 else None, variant=f"{budget:g}ms"
                    )
    for (family, large, budget), gaps in sorted(found.items()):
        name = f"{family} {'n>=400' if large else 'n<=200'} {budget:g} ms gap"
        mean = report.group(name, gaps)
        limit = (LARGE_LIMITS if large else LIMITS).get(family)
        if limit is not None and (not large or budget > BUDGET_MS):
            report.mark("Q1", name, mean, limit)
    report.mark("Q1", "infeasible answers", infeasible, 0)
    return report
