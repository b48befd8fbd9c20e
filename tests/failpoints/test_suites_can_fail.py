"""The suites notice what they are for: a build that answers before its sync loses writes, and `power` says so."""

import shutil
from pathlib import Path

import pytest
from bench.cluster import disk_directory
from trust.lossy import binary
from trust.suite import Skip, Violation
from trust.suites import power

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

# The first writes are synced, so that the node knows who it is; then none is, and the witness that would notice stays behind.
ACK_BEFORE_SYNC = "store::log::skip_sync=40*off->return(skip);store::witness::skip_save=return(skip)"
ALL_CLEAR = [seed for seed in range(36) if power.SHAPES[seed % len(power.SHAPES)] == ("all", "clear")]


def test_power_notices_an_answer_before_the_sync(failpoint_build: Path) -> None:
    """Every node acknowledges without a sync, all lose power → acknowledged writes are missing, and the run is a violation."""
    try:
        binary()
    except Skip as skip:
        pytest.skip(str(skip))
    directory = disk_directory("taskquorum-power-test-")
    environment = {"PYTHONPATH": str(failpoint_build), "FAILPOINTS": ACK_BEFORE_SYNC}
    try:
        # Nothing but the log holds the writes: the state is flushed twice a minute.
        with (
            pytest.raises(Violation, match=r"of \d+ acknowledged writes: .*node-\d: \d+ lost") as caught,
            power.session(directory, environment, settings={}) as run_one,
        ):
            for seed in ALL_CLEAR:
                run_one(seed, directory)
        print(f"answered before the sync: {caught.value}")
    finally:
        shutil.rmtree(directory, ignore_errors=True)
