"""Set `stg`: graphs of the Standard Task Graph set with known times on 2, 4, 8 and 16 identical agents; mark Q2.

The reference is list scheduling by rank_u, out-degree, id in the same run.
"""

import math
from pathlib import Path

from bench.scheduling.contract import BadInput, Report, Request
from bench.scheduling.dag import Graph, makespan_us, schedule, topological
from bench.scheduling.engine import SECOND_US
from taskquorum.scheduling import columns as col
from taskquorum.scheduling.policy import Policy

AGENTS = (2, 4, 8, 16)
TIMES_MAX = {2: 0.8, 4: 0.8, 8: 0.8, 16: 1.0}
DECIDE_MS_MAX = 20.0


def read(path: Path) -> Graph:
    """One graph, its two dummies included. Raises BadInput."""
    lines = [
        (at, line.split())
        for at, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1)
        if line.strip() and not line.lstrip().startswith("#")
    ]
    try:
        count = int(lines[0][1][0]) + 2
    except (IndexError, ValueError):
        raise BadInput(path, lines[0][0] if lines else None, "the first line must be the number of tasks") from None
    if len(lines) < count + 1:
        raise BadInput(path, None, f"{len(lines) - 1} tasks, {count} were announced")
    numbers: dict[int, int] = {}
    graph = Graph([], [], [])
    named: list[tuple[int, list[int]]] = []
    for at, cells in lines[1 : count + 1]:
        try:
            told = [int(cell) for cell in cells]
        except ValueError:
            raise BadInput(path, at, "a field is not a whole number") from None
        if len(told) < 3 or len(told) < 3 + told[2] or told[1] < 0:
            raise BadInput(path, at, "id, time and the predecessors that were announced are needed")
        if told[0] in numbers:
            raise BadInput(path, at, f"task {told[0]} is there twice")
        numbers[told[0]] = len(graph.names)
        graph.names.append(told[0])
        graph.duration_us.append(told[1] * SECOND_US)
        named.append((at, told[3 : 3 + told[2]]))
    for at, before in named:
        unknown = [number for number in before if number not in numbers]
        if unknown:
            raise BadInput(path, at, f"predecessor {unknown[0]} is no task")
        graph.parents.append([numbers[number] for number in before])
    try:
        topological(graph.parents)
    except ValueError as error:
        raise BadInput(path, None, str(error)) from None
    graph.told_us = graph.duration_us
    return graph


def run(request: Request) -> Report:
    """Every graph of the folder."""
    report = Report("stg")
    gaps: dict[tuple[str, int], list[float]] = {}
    longest_ms = 0.0
    # What a first call costs is no decision.
    schedule(Graph([0, 1], [SECOND_US] * 2, [[], [0]], told_us=[SECOND_US] * 2), 2, Policy())
    for path in request.files("*.stg"):
        graph = read(path)
        for agents in AGENTS:
            units = -(-sum(graph.duration_us) // (agents * SECOND_US)) * SECOND_US
            bound = max(graph.critical_path_us(), units)
            for policy, made in _policies().items():
                engine = schedule(graph, agents, made)
                gap = makespan_us(engine) / bound - 1 if bound else 0.0
                gaps.setdefault((policy, agents), []).append(gap)
                report.row(
                    path.stem, policy, variant=f"m{agents}", feasible=True, value=makespan_us(engine) / SECOND_US,
                    bound=bound / SECOND_US, metric={"gap": gap, "hit": math.isclose(gap, 0.0, abs_tol=1e-12)},
                    decide_ms=engine.decide_ms,
                )  # fmt: skip
                if policy == "ours":
                    longest_ms = max(longest_ms, *engine.decide_ms)
                engine.write(request.decisions, path.stem, policy, variant=f"m{agents}")
    for (policy, agents), found in gaps.items():
        report.group(f"{policy} m={agents} gap %", [100 * gap for gap in found])
        report.group(f"{policy} m={agents} hits", [float(gap < 1e-12) for gap in found])
    for agents, times in TIMES_MAX.items():
        ours, reference = sum(gaps["ours", agents]), sum(gaps["reference", agents])
        value = ours / reference if reference > 0 else (0.0 if ours == 0 else math.inf)
        report.mark("Q2", f"m={agents} gap / rank_u's", value, times)
    report.mark("Q2", "longest decision ms", longest_ms, DECIDE_MS_MAX)
    return report


def _policies() -> dict[str, Policy]:
    return {
        "ours": Policy(),
        "reference": Policy(plans=False),
        "fifo": Policy(col.BY_SUBMIT),
        "random": Policy(col.BY_CHANCE),
    }
