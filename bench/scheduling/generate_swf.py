"""Parallel batch jobs after the model of Lublin and Feitelson (JPDC 63(11), 2003), written as a Standard Workload Format trace.

Sizes are log-uniform in two stages and mostly powers of two, the logarithm of the run time is hyper-gamma with a share that
depends on the size, gaps are log-gamma. The daily cycle of arrivals is left out.
"""

import numpy as np

SERIAL, POWER_OF_TWO = 0.244, 0.576
LOG_LOW, STAGE = 0.8, 0.86
GAMMA_SHORT, GAMMA_LONG = (4.2, 0.94), (312.0, 0.03)
SHARE_SLOPE, SHARE_BASE = -0.0054, 0.78
GAMMA_GAP = (10.23, 0.4871)
RUN_S_MAX = 150_000


def trace(seed: int, jobs: int, nodes: int = 256) -> str:
    """A trace of `jobs` jobs on `nodes` processors, the same for the same seed."""
    rng = np.random.default_rng(seed)
    high = np.log2(nodes)
    middle = max(LOG_LOW, high - 2.5)
    lines = [f"; MaxNodes: {nodes}"]
    submit = 0.0
    for number in range(1, jobs + 1):
        submit += 2.0 ** rng.gamma(*GAMMA_GAP)
        if rng.random() < SERIAL:
            size = 1
        else:
            log = rng.uniform(LOG_LOW, middle) if rng.random() < STAGE else rng.uniform(middle, high)
            size = int(2 ** (round(log) if rng.random() < POWER_OF_TWO else log))
        size = min(max(size, 1), nodes)
        short = rng.random() < np.clip(SHARE_SLOPE * size + SHARE_BASE, 0.0, 1.0)
        run = int(min(np.exp(rng.gamma(*(GAMMA_SHORT if short else GAMMA_LONG))), RUN_S_MAX)) + 1
        lines.append(f"{number} {int(submit)} -1 {run} {size} -1 -1 {size} {run} -1 1 1 1 1 1 1 -1 -1")
    return "\n".join(lines) + "\n"
