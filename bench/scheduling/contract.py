"""What a set is asked and what it answers: the request, the report and its JSON, the decisions file.

What always holds: a report says which constants and which commit produced it; a value that is not known is null, never 0;
a missed mark is a row like any other, not an error.
"""

import dataclasses
import hashlib
import math
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
import orjson

import taskquorum.scheduling.constants

ROOT = Path(__file__).resolve().parents[2]


class BadInput(Exception):
    """A file of the set cannot be read; the command ends with 2 and names file and line."""

    def __init__(self, file: Path | str, line: int | None, why: str) -> None:
        super().__init__(f"{file}{'' if line is None else f':{line}'}: {why}")


class Decisions:
    """The decisions file, one JSON line a decision; without a file nothing is written and nothing is kept."""

    def __init__(self, file: IO[bytes] | None = None) -> None:
        self._file = file

    def write(
        self, instance: str, policy: str, t: float, task: int | str, agent: int | str | None, *, variant: str = "",
        seed: int | None = None, gpus: Sequence[int] | None = None, start: float | None = None, end: float | None = None,
        bound_q90: float | None = None,
    ) -> None:  # fmt: skip
        """One decision; times in seconds of the bench's clock, `agent` None for a task refused for ever."""
        if self._file is None:
            return
        line = {
            "instance": instance, "variant": variant, "seed": seed, "policy": policy, "t": t, "task": task, "agent": agent,
            "gpus": None if gpus is None else list(gpus), "start": start, "end": end, "bound_q90": bound_q90,
        }  # fmt: skip
        self._file.write(orjson.dumps(line, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE))

    @property
    def wanted(self) -> bool:
        """Whether somebody reads them: a set may skip the work of collecting."""
        return self._file is not None


@dataclasses.dataclass(frozen=True)
class Request:
    """One run of one set. `seeds`, `starts` and `budget_ms` are None where the command line names none: the set's own hold."""

    data: Path | None = None
    seeds: tuple[int, ...] | None = None
    starts: tuple[int, ...] | None = None
    budget_ms: float | None = None
    decisions: Decisions = dataclasses.field(default_factory=Decisions)

    def files(self, pattern: str) -> list[Path]:
        """The files of the set's folder that match, in order of their names. Raises BadInput without any."""
        if self.data is None:
            raise BadInput("--data", None, "this set reads files: name its folder")
        found = sorted(self.data.glob(pattern))
        if not found:
            raise BadInput(self.data, None, f"no file matches {pattern}")
        return found


def milliseconds(taken: Sequence[float]) -> dict[str, float | None]:
    """p50, p99 and max of decision times in milliseconds; null without any."""
    if len(taken) == 0:
        return {"p50": None, "p99": None, "max": None}
    p50, p99 = np.percentile(taken, [50, 99])
    return {"p50": round(float(p50), 4), "p99": round(float(p99), 4), "max": round(float(max(taken)), 4)}


class Report:
    """Rows, groups and marks of one run; `json` is the file of the contract (SCHEDULING §8)."""

    def __init__(self, name: str, seeds: Sequence[int] = ()) -> None:
        self.name = name
        self.seeds = list(seeds)
        self.rows: list[dict[str, Any]] = []
        self.summary: dict[str, dict[str, float | int | None]] = {}
        self.marks: list[dict[str, Any]] = []
        self.skipped: list[dict[str, str]] = []

    def row(
        self, instance: str, policy: str, *, variant: str = "", seed: int | None = None, feasible: bool | None = None,
        value: float | None = None, bound: float | None = None, metric: dict[str, Any] | None = None,
        decide_ms: Sequence[float] = (),
    ) -> None:  # fmt: skip
        """One result of one policy (`ours`, `fifo`, `random`, `greedy`, `jsq` or `reference`) on one instance."""
        self.rows.append({
            "instance": instance, "variant": variant, "seed": seed, "policy": policy, "feasible": feasible, "value": value,
            "bound": bound, "metric": metric or {}, "decide_ms": milliseconds(decide_ms),
        })  # fmt: skip

    def group(self, name: str, values: Sequence[float]) -> float | None:
        """Adds mean, half width of its 95 % interval and count of `values` to the summary; the mean."""
        n = len(values)
        mean = float(np.mean(values)) if n else None
        ci95 = 1.96 * float(np.std(values, ddof=1)) / math.sqrt(n) if n > 1 else None
        self.summary[name] = {"mean": mean, "ci95": ci95, "n": n}
        return mean

    def mark(self, mark: str, group: str, value: float | None, limit: float, *, at_least: bool = False) -> None:
        """A mark of SCHEDULING §8: met when `value` ≤ `limit`, or ≥ with `at_least`; not met when there is no value."""
        met = value is not None and (value >= limit if at_least else value <= limit)
        self.marks.append({"id": mark, "group": group, "value": value, "limit": limit, "pass": bool(met)})

    def skip(self, file: Path | str, why: str) -> None:
        """Something of the set that was left out, and why."""
        self.skipped.append({"file": str(file), "why": why})

    def json(self) -> bytes:
        """The report as the contract wants it."""
        body = {
            "set": self.name,
            "commit": _commit(),
            "constants_sha256": hashlib.sha256(Path(taskquorum.scheduling.constants.__file__).read_bytes()).hexdigest(),
            "machine": {"cpu": _cpu(), "cores": os.cpu_count()},
            "simulated": True,
            "seeds": self.seeds,
            "rows": self.rows,
            "summary": self.summary,
            "marks": self.marks,
            "skipped": self.skipped,
        }
        return orjson.dumps(body, option=orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY)

    def text(self) -> str:
        """Groups and marks as lines for a terminal."""
        lines = []
        for name, found in self.summary.items():
            if found["mean"] is not None:
                interval = "" if found["ci95"] is None else f" ± {found['ci95']:.4g}"
                lines.append(f"{name:<48} {found['mean']:>10.4f}{interval}  (n={found['n']})")
        for mark in self.marks:
            value = "none" if mark["value"] is None else f"{mark['value']:.4g}"
            lines.append(
                f"{'met   ' if mark['pass'] else 'MISSED'} {mark['id']} {mark['group']}: {value}, limit {mark['limit']:g}"
            )
        lines.extend(f"skipped {one['file']}: {one['why']}" for one in self.skipped)
        return "\n".join(lines)


def _commit() -> str | None:
    found = subprocess.run(
        ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=12"], capture_output=True, text=True, check=False
    )
    return found.stdout.strip() or None


def _cpu() -> str | None:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as told:
            return next((line.split(":", 1)[1].strip() for line in told if line.startswith("model name")), None)
    except OSError:
        return None
