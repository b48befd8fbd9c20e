"""Every number the placement policy is tuned by, in one file, the same for every workload.

Scores are integers in basis points (1/10,000), so that a replay agrees to the last bit.
"""

from typing import Final

SCALE: Final = 10_000
"""One whole, in basis points."""
QUANTUM: Final = 50
"""Match, success and load are rounded down to multiples of this: near-equal agents tie, and ties go to the best fit."""

# Weights of the score terms, in the order in which they are proposed with a decision; together one SCALE.
TERMS: Final = 6
WEIGHT_MATCH: Final = 4000
WEIGHT_SUCCESS: Final = 2000
WEIGHT_LOAD: Final = 1500
WEIGHT_FIT: Final = 1500
WEIGHT_DATA: Final = 500
WEIGHT_SPREAD: Final = 500
NEUTRAL: Final = 5000
"""What a term is worth where it has no meaning (data locality without artefacts, fit without divisible resources)."""

LOAD_FORGIVEN: Final = 500
"""Reported load below this costs no capacity: an idle machine is never quite idle."""
LOAD_ALPHA: Final = 3000
"""Weight of a new load report in the running mean."""

SLICE_TASKS: Final = 64
"""Decisions of one slice: the view is brought up to date between slices."""
SLICE_WORK: Final = 40_000
"""(class, agent) pairs looked at in one slice, about 2 ms: what is left waits for the next."""
PENDING_US: Final = 2_000_000
"""A proposed decision that was neither confirmed nor refused by then is taken back into the queue; the task's epoch makes a
late one harmless."""
IDLE_WAIT_MS: Final = 1000
BUSY_WAIT_MS: Final = 5
MATCH_ROWS: Final = 1024
"""Classes whose static match against every agent is kept; the oldest row makes room."""

# Prediction (see predict.py): quantile 0.9 of the logarithm of the duration.
SAMPLES_MIN: Final = 3
SPREAD_START: Final = 0.3
SPREAD_MIN: Final = 0.05
QUANTILE_START: Final = 1.28
QUANTILE_MIN: Final = -3.0
QUANTILE_STEP: Final = 0.15
QUANTILE: Final = 0.9
SPREAD_KEEP: Final = 0.85
SPREAD_GAIN: Final = 0.1875
MEAN_GAIN: Final = 0.3

# Order (see order_kernels.py).
LANE_WEIGHTS: Final = (8.0, 4.0, 2.0, 1.0)
"""Stride weights of critical, interactive, batch and best-effort work."""
CRITICAL_SLOTS: Final = 0.25
"""Share of all slots that critical work may hold while another lane waits."""
PRIORITY_FACTOR: Final = 2.0
"""A step of priority inside a lane counts like an area smaller by this factor."""
AGEING_DURATIONS: Final = 40.0
"""τ of the ageing, in mean durations: a task that waited τ counts like half its area, after 3 τ like a tenth."""
MEAN_SAMPLES: Final = 4096
"""Finished attempts over which the mean duration runs."""
DURATION_US: Final = 1_000_000
"""What a task is taken to last, in microseconds, before anything is known."""
ESTIMATE_STEPS: Final = 64
"""Steps an octave in which expected durations are told apart: about 1 %."""
OVERDUE: Final = 0.25
"""A task that ran past its predicted end is predicted to go on for this share of the time it has run."""
RESERVE_AGENTS: Final = 256
"""Agents looked at for a reservation."""

# Graphs (see units.py and rank_kernels.py).
PLAN_NODES: Final = 200
"""Graphs up to this size get a better order than their ranks."""
PLAN_WORK: Final = 120_000
"""Nodes scheduled in search of it: about 10 ms."""
PLAN_SPREADS: Final = 16
"""Sizes of noise put on the ranks, from a 64th to a quarter."""
PLAN_PASSES: Final = 8
"""Forward and backward passes from one beginning."""
RANK_MOVED: Final = 0.2
"""Ranks are computed anew when a class is predicted to take longer or shorter by this share."""
RANKED_AT_ONCE: Final = 64
"""Graphs ranked anew with one batch; the others follow with the next."""

# Generalised assignment (see gap.py).
GAP_STEPS: Final = 200
"""Subgradient steps."""
GAP_STEP: Final = 2.0
"""First step length, in units of the distance to the target."""
GAP_STALE: Final = 10
"""Steps without a better bound before the step length is halved."""
GAP_TARGET: Final = 0.02
"""How far above the bound the answer is taken to lie."""
GAP_NEAR: Final = 5
"""Agents of least reduced cost that a task is moved to."""
GAP_PRICE: Final = 4.0
"""First price of overload, in multipliers."""
GAP_PRICE_LEAST: Final = 0.05
"""What is added to it, in mean costs per mean size."""
GAP_CHEAPER: Final = 0.95
GAP_DEARER: Final = 1.2
"""How the price of overload follows a feasible and an infeasible local optimum."""
GAP_KICK: Final = 150
"""A kick moves at most 2 + n / this many tasks."""
GAP_SLICE_WORK: Final = 100_000
GAP_SLICE_MS: Final = 0.6
"""A slice of the search, in pairs of moves, and about how long it takes."""
