"""A backup is taken under load and restored into a new cluster: every write acknowledged up to its revision is there, none
that came later is, and the rows add up to the manifest's hash. In part of the runs the leader is killed while the backup is
made, and in all of them a damaged copy of the file must be refused.
"""

import asyncio
import random
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.cluster import Cluster, Node, until

from taskquorum.backup import BackupFailedError, restore_backup, save_backup, verify_backup
from taskquorum.errors import TaskquorumError
from trust.suite import Counts, RunOne, Suite, Violation

WRITES_BEFORE, WRITES_AFTER = 60, 20
WRITERS = 3


class Writers:
    """Threads that write without pause, and what they were told: task or key → the revision of its write."""

    def __init__(self, cluster: Cluster, seed: int) -> None:
        self.cluster = cluster
        self.acked: dict[str, int] = {}
        self.sent: set[str] = set()
        self.stop = threading.Event()
        self.threads = [threading.Thread(target=self._run, args=(random.Random(seed * 31 + n),)) for n in range(WRITERS)]

    def __enter__(self) -> "Writers":
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        for thread in self.threads:
            thread.join(60)

    def _run(self, choice: random.Random) -> None:
        while not self.stop.is_set():
            node = choice.choice(self.cluster.alive or list(self.cluster.nodes.values()))
            name = str(uuid.UUID(int=choice.getrandbits(128), version=4))
            if choice.random() < 0.3:
                path, method, body = f"/state/backup/{name}", "PUT", {"value": name}
            else:
                path, method = "/tasks/distributed", "POST"
                body = {"id": name, "task_type": "kept", "task_data": {"pad": "x" * choice.randrange(2000)}}
            place = path if method == "PUT" else f"{path}/{name}"
            self.sent.add(place)
            answer = node.try_call(method, path, body, 5.0)
            if answer is not None and answer.status in (201, 202):
                self.acked[place] = int(answer.headers["taskquorum-revision"])

    def wait_for(self, more: int) -> None:
        wanted = len(self.acked) + more
        until(lambda: len(self.acked) >= wanted, f"{more} writes are acknowledged", 60)


def take(cluster: Cluster, file: Path, choice: random.Random, kill: bool) -> bool:
    """Backs up through a random node, again when the leader's death cut it off; whether it was."""
    servers = [node.url for node in cluster.nodes.values()]
    choice.shuffle(servers)
    killer: threading.Thread | None = None
    if kill:
        killer = threading.Thread(target=cluster.leader().kill)
        killer.start()
    cut = False
    for _ in range(5):
        try:
            asyncio.run(save_backup(servers, file))
            break
        except (TaskquorumError, OSError):
            cut = True
            if file.exists():
                raise Violation("a backup that failed left its file") from None
            until(cluster.leader_now, "a leader", 20)
    else:
        raise RuntimeError("no backup in five attempts")
    if killer is not None:
        killer.join()
        for node in cluster.nodes.values():
            if not node.alive:
                cluster.restart(node)
    return cut


def refuse_damage(file: Path, workdir: Path, choice: random.Random) -> None:
    raw = bytearray(file.read_bytes())
    at = choice.randrange(len(raw))
    if choice.random() < 0.5:
        raw[at] ^= 1 << choice.randrange(8)
    else:
        del raw[at:]
    bad, target = workdir / "bad", workdir / "target"
    bad.write_bytes(raw)
    try:
        restore_backup(bad, target, "node-1")
    except BackupFailedError:
        if target.exists():
            raise Violation("a refused restore left a directory") from None
    else:
        raise Violation(f"a backup damaged at byte {at} of {file.stat().st_size} was restored")
    bad.unlink()


def check(node: Node, acked: dict[str, int], revision: int) -> tuple[int, int]:
    """(writes that are there, writes that came later)"""
    kept = later = 0
    for place, at in acked.items():
        status = node.call("GET", place, timeout_s=20).status
        if at <= revision and status != 200:
            raise Violation(f"{place}, acknowledged at revision {at}, is missing from the backup of revision {revision}")
        if at > revision and status != 404:
            raise Violation(f"{place}, written at revision {at}, is in the backup of revision {revision}")
        kept, later = kept + (at <= revision), later + (at > revision)
    return kept, later


def run_one(old: Cluster, seed: int, workdir: Path) -> Counts:
    """One backup under load, its damaged copy, and the cluster restored from it."""
    choice = random.Random(seed)
    file = workdir / "backup"
    kill = seed % 3 == 0
    with Writers(old, seed) as writers:
        writers.wait_for(WRITES_BEFORE)
        cut = take(old, file, choice, kill)
        writers.wait_for(WRITES_AFTER)
    manifest = verify_backup(file)
    refuse_damage(file, workdir, choice)
    new = Cluster(choice.choice((1, 3)))
    try:
        for node in new.nodes.values():
            restored = restore_backup(file, new.directory / node.name, node.name, list(new.nodes))
            if restored["state_hash"] != manifest["state_hash"]:
                raise Violation("the restored rows add up to another hash")
        new.start()
        old_id = old.leader().call("GET", "/cluster/status").body["cluster_id"]
        for node in new.nodes.values():
            if node.call("GET", "/cluster/status").body["cluster_id"] == old_id:
                raise Violation("the new cluster has the old one's id")
        kept, later = check(choice.choice(list(new.nodes.values())), writers.acked, manifest["revision"])
        if len(new.nodes) > 1:
            leader = new.leader()
            until(lambda: leader.call("GET", "/cluster/status").body["state_hash"]["agrees"] is not None, "hashes are compared")
            if not leader.call("GET", "/cluster/status").body["state_hash"]["agrees"]:
                raise Violation("the restored replicas differ")
    finally:
        new.stop()
    file.unlink()
    return {
        "acknowledged": kept,
        "later": later,
        "lost": 0,
        "doubled": 0,
        "cut off": int(cut),
        "shape": "leader killed" if kill else "load",
    }


@contextmanager
def session(directory: Path) -> Iterator[RunOne]:
    """One old cluster for all runs."""
    with Cluster(3) as cluster:
        yield lambda seed, workdir: run_one(cluster, seed, workdir)


SUITE = Suite(name="backup", id="R9", title="backup under load, restored", full=100, cut=2, session=session)
