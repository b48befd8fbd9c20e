"""Whether what this node hands to the leader is still answered.

A node that is cut off together with its leader knows a leader for up to two more election timeouts. What it is asked in that
time would wait for nothing; its own silence tells it sooner: something waits, and nothing was answered for a whole election
timeout. A busy cluster answers late, but it answers.
"""

from __future__ import annotations

from collections.abc import Callable


class Contact:
    """Counts what waits. `now` gives monotonic seconds; `limit_s` is how long silence may last."""

    def __init__(self, now: Callable[[], float], limit_s: float) -> None:
        self._now = now
        self._limit_s = limit_s
        self._waiting = 0
        self._since: float | None = None

    def asked(self) -> None:
        """Something was handed over that a leader must answer."""
        self._waiting += 1
        if self._since is None:
            self._since = self._now()

    def ended(self, answered: bool) -> None:
        """It was answered, or given up: only an answer ends the silence."""
        self._waiting -= 1
        assert self._waiting >= 0, "more ended than was asked"
        if answered:
            self._since = self._now() if self._waiting else None

    @property
    def silent(self) -> bool:
        """Something was asked, and since then nothing has been answered for `limit_s`."""
        return self._since is not None and self._now() - self._since >= self._limit_s
