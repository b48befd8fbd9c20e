"""The lease book-keeping: scenarios in the agent's own time, no clock."""

from __future__ import annotations

from taskquorum.lease import REMEMBERED_MAX, Lease, Standing

A, B = ("a", 1), ("b", 1)


def test_the_lease_counts_from_when_the_beat_was_sent() -> None:
    """beat sent at 10, answered at 12.9 → fenced at 13, not at 15.9"""
    lease = Lease()
    lease.grant(0.0, 4000)
    assert lease.take(A, 1.0)
    lease.beaten(2.0, 4000, [A], [A], 2.1)
    lease.beaten(4.0, 4000, [A], [A], 4.1)
    lease.beaten(6.5, 4000, [A], [A], 9.3)
    assert lease.standing(A, 9.4) is Standing.HELD
    assert lease.standing(A, 9.5) is Standing.SUSPENDED
    assert lease.remaining_s(9.5) == 0.0


def test_only_a_reply_that_lists_an_attempt_resumes_it() -> None:
    lease = Lease()
    lease.grant(0.0, 4000)
    lease.take(A, 0.0)
    lease.take(B, 0.0)
    assert lease.standing(A, 3.0) is Standing.SUSPENDED
    assert lease.beaten(5.0, 4000, [A, B], [A], 5.1) == [B]
    assert lease.standing(A, 5.2) is Standing.HELD
    assert lease.standing(B, 5.2) is Standing.LOST


def test_a_reply_that_came_too_late_resumes_nothing() -> None:
    lease = Lease()
    lease.grant(0.0, 4000)
    lease.take(A, 0.0)
    lease.beaten(1.0, 4000, [A], [A], 4.5)
    assert lease.standing(A, 4.5) is Standing.SUSPENDED


def test_an_attempt_taken_after_the_beat_was_sent_is_not_lost_by_its_reply() -> None:
    lease = Lease()
    lease.grant(0.0, 4000)
    assert lease.take(A, 0.2)
    assert lease.beaten(0.1, 4000, [], [], 0.3) == []
    assert lease.standing(A, 0.4) is Standing.HELD


def test_a_lease_that_was_not_extended_still_tells_what_is_lost() -> None:
    lease = Lease()
    lease.grant(0.0, 4000)
    lease.take(A, 0.0)
    lease.take(B, 0.0)
    assert lease.beaten(1.0, 0, [A, B], [B], 1.1) == [A]
    assert lease.standing(B, 2.9) is Standing.HELD
    assert lease.standing(B, 3.0) is Standing.SUSPENDED


def test_doubles_are_dropped_also_after_the_end() -> None:
    lease = Lease()
    lease.grant(0.0, 4000)
    assert lease.take(A, 0.0)
    assert not lease.take(A, 0.1)
    lease.finish(A)
    assert not lease.take(A, 0.2)
    assert lease.take(("a", 2), 0.3)


def test_what_was_lost_may_be_handed_over_again() -> None:
    """a server that is behind does not list the attempt; the next one hands it over again"""
    lease = Lease()
    lease.grant(0.0, 4000)
    lease.take(A, 0.0)
    assert lease.beaten(0.5, 4000, [A], [], 0.6) == [A]
    assert lease.take(A, 0.7)
    lease.lose(A)
    assert lease.standing(A, 0.8) is Standing.LOST
    assert lease.take(A, 0.9)


def test_what_is_remembered_is_bounded() -> None:
    lease = Lease()
    lease.grant(0.0, 4000)
    for number in range(REMEMBERED_MAX + 1):
        lease.take((str(number), 1), 0.0)
        lease.finish((str(number), 1))
    assert lease.take(("0", 1), 0.0)
    assert not lease.take(("1", 1), 0.0)


def test_registering_again_keeps_nothing() -> None:
    lease = Lease()
    lease.grant(0.0, 4000)
    lease.take(A, 0.0)
    lease.grant(1.0, 4000)
    assert lease.standing(A, 1.0) is Standing.LOST
    assert not lease.take(A, 1.1)
