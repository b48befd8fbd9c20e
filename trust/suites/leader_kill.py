"""The leader is killed with SIGKILL under load: nothing acknowledged is lost, and writes are accepted again in time.

The time counts from the signal to the first acknowledgement of a write that was *sent* after it: what was under way may have
been committed by the old leader. `python -m trust.suites.leader_kill` prints median and longest of what is on record.
"""

import statistics
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from trust import results
from trust.fleet import Fleet
from trust.suite import Counts, RunOne, Suite
from trust.verify import Load, verify

P50_S = 0.8
LONGEST_S = 2.0


def run_one(fleet: Fleet, seed: int) -> Counts:
    """One kill: load, kill, writes again, restart, check."""
    run = f"leader-kill-{seed}"
    with Load(fleet, run, seed, clients=4, rate=200) as load:
        load.wait_for(50)
        leader = fleet.leader()
        killed = leader.kill()
        recovery_s = load.first_sent_after(killed).at - killed
        load.wait_for(20)
        fleet.restart(leader)
        load.wait_for(20)
    counts = verify(fleet, load.ledger, run)
    counts |= {"within_p50": int(recovery_s <= P50_S), "within_longest": int(recovery_s <= LONGEST_S)}
    return counts | {"recovery_s_max": round(recovery_s, 3)}


@contextmanager
def session(directory: Path) -> Iterator[RunOne]:
    """One cluster for all kills, made anew now and then so that its state stays small."""
    with Fleet(directory) as fleet:
        yield lambda seed, _: run_one(fleet, seed)


SUITE = Suite(name="leader_kill", id="R6", title="leader killed under load", full=50, cut=3, session=session)


def main() -> None:
    """Prints the figures of the runs on record."""
    times = [line["counts"]["recovery_s_max"] for line in results.lines(results.OUT, SUITE.name) if line["result"] == "ok"]
    if not times:
        print("no runs on record: python -m trust run leader_kill")
        return
    print(
        f"leader kill -9 → writes accepted again, {len(times)} kills: p50 {statistics.median(times):.2f} s "
        f"(≤ {P50_S}), longest {max(times):.2f} s (≤ {LONGEST_S:g})"
    )


if __name__ == "__main__":
    main()
