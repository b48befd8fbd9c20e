"""What a suite is, and what a run of it may say."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Counts = dict[str, Any]
RunOne = Callable[[int, Path], Counts]


class Violation(Exception):
    """A promise was broken. Everything needed to look into it stays in the run's directory."""


class Skip(Exception):
    """This machine cannot run the suite; the text says what is missing."""


@dataclass(frozen=True)
class Suite:
    """One suite of TRUST §4.

    `run_one(seed, workdir)` does run number `seed` and returns its counts: numbers are added up over the runs, a text
    under `shape` splits the table's row. It raises [`Violation`] on a broken promise; any other exception is an error of
    the suite and is not counted as a run. `workdir` is empty at first, removed after a good run, kept after a bad one.

    A suite whose runs share something dear (a running cluster) gives `session` instead: a context manager over the
    session's directory that yields its `run_one`. It is opened again after every violation or error.
    """

    name: str
    id: str
    title: str
    full: int
    cut: int
    run_one: RunOne | None = None
    session: Callable[[Path], AbstractContextManager[RunOne]] | None = None

    @contextmanager
    def opened(self, directory: Path) -> Iterator[RunOne]:
        """`run_one`, for as long as the context lasts."""
        if self.session is not None:
            with self.session(directory) as run_one:
                yield run_one
        elif self.run_one is not None:
            yield self.run_one
        else:
            raise TypeError(f"suite {self.name} has neither run_one nor session")
