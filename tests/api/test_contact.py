"""When silence counts as being cut off."""

from taskquorum.contact import Contact


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_silence_counts_from_the_first_thing_unanswered() -> None:
    clock = Clock()
    contact = Contact(clock, 1.0)
    clock.now += 50
    assert not contact.silent, "nothing was asked"
    contact.asked()
    clock.now += 0.5
    contact.asked()
    clock.now += 0.49
    assert not contact.silent
    clock.now += 0.01
    assert contact.silent


def test_a_busy_cluster_is_not_silent() -> None:
    """Every answer takes 5 s, but one comes every 0.9 s."""
    clock = Clock()
    contact = Contact(clock, 1.0)
    for _ in range(6):
        contact.asked()
    for _ in range(5):
        clock.now += 0.9
        assert not contact.silent
        contact.ended(True)
    clock.now += 1.0
    assert contact.silent


def test_only_an_answer_ends_the_silence() -> None:
    clock = Clock()
    contact = Contact(clock, 1.0)
    contact.asked()
    contact.asked()
    clock.now += 10
    contact.ended(False)
    assert contact.silent
    contact.ended(True)
    clock.now += 10
    assert not contact.silent
