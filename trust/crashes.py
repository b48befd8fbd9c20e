"""How each failpoint is reached: what the suite `crash` does to have a node crash there, and the test of reachability too."""

import random
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from bench.cluster import Node, until

from trust.failpoints import CRASH, FailpointFleet
from trust.verify import Load, status_of

# Reached many times a second under load: crash somewhere among the first so many.
HOT = 100
LEADER, FOLLOWER = "leader", "follower"
BOTH = (LEADER, FOLLOWER)


@dataclass(frozen=True)
class Trigger:
    """A way to reach places, the places, and the roles in which a node reaches them."""

    name: str
    roles: tuple[str, ...]
    places: tuple[str, ...]
    # Reached at least this often a run, so that the crash may come later than at the first time.
    often: int = 1


def _places(prefix: str, names: str) -> tuple[str, ...]:
    return tuple(f"{prefix}::{name}" for name in names.split())


_LOG = "store::log"
TRIGGERS = (
    Trigger("load", BOTH, _places("runtime::raft_thread", "step persisted ready complete_before"), HOT),
    Trigger("load", BOTH, _places("transport::conn", "read write"), HOT),
    Trigger("load", BOTH, _places("runtime::log_writer", "append_before ack_before ack_after"), HOT),
    Trigger("load", BOTH, _places("runtime::apply_thread", "step_before written told"), HOT),
    Trigger("load", BOTH, _places(_LOG, "write_before skip_sync written_unsynced write_after"), HOT),
    Trigger("load", BOTH, _places("store::state", "write_before write_after"), HOT),
    Trigger("load", BOTH, ("machine::machine::invariant",), HOT),
    Trigger("load", BOTH, _places(_LOG, "hard_state"), 3),
    Trigger("load", BOTH, _places("store::witness", "save_before written_unsynced save_after skip_save"), 3),
    Trigger("load", BOTH, _places("store::state", "flush_before flush_after")),
    Trigger("load", BOTH, _places(_LOG, "truncate_before truncate_after")),
    Trigger("load", (FOLLOWER,), ("runtime::raft_thread::forward",), HOT),
    Trigger("peer", BOTH, (*_places("transport::dial", "connect connected"), *_places("transport::net", "accepted hello"))),
    Trigger("start", BOTH, ("runtime::service::opened", "runtime::apply_thread::session_opened")),
    Trigger("stop", BOTH, ("runtime::raft_thread::stop", *_places("runtime::service", "stop_unflushed stopped"))),
    Trigger("transfer", (LEADER,), ("runtime::raft_thread::transfer",)),
    Trigger("election", (FOLLOWER,), ("runtime::raft_thread::leader_changed",)),
    Trigger("conflict", (LEADER,), (f"{_LOG}::tail_cut",)),
    Trigger("checkpoint", BOTH, _places("store::state", "checkpoint_before checkpoint_copied checkpoint_after")),
    Trigger("checkpoint", BOTH, _places("runtime::disk_thread", "checkpoint_unnamed checkpoint_named")),
    Trigger("send", (LEADER,), _places("runtime::snapshot_out", "offer_before chunk_sent sent")),
    Trigger("install", (FOLLOWER,), _places("runtime::snapshot_in", "begun chunk received verified")),
    Trigger(
        "install", (FOLLOWER,), ("store::directory::remove_before", *_places("store::incoming", "made sync_before synced named"))
    ),
    Trigger("install", (FOLLOWER,), _places(_LOG, "install_before install_written install_after")),
    Trigger(
        "install", (FOLLOWER,), _places("runtime::apply_thread", "install_before install_loaded install_switched install_after")
    ),
    Trigger("found", (FOLLOWER,), _places("store::directory", "make_log_before log_made base_written make_log_after")),
    Trigger("found", (FOLLOWER,), _places(_LOG, "identity_before identity_after")),
    Trigger("found", (FOLLOWER,), _places("runtime::raft_thread", "bootstrap_before bootstrap_saved bootstrap_after")),
    Trigger("found", (FOLLOWER,), _places("runtime::apply_thread", "bootstrap_before bootstrap_after")),
)
# Trigger, place and role of each case, in the order of the seeds.
CASES = tuple((trigger, place, role) for trigger in TRIGGERS for place in trigger.places for role in trigger.roles)


def node_of(fleet: FailpointFleet, role: str, choice: random.Random) -> Node:
    """The leader, or one of the others."""
    leader = fleet.leader()
    return leader if role == LEADER else choice.choice([node for node in fleet.nodes.values() if node is not leader])


def actions(trigger: Trigger, choice: random.Random) -> str:
    """Crashes at the first time the place is reached, or somewhat later where that is often."""
    skip = choice.randrange(trigger.often)
    return f"{skip}*off->1*{CRASH}" if skip else f"1*{CRASH}"


