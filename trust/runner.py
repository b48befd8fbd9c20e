"""Runs a suite: seeds in order, one line a run, nothing run twice."""

import itertools
import shutil
import time
import traceback
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.cluster import disk_directory

from trust import results
from trust.suite import Counts, RunOne, Skip, Suite, Violation

# Errors of the suite itself (a port taken, a start that did not finish) in a row, before it gives up.
ERRORS_MAX = 3


class Totals:
    """What the runs of one invocation came to."""

    def __init__(self) -> None:
        self.runs = 0
        self.violations = 0
        self.errors = 0
        self.counts: Counts = {}

    def line(self, suite: Suite, missing: int) -> str:
        """One line for people."""
        counts = ", ".join(f"{value:g} {key}" for key, value in self.counts.items())
        text = f"{suite.name}: {self.runs} runs, {self.violations} violations, {self.errors} errors"
        left = f"; {missing} still to run" if missing else ""
        return text + (f" ({counts})" if counts else "") + left


def run(suite: Suite, count: int, first: int = 1, out: Path = results.OUT, budget_s: float | None = None) -> Totals:
    """Runs seeds `first … first + count - 1` that were not run before, for at most `budget_s` seconds (the run under way is
    finished). Stops after `ERRORS_MAX` errors in a row. Raises [`Skip`] where this machine cannot run the suite."""
    began = time.monotonic()
    known = results.done(out, suite.name)
    todo = [seed for seed in range(first, first + count) if seed not in known]
    totals = Totals()
    if len(todo) < count:
        print(f"{suite.name}: {count - len(todo)} of {count} runs are on record, {len(todo)} to go", flush=True)
    queue = iter(todo)
    in_a_row = 0
    while in_a_row < ERRORS_MAX:
        base = disk_directory(f"taskquorum-{suite.name}-")
        try:
            ended = _session(suite, queue, base, out, totals, None if budget_s is None else began + budget_s)
        except Skip:
            shutil.rmtree(base, ignore_errors=True)
            raise
        except Exception:  # noqa: BLE001 — the edge: the session itself did not start or did not end
            traceback.print_exc()
            totals.errors += 1
            ended = "error"
        if ended == "done":
            shutil.rmtree(base, ignore_errors=True)
            break
        print(f"{suite.name}: its files are kept in {base}", flush=True)
        in_a_row = in_a_row + 1 if ended == "error" else 0
    print(totals.line(suite, len(todo) - totals.runs), flush=True)
    return totals


def _session(suite: Suite, queue: Iterator[int], base: Path, out: Path, totals: Totals, until: float | None) -> str:
    """Runs seeds until there are none (`done`) or one did not end well (`violation`, `error`)."""
    first = next(queue, None)
    if first is None:
        return "done"
    with suite.opened(base) as run_one:
        for seed in itertools.chain([first], queue):
            result = _one(suite, run_one, seed, base / f"run-{seed}", out, totals)
            if result != "ok":
                return result
            if until is not None and time.monotonic() >= until:
                break
    return "done"


def _one(suite: Suite, run_one: RunOne, seed: int, workdir: Path, out: Path, totals: Totals) -> str:
    workdir.mkdir(parents=True)
    line: dict[str, Any] = {"suite": suite.name, "seed": seed, "commit": results.commit(), "machine": results.machine()}
    began = time.monotonic()
    counts: Counts = {}
    result = "ok"
    try:
        counts = run_one(seed, workdir)
    except Skip:
        raise
    except Violation as violation:
        result = "violation"
        line["why"] = str(violation)
        print(f"{suite.name}: VIOLATION with seed {seed}: {violation}", flush=True)
        print(f"  again: python -m trust run {suite.name} --first {seed} --count 1 --again", flush=True)
    except Exception as error:  # noqa: BLE001 — the edge: an error of the suite is told apart from a violation
        result = "error"
        line["why"] = f"{type(error).__name__}: {error}"
        traceback.print_exc()
    seconds = round(time.monotonic() - began, 3)
    line |= {"result": result, "counts": counts, "seconds": seconds, "at": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"}
    results.append(out, suite.name, line)
    if result == "error":
        totals.errors += 1
        return result
    totals.runs += 1
    totals.violations += result == "violation"
    results.add_counts(totals.counts, counts)
    if result == "ok":
        shutil.rmtree(workdir, ignore_errors=True)
    return result
