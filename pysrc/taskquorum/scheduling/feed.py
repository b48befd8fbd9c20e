"""The shape of what a node tells the policy: `taskquorum._native.PolicyBatch`, and what its JSON columns hold."""

from typing import Any, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from taskquorum.scheduling import constants as k
from taskquorum.scheduling import group_kernels


class ClassTold(msgspec.Struct, frozen=True):
    """A requirement class: tasks that ask for exactly the same."""

    klass: int
    task_type: str
    capabilities: list[tuple[str, int, int]] = []
    """(dimension, least level in basis points, weight in thousandths); least 0 is a preference only."""
    resources: list[tuple[str, int]] = []
    labels: list[tuple[str, str]] = []


class AgentTold(msgspec.Struct, frozen=True):
    """An agent that registered or changed."""

    agent: int
    agent_id: str
    agent_epoch: int
    placeable: bool
    node_id: str = ""
    status: Any = None
    capabilities: list[tuple[str, int]] = []
    resources: list[tuple[str, int]] = []
    labels: list[tuple[str, str]] = []
    task_types: list[str] = []
    """Empty: any."""


class GraphTold(msgspec.Struct, frozen=True):
    """A graph of tasks, told with the first of them; its number is never given to another before a reset."""

    unit: int
    """Its number, from 1 on."""
    tasks: list[tuple[int, int]]
    """(position, class) of what has not ended."""
    edges: list[tuple[int, int]] = []
    """(position of the dependency, position of the dependent)."""
    expected_us: list[tuple[int, int]] = []
    """(position, microseconds) of tasks whose submitter said how long they take."""


class Batch(Protocol):
    """`PolicyBatch` as this package reads it; see `_native.pyi` for the columns."""

    @property
    def reset(self) -> bool: ...
    @property
    def leader(self) -> bool: ...
    @property
    def term(self) -> int: ...
    @property
    def cluster_us(self) -> int: ...
    @property
    def op(self) -> bytes: ...
    @property
    def task(self) -> bytes: ...
    @property
    def epoch(self) -> bytes: ...
    @property
    def klass(self) -> bytes: ...
    @property
    def agent(self) -> bytes: ...
    @property
    def priority(self) -> bytes: ...
    @property
    def order(self) -> bytes: ...
    @property
    def position(self) -> bytes: ...
    @property
    def ready_us(self) -> bytes: ...
    @property
    def tenant(self) -> bytes: ...
    @property
    def unit(self) -> bytes: ...
    @property
    def graphs(self) -> bytes: ...
    @property
    def graphs_ended(self) -> bytes: ...
    @property
    def run_us(self) -> bytes: ...
    @property
    def success(self) -> bytes: ...
    @property
    def load_agent(self) -> bytes: ...
    @property
    def load_bp(self) -> bytes: ...
    @property
    def classes(self) -> bytes: ...
    @property
    def agents(self) -> bytes: ...
    @property
    def excluded(self) -> bytes: ...


class Feed(Protocol):
    """What the policy needs of a node."""

    def policy_wait(self, timeout_ms: int) -> Batch | None: ...
    def policy_assign(
        self, term: int, task_ids: bytes, epochs: bytes, agents: bytes, agent_epochs: bytes, terms: bytes
    ) -> None: ...


def column(buffer: bytes, kind: type[np.generic]) -> NDArray[Any]:
    """A column of a batch as an array, without a copy. Raises ValueError when its length does not divide."""
    return np.frombuffer(buffer, dtype=kind)


def expected_us(batch: Batch, count: int) -> NDArray[np.int64]:
    """What submitters said their tasks take, i64[count] in µs, in steps of ESTIMATE_STEPS an octave, 0 where nothing was
    said: so far always, for a submit has no field for it; only the bench tells a column `expected_us`."""
    told = getattr(batch, "expected_us", b"")
    if not told:
        return np.zeros(count, np.int64)
    expected = column(told, np.uint64).astype(np.int64)
    group_kernels.stepped(expected, k.ESTIMATE_STEPS)
    return expected