def behind(fleet: FailpointFleet, load: Load, node: Node) -> None:
    """Kills a node and waits until the leader's log no longer holds what it needs: it will be sent a snapshot."""
    view = status_of(node)
    assert view is not None
    node.kill()
    leader = fleet.leader()

    def cut() -> bool:
        seen = status_of(leader)
        return seen is not None and int(str(seen["base_index"])) > int(str(view["last_index"]))

    until(cut, f"{leader.name}'s log begins after what {node.name} has", 40.0)


@contextmanager
def cut_off(fleet: FailpointFleet, load: Load, leader: Node) -> Iterator[None]:
    """Kills the others until the leader holds entries that nobody else has; then it dies and they come back.

    In the context no new work comes, so that the others' log still reaches back to those entries. Stopping the others instead
    of killing them would not do: what the leader sent would wait in their sockets.
    """
    others = [node for node in fleet.nodes.values() if node is not leader]
    for node in others:
        node.kill()

    def uncommitted() -> bool:
        view = status_of(leader)
        return view is not None and int(str(view["last_index"])) > int(str(view["commit_index"]))

    until(uncommitted, f"{leader.name} has entries of its own", 10.0)
    with load.paused():
        leader.kill()
        for node in others:
            fleet.start_with(node)
        fleet.wait_back(*others)
        yield


class Reach:
    """One way after the other of having a node crash at a place; each leaves all nodes up again."""

    def __init__(self, fleet: FailpointFleet, load: Load, choice: random.Random) -> None:
        self.fleet = fleet
        self.load = load
        self.choice = choice

    def crash(self, trigger: Trigger, place: str, role: str) -> None:
        """Has a node of this role crash at the place, and starts it again."""
        ways: dict[str, Callable[[Node, str, str], None]] = {
            "load": self._load,
            "peer": self._peer,
            "start": self._start,
            "stop": self._stop,
            "transfer": self._transfer,
            "election": self._election,
            "conflict": self._conflict,
            "checkpoint": self._checkpoint,
            "send": self._send,
            "install": self._install,
        }
        node = node_of(self.fleet, role, self.choice)
        ways[trigger.name](node, place, actions(trigger, self.choice))

    def _load(self, node: Node, place: str, what: str) -> None:
        self.fleet.set(node, place, what)
        self.fleet.wait_crashed(node)
        self.fleet.restart(node)

    def _peer(self, node: Node, place: str, what: str) -> None:
        peer = self.choice.choice([other for other in self.fleet.nodes.values() if other is not node])
        peer.kill()
        self.fleet.set(node, place, what)
        self.fleet.start_with(peer)
        self.fleet.wait_crashed(node)
        self.fleet.start_with(node)
        self.fleet.wait_back()

    def _start(self, node: Node, place: str, what: str) -> None:
        node.kill()
        self.fleet.start_with(node, f"{place}={what}")
        self.fleet.wait_crashed(node)
        self.fleet.restart(node)

    def _stop(self, node: Node, place: str, what: str) -> None:
        self.fleet.set(node, place, what)
        node.process.send_signal(signal.SIGTERM)
        self.fleet.wait_crashed(node)
        self.fleet.restart(node)

    def _transfer(self, node: Node, place: str, what: str) -> None:
        self.fleet.set(node, place, what)
        node.try_call("POST", "/cluster/transfer-leader", {})
        self.fleet.wait_crashed(node)
        self.fleet.restart(node)

    def _election(self, node: Node, place: str, what: str) -> None:
        leader = self.fleet.leader()
        self.fleet.set(node, place, what)
        leader.kill()
        self.fleet.wait_crashed(node)
        for dead in (leader, node):
            self.fleet.start_with(dead)
        self.fleet.wait_back()

    def _conflict(self, node: Node, place: str, what: str) -> None:
        with cut_off(self.fleet, self.load, node):
            self.fleet.start_with(node, f"{place}={what}")
            self.fleet.wait_crashed(node)
        self.fleet.restart(node)

    def _checkpoint(self, node: Node, place: str, what: str) -> None:
        self.fleet.set(node, place, what)
        node.try_call("POST", "/cluster/snapshot", {})
        self.fleet.wait_crashed(node)
        self.fleet.restart(node)

    def _send(self, node: Node, place: str, what: str) -> None:
        late = self.choice.choice([other for other in self.fleet.nodes.values() if other is not node])
        behind(self.fleet, self.load, late)
        sender = self.fleet.leader()
        self.fleet.set(sender, place, what)
        self.fleet.start_with(late)
        self.fleet.wait_crashed(sender)
        self.fleet.start_with(sender)
        self.fleet.wait_back()

    def _install(self, node: Node, place: str, what: str) -> None:
        behind(self.fleet, self.load, node)
        self.fleet.start_with(node, f"{place}={what}")
        self.fleet.wait_crashed(node)
        self.fleet.restart(node)
