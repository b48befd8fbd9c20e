"""Clusters of the build with failpoints; everything here is skipped where that is not built (`make build-failpoints`)."""

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
# Suites may run beside the tests.
os.environ.setdefault("TASKQUORUM_TRUST_PORTS", "25500")

from bench.cluster import disk_directory
from trust.failpoints import FailpointFleet, build
from trust.fleet import BUSY
from trust.suite import Skip


@pytest.fixture(scope="session")
def failpoint_build() -> Path:
    """Where the build lies."""
    try:
        return build()
    except Skip as skip:
        pytest.skip(str(skip))


@pytest.fixture
def fleet(failpoint_build: Path) -> Iterator[FailpointFleet]:
    """Three nodes with failpoints, not started."""
    directory = disk_directory("taskquorum-failpoints-")
    made = FailpointFleet(directory, settings=BUSY)
    try:
        yield made
    finally:
        made.kill_all()
        shutil.rmtree(directory, ignore_errors=True)
