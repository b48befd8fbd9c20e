"""Set `fair`: one tenant floods, three keep a little waiting; mark Q7.

32 slots, four equal tenants. A submits ten times what all slots can do, B, C and D keep 16 tasks ready each; lognormal
durations of mean 1 s, σ 1.5. A tenant's share is its slot-seconds over its max-min entitlement.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from bench.scheduling.contract import Report, Request
from bench.scheduling.engine import SECOND_US, Engine, Task, agent_told, class_told
from taskquorum.scheduling import columns as col
from taskquorum.scheduling.policy import Policy

SLOTS = 32
TENANTS = 4
READY = 16
FLOOD = 10
SIGMA = 1.5
WARM_S = 10
WINDOW_S = 60
WINDOWS = 5
SPAN_S = WARM_S + WINDOW_S * WINDOWS
SEEDS = tuple(range(10))
JAIN_MIN = 0.95
LONGEST_TIMES_MAX = 2.0


def simulate(seed: int, flooded: bool, order: int) -> Engine:
    """One run of SPAN_S seconds, with or without A's flood."""
    rng = np.random.default_rng(seed)
    names = iter(range(1 << 30))

    def task(tenant: int, ready_us: int) -> Task:
        takes = max(1, int(rng.lognormal(-SIGMA * SIGMA / 2, SIGMA) * SECOND_US))
        return Task(next(names), 0, ready_us, takes, tenant=tenant)

    tasks = [task(tenant, 0) for tenant in range(1, TENANTS) for _ in range(READY)]
    if flooded:
        # Ten times the capacity of the whole span, spread over it.
        count = FLOOD * SLOTS * SPAN_S
        tasks += [task(0, int(at)) for at in np.sort(rng.uniform(0, SPAN_S * SECOND_US, count))]

    def started(one: Task, now: int) -> list[Task]:
        return [task(one.tenant, now)] if one.tenant > 0 and now < SPAN_S * SECOND_US else []

    agents = [agent_told(number) for number in range(SLOTS)]
    engine = Engine(Policy(order), agents, [class_told(0)], tasks, started=started)
    engine.run(until_us=SPAN_S * SECOND_US)
    return engine


def jain(engine: Engine, tenants: Sequence[int]) -> list[float]:
    """Jain's index of the tenants' slot-seconds in each window (all entitlements are equal)."""
    found = []
    for window in range(WINDOWS):
        low = (WARM_S + WINDOW_S * window) * SECOND_US
        high = low + WINDOW_S * SECOND_US
        used = np.zeros(TENANTS)
        for one in engine.tasks:
            if one.start_us >= 0:
                used[one.tenant] += max(0, min(one.end_us, high) - max(one.start_us, low))
        x = used[list(tenants)]
        found.append(float(x.sum() ** 2 / (len(x) * (x * x).sum())))
    return found


def longest_wait_s(engine: Engine) -> float:
    """The longest a task of B, C or D waited, the ones that still wait included."""
    end = SPAN_S * SECOND_US
    waits: NDArray[np.int64] = np.array(
        [(one.start_us if one.start_us >= 0 else end) - one.ready_us for one in engine.tasks if one.tenant > 0], np.int64
    )
    return float(waits.max() / SECOND_US)


def run(request: Request) -> Report:
    """Ten seeds, or those asked for."""
    seeds = request.seeds or SEEDS
    report = Report("fair", seeds)
    least: dict[str, list[float]] = {}
    times: dict[str, list[float]] = {}
    for seed in seeds:
        for policy, order in (("ours", col.BY_AREA), ("fifo", col.BY_SUBMIT), ("random", col.BY_CHANCE)):
            flooded = simulate(seed, True, order)
            indices = jain(flooded, range(TENANTS))
            longest, alone = longest_wait_s(flooded), longest_wait_s(simulate(seed, False, order))
            least.setdefault(policy, []).append(min(indices))
            times.setdefault(policy, []).append(longest / alone)
            report.row(
                "flood", policy, seed=seed, feasible=True, value=min(indices),
                metric={"jain": indices, "longest_wait_s": longest, "longest_wait_alone_s": alone},
                decide_ms=flooded.decide_ms,
            )  # fmt: skip
            flooded.write(request.decisions, "flood", policy, seed=seed)
    for policy in least:
        report.group(f"{policy} least Jain index of a window", least[policy])
        report.group(f"{policy} longest wait / without the flood", times[policy])
    report.mark("Q7", "least Jain index of any window", min(least["ours"]), JAIN_MIN, at_least=True)
    report.mark("Q7", "longest wait / without the flood, worst seed", max(times["ours"]), LONGEST_TIMES_MAX)
    return report
