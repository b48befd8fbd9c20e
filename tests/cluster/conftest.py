"""Clusters of real processes for the tests in this folder."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from bench.cluster import Cluster


@pytest.fixture(scope="module")
def shared() -> Iterator[Cluster]:
    """One cluster for the tests of a module that break nothing."""
    with Cluster(3) as cluster:
        yield cluster


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """A cluster of its own for a test that kills."""
    with Cluster(3) as cluster:
        yield cluster
