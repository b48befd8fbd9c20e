"""Which files the demo works on: chosen the same way every time."""

from __future__ import annotations

import hashlib
import os
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from taskquorum.errors import TaskquorumError

SUFFIXES = frozenset(
    {".py", ".txt", ".md", ".rst", ".c", ".h", ".cpp", ".hpp", ".rs", ".go", ".js", ".ts", ".java", ".toml", ".cfg"}
)
FILE_BYTES_MIN, FILE_BYTES_MAX = 512, 256 << 10
"""Smaller and larger files are left out: the first say nothing, the second are mostly tables."""
CORPUS_BYTES_MAX = 64 << 20
"""The choice ends here whatever the number of files."""
LOOKED_AT_MAX = 100_000
"""Files looked at below the folder before the choice is made from those seen."""
FILES_MIN = 2
SKIPPED_FOLDERS = frozenset({"site-packages", "dist-packages", "__pycache__", "node_modules", "target"})


class NoCorpus(TaskquorumError):
    """The folder has too little to work on."""


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One input: read by the agents from `path`, which is checked against `sha256`."""

    name: str
    path: str
    bytes: int
    sha256: str


def default_folder() -> Path:
    """The library of the running Python."""
    return Path(sysconfig.get_paths()["stdlib"])


def choose(folder: Path, count: int) -> list[SourceFile]:
    """At most `count` files, spread evenly over the folder in the order of their names."""
    candidates = sorted(_candidates(folder))
    step = max(1.0, len(candidates) / count)
    chosen, total = [], 0
    for position in range(min(count, len(candidates))):
        name, path = candidates[int(position * step)]
        raw = path.read_bytes()
        total += len(raw)
        if total > CORPUS_BYTES_MAX:
            break
        chosen.append(SourceFile(name, str(path), len(raw), hashlib.sha256(raw).hexdigest()))
    if len(chosen) < FILES_MIN:
        raise NoCorpus(f"{folder} has fewer than {FILES_MIN} text or source files of {FILE_BYTES_MIN} to {FILE_BYTES_MAX} bytes")
    return chosen


def _candidates(folder: Path) -> Iterator[tuple[str, Path]]:
    looked_at = 0
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if name not in SKIPPED_FOLDERS and not name.startswith("."))
        for name in sorted(names):
            looked_at += 1
            if looked_at > LOOKED_AT_MAX:
                return
            path = Path(parent, name)
            if path.suffix.lower() in SUFFIXES and path.is_file() and FILE_BYTES_MIN <= path.stat().st_size <= FILE_BYTES_MAX:
                yield path.relative_to(folder).as_posix(), path.resolve()
