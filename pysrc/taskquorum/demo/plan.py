"""The demo's job as a DAG, and the same job in one process.

Both come from the same `Plan`, so that each task of the cluster has a local twin by its name.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from taskquorum.demo import text
from taskquorum.demo.corpus import SourceFile
from taskquorum.task import Dag, Task

GROUP_FILES = 16
"""Files merged by one task."""
SHARES = 8
"""Tasks among which the comparison of all files is divided."""
NEEDS = {
    "extract": {"read": 0.5},
    "terms": {"language": 0.5},
    "merge": {"aggregate": 0.5},
    "idf": {"aggregate": 0.5},
    "similar": {"compare": 0.5},
    "report": {"write": 0.5},
}
"""The least level of a capability that each stage needs."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The files, and how the work on them is divided."""

    files: Sequence[SourceFile]

    @property
    def groups(self) -> list[Sequence[int]]:
        """Positions of the files of each group."""
        positions = range(len(self.files))
        return [positions[at : at + GROUP_FILES] for at in range(0, len(positions), GROUP_FILES)]

    @property
    def shares(self) -> list[list[str]]:
        """Names of the files that each *similar* task compares with all."""
        names = [file.name for file in self.files]
        shares = [names[at::SHARES] for at in range(SHARES)]
        return [share for share in shares if share]

    def dag(self, label: str) -> Dag:
        """The job: per file extract → terms; per group merge; idf; similar; report."""
        dag = Dag(labels={"demo": label})

        def add(name: str, data: Any, after: Sequence[str]) -> None:
            kind = name.split("-")[0]
            dag.add(Task(kind, data, NEEDS[kind], name=name, labels={"demo": label}), after=after)

        merges = [f"merge-{number:03}" for number in range(len(self.groups))]
        similars = [f"similar-{number:02}" for number in range(len(self.shares))]
        for group, members in enumerate(self.groups):
            for position in members:
                file = self.files[position]
                add(f"extract-{position:04}", {"file": file.name, "path": file.path, "sha256": file.sha256}, [])
                add(f"terms-{position:04}", {}, [f"extract-{position:04}"])
            add(merges[group], {}, [f"terms-{position:04}" for position in members])
        add("idf", {}, merges)
        for name, share in zip(similars, self.shares, strict=True):
            add(name, {"files": share}, ["idf", *merges])
        add("report", {}, ["idf", *merges, *similars])
        return dag

    def compute(self, on_result: Callable[[int], None] = lambda done: None) -> dict[str, Any]:
        """All results by task name, computed here and now, one after the other."""
        results: dict[str, Any] = {}

        def keep(name: str, result: Any) -> Any:
            results[name] = result
            on_result(len(results))
            return result

        groups = []
        for number, members in enumerate(self.groups):
            parts = []
            for position in members:
                file = self.files[position]
                raw = Path(file.path).read_bytes()
                extracted = keep(f"extract-{position:04}", text.extract(file.name, raw, file.sha256))
                parts.append(keep(f"terms-{position:04}", text.terms(extracted)))
            groups.append(keep(f"merge-{number:03}", text.merge(parts)))
        idf = keep("idf", text.inverse_frequency(groups))
        shares = [keep(f"similar-{number:02}", text.similar(groups, idf, share)) for number, share in enumerate(self.shares)]
        keep("report", text.report(groups, idf, shares))
        return results


def canonical(value: Any) -> bytes:
    """The bytes by which two results are compared."""
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
