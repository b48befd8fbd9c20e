"""Types of the Rust extension. It converts and forwards; decisions are made in the crates below it."""

from typing import Final, final

__all__ = ["Backup", "Busy", "NativeError", "Node", "PolicyBatch", "__version__", "restore_backup", "verify_backup"]

__version__: Final[str]

class NativeError(Exception):
    """A node cannot open, start or go on; the text says what is wrong and what to do."""

class Busy(Exception):
    """A bounded queue is full: nothing was taken; retry after a pause."""

@final
class Backup:
    """A backup of a node, read once from its beginning to its end; the copy on the disk goes with it. For worker threads."""

    def manifest(self) -> bytes:
        """JSON, see `runtime::backup::Manifest`. Raises NativeError when it is closed."""
    def read(self) -> bytes:
        """The next bytes, about 1 MiB; none at the end. Raises NativeError when the copy cannot be read."""
    def close(self) -> None:
        """Calling it again does nothing."""

def verify_backup(path: str) -> bytes:
    """The manifest (JSON) of a backup that was read from its beginning to its end. Raises NativeError."""

def restore_backup(path: str, data_dir: str, node_id: str, cluster: list[str]) -> bytes:
    """Restores a backup into a new data directory and returns its manifest. Raises NativeError, with nothing left behind."""

@final
class Node:
    """One node: consensus, log, state machine and transport, on threads of their own.

    Reads answer from this node's applied state and never block on consensus: for a linearizable
    read first wait for the completion of `read_index`.
    """

    def __new__(cls, config: bytes) -> Node:
        """Opens the data directory. `config` is JSON, its fields are those of `runtime::Config`.

        Raises NativeError: directory in use, damaged, of another cluster, or of a newer release.
        """
    def start(self) -> None:
        """Starts the threads and listens on the Raft port. Raises NativeError."""
    def stop(self, timeout_ms: int) -> bool:
        """Hands over leadership, flushes and joins the threads; false when the time ran out."""
    @property
    def node_id(self) -> str: ...
    @property
    def raft_address(self) -> str:
        """The bound address, with the real port when 0 was asked for."""
    # ---- completions: on the event loop's thread --------------------------------------------
    def notify_fd(self) -> int:
        """An eventfd that is readable while `drain` has something to return."""
    def drain(self, limit: int) -> list[tuple[object, ...]]:
        """Takes up to `limit` notices, each a tuple whose first item is its kind:

        0 proposed  (0, token, failure, revision, outcomes): failure 0 none, 1 outcome unknown,
                    2 no leader took it before the deadline (nothing was applied); outcomes a list of
                    (refusal, revision, status, epoch, agent_id, agent_epoch, ids, names, replayed,
                    field, detail, key_revision, create_revision, key_version), one a command; ids 16 bytes each
        1 readable  (1, token, ok): local state is at least as new as the read index
        2 beaten    (2, token, lease_ms, heartbeat_ms, stale, unknown); lease_ms 0: not extended
        3 task      (3, task_id, status): a watched task changed (status as a number)
        4 agent     (4, agent_id): a watched agent has assignments or commands to fetch
        5 events    (5, revision): events up to this revision can be read (while watched)
        6 done      (6, token, ok, detail): transfer_leader, await_member or snapshot
        7 leader    (7, node_id or None, term, is_self): leadership as this node sees it
        8 stopped   (8, detail): the node cannot go on
        """
    def propose(self, commands: bytes, timeout_ms: int) -> int:
        """Proposes a JSON array of externally tagged commands (see `rust/native/src/wire.rs`) as one group.

        Returns the token of its completion. Raises Busy when the proposal queue is full and
        ValueError when the bytes are not such an array (a bug at the caller).
        """
    def read_index(self, timeout_ms: int) -> int: ...
    def beat(self, beats: list[tuple[str, int, tuple[int, int, int] | None]], timeout_ms: int) -> int:
        """Relays beats (agent_id, agent_epoch, load in basis points); token i is the first + i."""
    def transfer_leader(self, to: str | None, timeout_ms: int) -> int: ...
    def await_member(self, node_id: str, timeout_ms: int) -> int:
        """`done` follows when the member's row is settled or gone; else at the deadline, with how far it has come."""
    def snapshot(self, timeout_ms: int) -> int: ...
    def verify(self, timeout_ms: int) -> int:
        """Has every node recompute its state hash over all rows; `status` shows the newest verification."""
    @property
    def is_fenced(self) -> bool:
        """The node has fenced itself: nothing of its state may be served."""
    def backup(self) -> Backup:
        """A copy of the state as it is now, added up: takes as long as reading all of it. Raises NativeError."""
    # ---- interest: what `drain` should tell ------------------------------------------------
    def watch_task(self, task_id: bytes, watch: bool) -> None:
        """Counted: as many `False` as `True` end it."""
    def watch_agent(self, agent_id: str, watch: bool) -> None: ...
    def watch_events(self, watch: bool) -> None: ...
    # ---- reads: JSON rendered from stored rows; (revision of the node's state, bytes or None) ----
    def task(self, task_id: bytes, children: bool, events: bool) -> tuple[int, bytes | None]: ...
    def tasks(self, query: bytes) -> tuple[int, bytes, str | None, int | None]:
        """(revision, JSON array, next cursor, count or None) for a JSON query
        {tenant, status?, task_type?, parent?, label?: [k, v], created_after_us?, limit, cursor?, count}. A page looks at
        20,000 rows at most: it may hold less than `limit` while there is a next cursor. Count is None past 200,000 rows.
        Raises ValueError for a cursor that is none of ours."""
    def task_result(self, task_id: bytes) -> tuple[int, int, bytes | None]:
        """(revision, status or −1 when unknown, result JSON or None)"""
    def task_events(self, task_id: bytes) -> tuple[int, bytes | None]: ...
    def task_logs(self, task_id: bytes, attempt: int) -> tuple[int, bytes | None]:
        """NDJSON of one attempt (0: the newest)."""
    def task_graph(self, task_id: bytes) -> tuple[int, bytes | None]: ...
    def task_status(self, task_id: bytes) -> tuple[int, int, int]:
        """(revision, status or −1, epoch)"""
    def agent(self, agent_id: str) -> tuple[int, bytes | None]: ...
    def agents(self, query: bytes) -> tuple[int, bytes, str | None, int | None]:
        """As `tasks`, for {status?, node_id?, label?: [k, v], limit, cursor?, count}; agents that left only by status."""
    def agent_epoch(self, agent_id: str) -> tuple[int, int, int]:
        """(revision, agent_epoch or 0 when unknown, status as a number or −1): 0 up, 1 draining, 2 lost, 3 left"""
    def assignments(self, agent_id: str, held: bytes, limit: int) -> tuple[int, bytes, bytes]:
        """(revision, assignments, commands) as JSON arrays for the agent, without those in `held`,
        a JSON array of [task_id, epoch]; `held` items that no longer stand come back as commands."""
    def key(self, tenant: str, key: str) -> tuple[int, bytes | None, int]:
        """(revision, object JSON or None, the key's revision)"""
    def events(self, from_revision: int, limit: int) -> tuple[int, int, list[tuple[int, bytes]]]:
        """(newest revision, oldest revision that can be read, [(revision, JSON array of events)…])"""
    def raft_log(self, from_index: int, limit: int) -> tuple[int, int, list[bytes]]:
        """(first index, last committed index, rows as JSON objects)"""
    def status(self) -> bytes:
        """This node's own view of the cluster as JSON: never waits for anything."""
    def counters(self) -> bytes:
        """Counters, gauges and histograms of all threads as JSON."""
    # ---- policy thread ---------------------------------------------------------------------
    def policy_wait(self, timeout_ms: int) -> PolicyBatch | None:
        """Waits (GIL released) for something to decide; None when the time ran out or on stop."""
    def policy_assign(self, term: int, task_ids: bytes, epochs: bytes, agents: bytes, agent_epochs: bytes, terms: bytes) -> None:
        """Proposes assignments: 16 B ids, u32 epochs, u32 agent indexes, u64 agent epochs, i16[n, 6] score
        terms in basis points. Raises Busy."""
    # ---- faults for tests --------------------------------------------------------------------

