"""How long a task will run, learned from what finished.

Per key the logarithm of the duration is followed by a running mean μ, a spread s and a quantile factor q; `bound` = e^(μ +
q·s) covers 90 % of the next durations. Order matters: q moves with the old μ, then s, then μ. Levels are asked from the
narrowest: (class, agent), class, everything; the first with SAMPLES_MIN samples answers. Durations are milliseconds; floats
stay here and never reach the log.
"""

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

from taskquorum.scheduling import constants as k
from taskquorum.scheduling.columns import I64, grown

F64 = NDArray[np.float64]
_PAIRS = 1 << 16
"""(class, agent) pairs followed; beyond three quarters of them new pairs are answered by their class."""


@njit(cache=True, nogil=True)
def learn(row: F64, ms: float) -> None:
    """Moves one tracker (samples, μ, s, q) by one duration."""
    log = math.log(max(ms, 0.001))
    if row[0] == 0:
        row[1] = log
        row[2] = k.SPREAD_START
        row[3] = k.QUANTILE_START
    else:
        error = log - row[1]
        over = error > row[3] * row[2]
        row[3] = max(k.QUANTILE_MIN, row[3] + k.QUANTILE_STEP * (k.QUANTILE if over else k.QUANTILE - 1))
        row[2] = max(k.SPREAD_MIN, k.SPREAD_KEEP * row[2] + k.SPREAD_GAIN * abs(error))
        row[1] += k.MEAN_GAIN * error
    row[0] += 1


@njit(cache=True, nogil=True)
def pair_row(keys: I64, key: int, insert: bool, room: I64) -> int:
    """The row of a pair in the table of pairs, −1 when it is not there (and `insert` is false or the table is full)."""
    at = (key * 0x9E3779B1) & (keys.size - 1)
    while keys[at] != -1:
        if keys[at] == key:
            return at
        at = (at + 1) & (keys.size - 1)
    if insert and room[0] > 0:
        keys[at] = key
        room[0] -= 1
        return at
    return -1


@njit(cache=True, nogil=True)
def learn_all(classes: F64, pairs: F64, keys: I64, room: I64, klass: I64, agent: I64, run_us: I64) -> None:
    """Learns every finished attempt of a batch (`run_us` > 0) at all levels; the last row of `classes` is the global one."""
    for i in range(run_us.size):
        if run_us[i] > 0:
            ms = run_us[i] / 1000.0
            learn(classes[classes.shape[0] - 1], ms)
            learn(classes[klass[i]], ms)
            row = pair_row(keys, (klass[i] << 32) | agent[i], True, room)
            if row >= 0:
                learn(pairs[row], ms)


class Predictor:
    """Durations by class and agent. One owner: the policy thread."""

    def __init__(self) -> None:
        self._classes: F64 = np.zeros((5, 4))
        self._pairs: F64 = np.zeros((_PAIRS, 4))
        self._keys: I64 = np.full(_PAIRS, -1, np.int64)
        self._room: I64 = np.array([_PAIRS * 3 // 4], np.int64)

    def learn(self, klass: I64, agent: I64, run_us: I64) -> None:
        """Learns the attempts that ended in a batch; rows with `run_us` 0 are skipped."""
        if klass.size == 0 or not run_us.any():
            return
        highest = int(klass.max())
        if highest + 1 >= self._classes.shape[0]:
            whole = self._classes[-1].copy()
            larger = grown(self._classes, (highest + 2, 4), 0)
            larger[self._classes.shape[0] - 1] = 0
            larger[-1] = whole
            self._classes = larger
        learn_all(self._classes, self._pairs, self._keys, self._room, klass, agent, run_us)

    def _tracker(self, klass: int, agent: int) -> F64 | None:
        row = pair_row(self._keys, (klass << 32) | agent, False, self._room)
        candidates = [self._pairs[row]] if row >= 0 else []
        if klass + 1 < self._classes.shape[0]:
            candidates.append(self._classes[klass])
        candidates.append(self._classes[-1])
        return next((tracker for tracker in candidates if tracker[0] >= k.SAMPLES_MIN), None)

    def median_ms(self, klass: int, agent: int) -> float | None:
        """The p50 of a class on an agent in milliseconds; None before anything is known."""
        tracker = self._tracker(klass, agent)
        return None if tracker is None else math.exp(tracker[1])

    def medians_us(self, count: int) -> F64:
        """The p50 of classes 0..`count` in microseconds, f64[count]; what is not known yet is everything's p50, and before
        anything is known DURATION_US."""
        told = np.zeros((count, 4))
        known = min(count, self._classes.shape[0] - 1)
        told[:known] = self._classes[:known]
        whole = self._classes[-1]
        other = math.exp(whole[1]) * 1000.0 if whole[0] >= k.SAMPLES_MIN else float(k.DURATION_US)
        return np.where(told[:, 0] >= k.SAMPLES_MIN, np.maximum(1.0, np.exp(told[:, 1]) * 1000.0), other)

    def bound_ms(self, klass: int, agent: int) -> float | None:
        """What nine of ten will not exceed, in milliseconds; None before anything is known."""
        tracker = self._tracker(klass, agent)
        return None if tracker is None else math.exp(tracker[1] + tracker[3] * tracker[2])
