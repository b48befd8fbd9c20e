"""Room on the node's disk: below a share, submits are refused while work under way goes on (DESIGN §4)."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

FREE_SHARE_MIN: Final = 0.05
LOOK_S: Final = 1.0
"""Asking the file system costs a system call; the answer is good for so long."""


class Disk:
    """Whether the file system under `path` is nearly full, at most `LOOK_S` old."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._clock = clock
        self._looked_at = float("-inf")
        self._full = False

    def full(self) -> bool:
        """Less than `FREE_SHARE_MIN` is free. Raises OSError when the data directory is gone."""
        now = self._clock()
        if now - self._looked_at >= LOOK_S:
            self._looked_at = now
            usage = shutil.disk_usage(self._path)
            self._full = usage.free < usage.total * FREE_SHARE_MIN
        return self._full
