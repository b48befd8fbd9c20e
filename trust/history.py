"""Records operations in the format of docs/history-format.md, and has them checked by `linear-check`."""

import os
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import orjson

from trust.suite import Skip, Violation

CHECK_S = 300.0


def now_us() -> int:
    """Microseconds of this machine's monotonic clock."""
    return time.monotonic_ns() // 1000


class History:
    """A file of operations, one JSON line each; a context manager."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.operations = 0
        self.unknown = 0
        self._next_process = 0
        self._file = path.open("wb")

    def __enter__(self) -> "History":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._file.close()

    def process(self) -> int:
        """A new process: one operation at a time."""
        self._next_process += 1
        return self._next_process

    def add(
        self,
        process: int,
        called_us: int,
        target: tuple[str, str],
        operation: str,
        argument: Mapping[str, Any] | None,
        outcome: str,
        answer: Mapping[str, Any] | None,
        node: str,
        returned_us: int | None = None,
    ) -> None:
        """Adds one operation on `target` (object, name) that returns now, or at `returned_us`, unless its outcome is
        unknown."""
        ended = None if outcome == "unknown" else returned_us or now_us() + 1
        line = {
            "process": process,
            "call_us": called_us,
            "return_us": ended,
            "object": target[0],
            "name": target[1],
            "operation": operation,
            "argument": argument,
            "outcome": outcome,
            "answer": answer if outcome == "answered" else None,
            "node": node,
        }
        self._file.write(orjson.dumps(line) + b"\n")
        self.operations += 1
        self.unknown += outcome == "unknown"


def checker() -> Path:
    """The binary. Raises [`Skip`] where it is not built."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "taskquorum"
    path = Path(os.environ.get("TASKQUORUM_LINEAR_CHECK") or cache / "target-linear" / "release" / "linear-check")
    if not path.exists():
        raise Skip(f"the checker is not built ({path}): make linear-check")
    return path


def check(path: Path) -> str:
    """What the checker says of a history that is linearizable. Raises [`Violation`] for one that is not, RuntimeError for one
    that it could not decide or read."""
    done = subprocess.run([checker(), path], capture_output=True, text=True, timeout=CHECK_S)
    if done.returncode == 1:
        raise Violation(done.stdout.strip())
    if done.returncode:
        raise RuntimeError(f"linear-check: {done.stdout.strip()} {done.stderr.strip()}")
    return done.stdout.strip()