@final
class PolicyBatch:
    """Deltas since the last batch, one little-endian buffer a column; all columns of a group have one length.

    `op`: 1 ready (enters the queue, or changed in it), 2 gone (left the queue without an assignment),
    3 taken (`agent` holds it now), 4 freed (`agent` holds it no longer; `run_us` > 0 for a finished
    attempt and `success` says how it ended). A refused assignment of ours comes back as 4 with `run_us` 0 and then 1
    (or 2 when the task is not in the queue any more). An `agent` that cannot be told yet has a number all the same.
    """

    reset: bool
    """True: forget everything first (new leadership); the columns then hold the whole state."""
    leader: bool
    term: int
    cluster_us: int
    wall_us: int
    op: bytes
    """u8[n]"""
    task: bytes
    """u8[n, 16]"""
    epoch: bytes
    """u32[n]"""
    klass: bytes
    """u32[n]: requirement class, see `classes`"""
    agent: bytes
    """u32[n]: agent index for op 3 and 4"""
    priority: bytes
    """i32[n]"""
    tenant: bytes
    """u32[n]: a number of the task's tenant"""
    unit: bytes
    """u32[n]: the graph a task belongs to, from 1 on, see `graphs`; 0 for none"""
    order: bytes
    """u64[n]: submit revision, the order among equals"""
    position: bytes
    """u32[n]: position inside the submit"""
    deadline_us: bytes
    """u64[n]: wall time, 0 for none"""
    ready_us: bytes
    """u64[n]: cluster time at which it became ready"""
    run_us: bytes
    """u64[n]"""
    size_hint: bytes
    """u64[n]"""
    success: bytes
    """u8[n]"""
    load_agent: bytes
    """u32[l]"""
    load_bp: bytes
    """u16[l, 3]: cpu, memory, network"""
    classes: bytes
    """JSON array of classes not told before: {klass, task_type, capabilities: [[dimension, min_bp, weight_milli]],
    resources: [[name, amount]], labels: [[key, value]]}"""
    agents: bytes
    """JSON array of agents that changed: {agent (index), agent_id, agent_epoch, node_id, status, placeable,
    capabilities: [[dimension, bp]], resources: [[name, amount]], labels: [[key, value]], task_types: [..]}"""
    graphs: bytes
    """JSON array of graphs not told before: {unit, tasks: [[position, klass]] that have not ended, edges: [[position of the
    dependency, position of the dependent]]}"""
    graphs_ended: bytes
    """u32[g]: graphs whose parent ended; their numbers are not given again"""
    excluded: bytes
    """JSON array of [task id in hex, [agent_id…]] for tasks in this batch that exclude agents"""
    def __len__(self) -> int:
        """Operations."""
