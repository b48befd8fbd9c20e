"""What a task's function waits by: a wait that ends when the attempt is to stop."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from taskquorum import Cancelled, Context, LeaseLost
from taskquorum.lease import Lease


def context(lease: Lease) -> Context:
    return Context({"task_id": "t", "epoch": 1, "task_type": "x"}, {}, lease, lambda: None)


def leased() -> Lease:
    lease = Lease()
    lease.grant(time.monotonic(), 60_000)
    lease.take(("t", 1), time.monotonic())
    return lease


def test_a_wait_ends_with_its_time_or_raises_what_check_raises() -> None:
    ctx = context(leased())
    ctx.wait(0.0)
    ctx.ask_to_stop()
    with pytest.raises(Cancelled):
        ctx.wait(60.0)


def test_a_wait_ends_when_the_attempt_is_lost_and_stays_lost_for_it() -> None:
    """waiting in a thread → lost → LeaseLost at once; the same attempt handed over anew is another context's"""
    lease = leased()
    ctx = context(lease)
    with ThreadPoolExecutor(1) as thread:
        waiting = thread.submit(ctx.wait, 60.0)
        lease.lose(("t", 1))
        ctx.lose()
        with pytest.raises(LeaseLost):
            waiting.result(10)
    assert lease.take(("t", 1), time.monotonic())
    with pytest.raises(LeaseLost):
        ctx.check()


def test_a_wait_ends_when_the_lease_runs_out() -> None:
    lease = Lease()
    lease.grant(time.monotonic(), 40)
    lease.take(("t", 1), time.monotonic())
    with pytest.raises(LeaseLost):
        context(lease).wait(60.0)
