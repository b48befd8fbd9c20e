"""The main job on real input: many files read, understood and compared by a fleet that loses parts on the way."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """What `taskquorum demo` was asked for."""

    folder: Path | None = None
    """None: the library of the Python that runs this."""
    files: int = 600
    report: Path = Path("report.html")
    data_dir: Path | None = None
    keep: bool = False
    json: bool = False


def run_demo(options: DemoOptions) -> int:
    """Runs it; 0 only when nothing was lost and the result equals that of one process."""
    from taskquorum.demo.drive import drive

    return drive(options)
