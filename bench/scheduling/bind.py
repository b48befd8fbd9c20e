"""Set `bind`: late binding at the leader against one central queue and against queues bound at arrival; mark Q6.

Poisson arrivals, lognormal service of mean 1 s, 64 one-slot agents at load 0.9; the first tenth is dropped.
"""

import numpy as np
from numpy.typing import NDArray

from bench.scheduling.central import bound_waits_s, central_waits_s
from bench.scheduling.contract import Report, Request
from bench.scheduling.engine import SECOND_US, Engine, Task, agent_told, class_told, waits_s
from taskquorum.scheduling.policy import Policy

AGENTS = 64
LOAD = 0.9
SIGMA = 1.5
TASKS = 60_000
DROPPED = 0.1
SEEDS = tuple(range(40))
TIMES_MAX = 1.05


def load(seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Arrivals and services in µs, i64[60,000]."""
    rng = np.random.default_rng(seed)
    arrival = np.cumsum(rng.exponential(1.0 / (LOAD * AGENTS), TASKS))
    service = rng.lognormal(-SIGMA * SIGMA / 2, SIGMA, TASKS)
    return (arrival * SECOND_US).astype(np.int64), np.maximum(1, service * SECOND_US).astype(np.int64)


def run(request: Request) -> Report:
    """Forty seeds, or those asked for."""
    seeds = request.seeds or SEEDS
    report = Report("bind", seeds)
    means: dict[str, list[float]] = {"ours": [], "fifo": [], "jsq": [], "random": []}
    for seed in seeds:
        arrival, service = load(seed)
        tasks = [Task(i, 0, when, takes) for i, (when, takes) in enumerate(zip(arrival.tolist(), service.tolist(), strict=True))]
        engine = Engine(Policy(), [agent_told(number) for number in range(AGENTS)], [class_told(0)], tasks)
        engine.run()
        rng = np.random.default_rng([seed, 1])
        waits = {
            "ours": waits_s(engine.tasks),
            "fifo": central_waits_s(arrival, service, AGENTS),
            "jsq": bound_waits_s(arrival, service, AGENTS, rng, AGENTS),
            "random": bound_waits_s(arrival, service, AGENTS, rng, 1),
        }
        for policy, found in waits.items():
            kept = found[int(DROPPED * TASKS) :]
            means[policy].append(float(kept.mean()))
            metric = {"mean_wait": means[policy][-1], "p99_wait": float(np.percentile(kept, 99)), "offered_load": LOAD}
            decide_ms = engine.decide_ms if policy == "ours" else ()
            report.row("lognormal", policy, seed=seed, feasible=True, value=means[policy][-1], metric=metric, decide_ms=decide_ms)
        engine.write(request.decisions, "lognormal", "ours", seed=seed)
    for policy, found in means.items():
        report.group(f"{policy} mean wait / service", found)
    report.mark("Q6", "mean wait / central FIFO's", sum(means["ours"]) / sum(means["fifo"]), TIMES_MAX)
    return report
