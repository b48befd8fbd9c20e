"""What an agent may still work on: pure bookkeeping, with the clock passed in.

An agent holds one lease for all its attempts. The leader extends it by its reply to a beat, and
the agent counts from the moment it *sent* that beat, so its own clock always runs out first
(DESIGN §3 "Leases"). When it ran out every attempt is suspended, and only a later reply that lists
an attempt resumes it.

What always holds: an attempt whose `standing` is not HELD must neither touch the world nor send a
result. A finished attempt is never taken again; one that was lost may be handed over anew, for
instance when a server that was behind said in error that it no longer stands.
"""

from __future__ import annotations

import enum
import threading
from collections import OrderedDict
from collections.abc import Iterable

Key = tuple[str, int]
"""(task id, epoch): one attempt."""

FENCE_NUMERATOR, FENCE_DENOMINATOR = 3, 4
"""The agent stops after ¾ of the lease: 3 s of 4 s; the rest is for drift and the way of the reply."""
REMEMBERED_MAX = 16_384
"""Attempts that finished here and are remembered, so that a late hand-over of one is not run again."""


class Standing(enum.Enum):
    """Whether an attempt may go on."""

    HELD = "held"
    SUSPENDED = "suspended"
    LOST = "lost"
    """Not held at all."""


class Lease:
    """Thread-safe: beats come from one thread, checks from the threads that run tasks."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._until = 0.0
        self._held: dict[Key, bool] = {}
        self._finished: OrderedDict[Key, None] = OrderedDict()

    def grant(self, sent_at: float, lease_ms: int) -> None:
        """A registration was answered: the lease counts from when it was sent; nothing is held."""
        with self._lock:
            self._until = sent_at + fence_s(lease_ms)
            for key in self._held:
                self._remember(key)
            self._held.clear()

    def take(self, key: Key, now: float) -> bool:
        """Takes on an attempt that was handed over; False for one that is held or finished (a double)."""
        with self._lock:
            self._suspend_if_over(now)
            if key in self._held or key in self._finished:
                return False
            self._held[key] = True
            return True

    def finish(self, key: Key) -> None:
        """The attempt's result was answered for: it is no longer held and never taken again."""
        with self._lock:
            self._held.pop(key, None)
            self._remember(key)

    def lose(self, key: Key) -> None:
        """The attempt is no longer ours."""
        with self._lock:
            self._held.pop(key, None)

    def held(self) -> list[Key]:
        """What the next beat or poll must list: suspended attempts too, so that a reply can resume them."""
        with self._lock:
            return list(self._held)

    def beaten(self, sent_at: float, lease_ms: int, asked: Iterable[Key], listed: Iterable[Key] | None, now: float) -> list[Key]:
        """A beat was answered. Returns the attempts that are lost by it.

        `asked` is what the beat listed and `listed` what the reply did (None: it named nothing, so
        nothing is resumed). `lease_ms` of 0 means that the lease was not extended.
        """
        with self._lock:
            self._suspend_if_over(now)
            standing = set() if listed is None else set(listed)
            lost = [key for key in asked if key in self._held and key not in standing] if listed is not None else []
            for key in lost:
                del self._held[key]
            if lease_ms > 0:
                self._until = max(self._until, sent_at + fence_s(lease_ms))
                if now < self._until:
                    for key in standing & self._held.keys():
                        self._held[key] = True
            return lost

    def standing(self, key: Key, now: float) -> Standing:
        """Whether the attempt may go on at `now`."""
        with self._lock:
            self._suspend_if_over(now)
            going = self._held.get(key)
            if going is None:
                return Standing.LOST
            return Standing.HELD if going else Standing.SUSPENDED

    def remaining_s(self, now: float) -> float:
        """Seconds until the agent fences itself; 0 when it has."""
        with self._lock:
            return max(0.0, self._until - now)

    def _suspend_if_over(self, now: float) -> None:
        if now >= self._until:
            for key in self._held:
                self._held[key] = False

    def _remember(self, key: Key) -> None:
        self._finished[key] = None
        while len(self._finished) > REMEMBERED_MAX:
            self._finished.popitem(last=False)


def fence_s(lease_ms: int) -> float:
    """Seconds from sending a beat until the agent stops, for a lease of `lease_ms`."""
    return lease_ms * FENCE_NUMERATOR / FENCE_DENOMINATOR / 1000
