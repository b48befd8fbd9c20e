"""Set `lublin`: parallel batch jobs of a Standard Workload Format trace on one machine; mark Q4.

Ten sequences of 1,024 jobs on an empty machine, first with exact estimates, then with nothing but what was learned. The
baseline is first come, first served with EASY backfilling, by the same policy with its order swapped.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.scheduling.contract import BadInput, Report, Request
from bench.scheduling.engine import SECOND_US, Engine, Task, agent_told, class_told, waits_s
from taskquorum.scheduling import columns as col
from taskquorum.scheduling.policy import Policy

STARTS = (1981, 2756, 4299, 8850, 3316, 2714, 5228, 7762, 4022, 7085)
JOBS = 1024
SHORTEST_S = 10.0
"""Runs below it count as this long in the slowdown."""
SLOWDOWN_MAX = {"lublin_256": 40.0}
SLOWDOWN_MAX_ELSE = 90.0
"""For Lublin-2, where published rules reach 92."""
LONGEST_MAX = 2.6


@dataclass(frozen=True)
class Job:
    """A line of the trace: job number, submit and run in seconds, processors, estimate in seconds."""

    number: int
    submit_s: int
    run_s: int
    processors: int
    estimate_s: int


def read(path: Path) -> tuple[list[Job], int]:
    """The jobs of a trace that ran, in order of submit, and its processors. Raises BadInput."""
    jobs: list[Job] = []
    nodes = 0
    for at, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        if line.startswith(";"):
            name, _, value = line[1:].partition(":")
            if name.strip() == "MaxNodes":
                try:
                    nodes = int(value)
                except ValueError:
                    raise BadInput(path, at, f"MaxNodes is not a number: {value.strip()}") from None
            continue
        if not line.strip():
            continue
        try:
            cells = [int(float(cell)) for cell in line.split()]
        except ValueError:
            raise BadInput(path, at, "a field is not a number") from None
        if len(cells) < 9:
            raise BadInput(path, at, f"{len(cells)} fields, at least 9 are needed")
        processors = cells[7] if cells[7] > 0 else cells[4]
        if cells[3] > 0:
            jobs.append(Job(cells[0], cells[1], cells[3], processors, cells[8] if cells[8] > 0 else cells[3]))
    if nodes <= 0:
        raise BadInput(path, None, "no MaxNodes header")
    for job in jobs:
        if not 0 < job.processors <= nodes:
            raise BadInput(path, None, f"job {job.number} asks for {job.processors} of {nodes} processors")
    return sorted(jobs, key=lambda job: job.submit_s), nodes


def simulate(jobs: Sequence[Job], nodes: int, order: int, told: bool) -> Engine:
    """One sequence on an empty machine; `told`: the policy is told what a job will take."""
    sizes = sorted({job.processors for job in jobs})
    tasks = [
        Task(
            name=job.number, klass=sizes.index(job.processors), ready_us=job.submit_s * SECOND_US, run_us=job.run_s * SECOND_US,
            expected_us=job.run_s * SECOND_US if told else 0,
        )
        for job in jobs
    ]  # fmt: skip
    classes = [class_told(number, slots=size) for number, size in enumerate(sizes)]
    engine = Engine(Policy(order), [agent_told(0, slots=nodes)], classes, tasks)
    engine.run()
    return engine


def slowdown(engine: Engine) -> float:
    """Mean bounded slowdown: max(1, (wait + run) / max(run, 10 s))."""
    runs = np.array([task.run_us / SECOND_US for task in engine.tasks])
    return float(np.maximum(1.0, (waits_s(engine.tasks) + runs) / np.maximum(runs, SHORTEST_S)).mean())


def run(request: Request) -> Report:
    """Every trace of the folder, ten starts each."""
    report = Report("lublin")
    starts = request.starts or STARTS
    for path in request.files("*.swf"):
        jobs, nodes = read(path)
        for variant, told in (("exact", True), ("learned", False)):
            found: dict[str, list[tuple[float, float]]] = {"ours": [], "fifo": [], "random": []}
            for start in starts:
                sequence = jobs[start : start + JOBS]
                if len(sequence) < JOBS:
                    report.skip(path.name, f"start {start}: only {len(sequence)} of {JOBS} jobs follow")
                    continue
                for policy, order in (("ours", col.BY_AREA), ("fifo", col.BY_SUBMIT), ("random", col.BY_CHANCE)):
                    engine = simulate(sequence, nodes, order, told)
                    value, longest = slowdown(engine), float(waits_s(engine.tasks).max())
                    found[policy].append((value, longest))
                    report.row(
                        path.stem, policy, variant=f"{variant}-{start}", feasible=True, value=value,
                        metric={"bounded_slowdown": value, "longest_wait_s": longest}, decide_ms=engine.decide_ms,
                    )  # fmt: skip
                    engine.write(request.decisions, path.stem, policy, variant=f"{variant}-{start}")
            _sum_up(report, path.stem, variant, found)
    return report


def _sum_up(report: Report, trace: str, variant: str, found: dict[str, list[tuple[float, float]]]) -> None:
    means: dict[str, tuple[float | None, float | None]] = {}
    for policy, pairs in found.items():
        name = f"{trace} {variant} {policy}"
        means[policy] = (
            report.group(f"{name} bounded slowdown", [value for value, _ in pairs]),
            report.group(f"{name} longest wait s", [longest for _, longest in pairs]),
        )
    if variant != "exact":
        return
    ours, longest = means["ours"]
    easy = means["fifo"][1]
    report.mark("Q4", f"{trace} bounded slowdown", ours, SLOWDOWN_MAX.get(trace, SLOWDOWN_MAX_ELSE))
    ratio = None if longest is None or not easy else longest / easy
    report.mark("Q4", f"{trace} longest wait / FCFS-EASY's", ratio, LONGEST_MAX)
