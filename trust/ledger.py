"""What clients were told, and whether the nodes agree with it: the part without processes.

Every write carries a client's idempotency key, also as the label `op`, and is tried again with the same key until it is
acknowledged. So a key that was acknowledged must be on every node exactly once, under the id that was acknowledged; a key
without an answer may be there once or not at all; and no key that nobody sent may be there.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from trust.suite import Counts, Violation

OP_LABEL = "op"
# Keys named in a violation's text.
NAMED_MAX = 5


@dataclass(frozen=True)
class Ack:
    """One acknowledged write: when its last attempt was sent and answered (monotonic seconds), and by whom."""

    key: str
    task_id: str
    sent_at: float
    at: float
    node: str


@dataclass
class Ledger:
    """All keys that were sent, and the acknowledgements."""

    sent: set[str] = field(default_factory=set)
    acks: dict[str, Ack] = field(default_factory=dict)
    # Keys acknowledged under two ids: key, first id, second id.
    contradictions: list[tuple[str, str, str]] = field(default_factory=list)

    def acknowledge(self, ack: Ack) -> None:
        """Notes an answer; the first of a key stays."""
        first = self.acks.setdefault(ack.key, ack)
        if first.task_id != ack.task_id:
            self.contradictions.append((ack.key, first.task_id, ack.task_id))


@dataclass(frozen=True)
class Findings:
    """What one node holds that it should not, and lacks."""

    lost: tuple[str, ...]
    doubled: tuple[str, ...]
    # Under another id than was acknowledged.
    changed: tuple[str, ...]
    # Held, but never sent.
    foreign: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.lost or self.doubled or self.changed or self.foreign)

    def text(self) -> str:
        """One phrase a kind, with the first few keys."""
        kinds = (("lost", self.lost), ("doubled", self.doubled), ("changed id", self.changed), ("never sent", self.foreign))
        return "; ".join(f"{len(keys)} {kind} ({', '.join(keys[:NAMED_MAX])})" for kind, keys in kinds if keys)


def compare(ledger: Ledger, held: Mapping[str, Sequence[str]]) -> Findings:
    """Compares what was acknowledged with what one node holds: key → ids of its tasks."""
    acks = ledger.acks
    return Findings(
        lost=tuple(sorted(key for key in acks if not held.get(key))),
        doubled=tuple(sorted(key for key, ids in held.items() if len(ids) > 1)),
        changed=tuple(sorted(key for key, ids in held.items() if key in acks and acks[key].task_id not in ids)),
        foreign=tuple(sorted(key for key in held if key not in ledger.sent)),
    )


def complaint(ledger: Ledger, held_by: Mapping[str, Mapping[str, Sequence[str]]]) -> str | None:
    """What is wrong with what the nodes hold, as one line; None if it is what was acknowledged."""
    found = {node: compare(ledger, held) for node, held in held_by.items()}
    problems = [f"{node}: {findings.text()}" for node, findings in found.items() if findings]
    problems += [f"{key} was acknowledged as {first} and as {second}" for key, first, second in ledger.contradictions]
    return f"of {len(ledger.acks)} acknowledged writes: " + "; ".join(problems) if problems else None


def judge(ledger: Ledger, held_by: Mapping[str, Mapping[str, Sequence[str]]]) -> Counts:
    """Counts for a run whose nodes hold the same and what they must. Raises [`Violation`] otherwise."""
    wrong = complaint(ledger, held_by)
    if wrong is not None:
        raise Violation(wrong)
    if len({tuple(sorted((key, *ids) for key, ids in held.items())) for held in held_by.values()}) > 1:
        raise Violation("the nodes hold different writes at the same index")
    return {"acknowledged": len(ledger.acks), "unknown": len(ledger.sent) - len(ledger.acks), "lost": 0, "doubled": 0}
