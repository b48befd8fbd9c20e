"""Bytes of one node's files are flipped, cut, lost or put back from an older copy; then the node is asked to lead.

Three real nodes take acknowledged writes; one of them is stopped, its files are damaged, it is started again and leadership is
handed to it. It must say what is damaged or the bytes must have been harmless (padding, a file that the next start deletes);
it must never lead with less than was acknowledged; and at the end all three nodes agree, also about every row they hold.

A run damages one class of bytes in one way; a run that flips does so in several places at once. A *flip* in the counts is one
place. `python -m trust.suites.flips` prints the figures by class of what is on record.
"""

import json
import random
import re
import shutil
import signal
import struct
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.cluster import Node, until

from trust import results
from trust.fleet import Fleet
from trust.suite import Counts, RunOne, Suite, Violation
from trust.verify import Load, verify

# Places of one flipping run.
FLIPS = 12
# From the restart until the node is ready again, repaired or not.
REPAIR_S = 60.0
# A node that stops and says that it must be started again is started so often.
STARTS_MAX = 4
# Log and state are kept short, so that repairs need snapshots and not only old entries.
SETTINGS = "[node]\nkeep_entries = 100\nflush_dirty_ms = 300\n"
# What a node says when it has found damage; the words are part of what operators search for.
SAID = re.compile(r"damage was found: (.*)|has fenced itself: (.*)|this node stops: (.*)")


@dataclass(frozen=True)
class Place:
    """Bytes that can be damaged: a file, and the range of interest in it."""

    path: Path
    first: int
    end: int


def files(*patterns: str) -> Callable[[Path], list[Place]]:
    """Whole files by pattern, those that hold something."""

    def find(data: Path) -> list[Place]:
        found = sorted({path for pattern in patterns for path in data.glob(pattern) if path.is_file() and path.stat().st_size})
        return [Place(path, 0, path.stat().st_size) for path in found]

    return find


def frames(kind: int) -> Callable[[Path], list[Place]]:
    """The newest frames of one kind (rust/codec/src/frame.rs) in the files of the log."""
    mark = re.compile(rb"(?s)(.{4})" + bytes([kind, 1, 0, 0]) + rb".{4}")

    def find(data: Path) -> list[Place]:
        found = []
        for path in sorted([*data.glob("log/*.log"), *data.glob("log/*.sst")]):
            raw = path.read_bytes()
            for match in mark.finditer(raw):
                length = struct.unpack("<I", match[1])[0]
                if 0 < length < 1 << 16 and match.start() + 12 + length <= len(raw):
                    found.append(Place(path, match.start(), match.start() + 12 + length))
        return found[-20:]

    return find


CLASSES: dict[str, Callable[[Path], list[Place]]] = {
    "entry": frames(1),
    "hard state": frames(2),
    "log base": frames(3),
    "identity record": frames(4),
    "log write-ahead": files("log/*.log"),
    "log table": files("log/*.sst"),
    "log manifest": files("log/MANIFEST-*", "log/CURRENT", "log/OPTIONS-*", "log/IDENTITY"),
    "state table": files("state-*/*.sst"),
    "state manifest": files("state-*/MANIFEST-*", "state-*/CURRENT", "state-*/OPTIONS-*", "state-*/IDENTITY"),
    "witness": files("witness"),
    "identity file": files("identity"),
    "snapshot": files("snapshots/*/*"),
}
# What the file-wide ways take together, for classes that are not one file.
WHOLE = {"log": ("log",), "state": ("state-*",), "directory": ("log", "state-*", "witness", "identity", "snapshots")}
MODES = ("flip", "flip", "flip", "flip", "half", "zero", "lost", "older")


def flip(choice: random.Random, places: list[Place]) -> list[str]:
    """Flips one bit in each of several places."""
    done = []
    for _ in range(FLIPS):
        place = choice.choice(places)
        at, bit = choice.randrange(place.first, place.end), choice.randrange(8)
        with place.path.open("r+b") as file:
            file.seek(at)
            byte = file.read(1)[0]
            file.seek(at)
            file.write(bytes([byte ^ 1 << bit]))
        done.append(f"{place.path.name}@{at}.{bit}")
    return done


def cut(choice: random.Random, places: list[Place], mode: str) -> list[str]:
    """Cuts one file to half or to nothing, or deletes it."""
    path = choice.choice(places).path
    if mode == "lost":
        path.unlink()
    else:
        with path.open("r+b") as file:
            file.truncate(path.stat().st_size // 2 if mode == "half" else 0)
    return [f"{path.name} {mode}"]


def set_back(data: Path, older: Path, patterns: tuple[str, ...]) -> list[str]:
    """Puts an older copy in the place of files or directories."""
    done = []
    for pattern in patterns:
        for path in data.glob(pattern):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        for path in older.glob(pattern):
            shutil.copytree(path, data / path.name) if path.is_dir() else shutil.copy2(path, data / path.name)
            done.append(f"{path.name} older")
    return done


class Run:
    """One run on a shared cluster."""

    def __init__(self, fleet: Fleet, seed: int, workdir: Path) -> None:
        self.fleet = fleet
        self.name = f"flips-{seed}"
        self.seed = seed
        self.choice = random.Random(seed)
        self.older = workdir / "older"
        self.victim: Node = list(fleet.nodes.values())[seed % 3]
        self.data = fleet.data[self.victim.name]
        self.mode = MODES[seed % len(MODES)]
        self.kind = list(CLASSES)[self.choice.randrange(len(CLASSES))]
        if self.mode == "older":
            self.kind = ("witness", "log", "state", "directory")[self.choice.randrange(4)]
        self.seen = 0

    def run(self) -> Counts:
        """Load, damage, restart, lead, check."""
        if self.mode == "older":
            self._copy()
        with Load(self.fleet, self.name, self.seed, clients=4) as load:
            load.wait_for(40)
            if self.kind == "snapshot":
                self.victim.try_call("POST", "/cluster/snapshot", {}, timeout_s=10)
            self.victim.kill(self.choice.choice([signal.SIGKILL, signal.SIGTERM]))
            load.wait_for(10)
        damaged = self._damage()
        self.seen = self.victim.log.stat().st_size
        aside = set(self.data.glob("damaged-*"))
        self._start_until_ready()
        self._ask_to_lead()
        said = self._verify_rows()
        counts = verify(self.fleet, load.ledger, self.name, REPAIR_S)
        self._check_kept(said, aside)
        shown = {"shape": f"{self.kind}, {self.mode}", "flips": len(damaged), "said": int(bool(said)), "harmless": int(not said)}
        return counts | shown

    def _copy(self) -> None:
        """An older copy of the stopped node's files."""
        self.victim.kill(signal.SIGTERM)
        shutil.copytree(self.data, self.older, ignore=shutil.ignore_patterns("damaged-*", "LOCK"))
        self.fleet.restart(self.victim)

    def _damage(self) -> list[str]:
        if self.mode == "older":
            return set_back(self.data, self.older, WHOLE.get(self.kind, (self.kind,)))
        places = CLASSES[self.kind](self.data)
        if not places:
            return []
        return flip(self.choice, places) if self.mode == "flip" else cut(self.choice, places, self.mode)

    def _start_until_ready(self) -> None:
        """Starts the node until it is ready: one that cannot go on ends, says so, and is started again."""
        for _ in range(STARTS_MAX):
            self.victim.start()
            try:
                until(self._ready_or_ended, f"{self.victim.name} is ready or ends", REPAIR_S)
            except TimeoutError as error:
                raise Violation(f"{error}; it says:\n{self.victim.log_tail()}") from error
            if self.victim.alive:
                return
            if not self._said():
                raise Violation(f"{self.victim.name} ended and did not say why:\n{self.victim.log_tail()}")
        raise Violation(f"{self.victim.name} ended {STARTS_MAX} times:\n{self.victim.log_tail()}")

    def _ready_or_ended(self) -> bool:
        try:
            return self.victim.ready()
        except RuntimeError:
            return True

    def _ask_to_lead(self) -> None:
        """Asks for leadership; what it then serves is checked, whether it took it or not."""
        with_leader = until(self.fleet.leader_now, "a leader", REPAIR_S)
        with_leader.try_call("POST", "/cluster/transfer-leader", {"to": self.victim.name}, timeout_s=5)
        until(self.fleet.leader_now, "a leader after the hand-over", REPAIR_S)

    def _verify_rows(self) -> list[str]:
        """All nodes add up all rows, until they agree: a verification may be what finds the damage."""

        def agreed() -> bool:
            if not self.victim.alive:
                self.victim.start()
                until(self.victim.ready, f"{self.victim.name} is ready again", REPAIR_S)
            node = self.fleet.leader_now()
            answer = node and node.try_call("POST", "/cluster/verify", {"timeout_ms": 5000}, timeout_s=10)
            return bool(answer and answer.status == 200 and answer.body["agrees"] and len(answer.body["nodes"]) == 3)

        try:
            until(agreed, "all nodes agree about all rows", REPAIR_S)
        except TimeoutError as error:
            raise Violation(f"{error}; {self._views()}; {self.victim.name} says:\n{self.victim.log_tail()}") from error
        return self._said()

    def _views(self) -> str:
        """What every node says of the cluster, in short."""
        shown = ("leader", "node_role", "term", "applied_index", "quorum", "fenced", "writes_stopped", "waiting", "alerts")
        views = {}
        for node in self.fleet.nodes.values():
            answer = node.try_call("GET", "/cluster/status")
            body = answer.body if answer is not None else {}
            verified = body.get("verification") or {}
            agrees = {item["node_id"]: item["agrees"] for item in verified.get("nodes", ())}
            views[node.name] = {name: body.get(name) for name in shown} | {"verified": [verified.get("index"), agrees]}
        return json.dumps(views)

    def _said(self) -> list[str]:
        with self.victim.log.open("rb") as log:
            log.seek(self.seen)
            text = log.read().decode(errors="replace")
        return [next(filter(None, match)) for match in SAID.findall(text)]

    def _check_kept(self, said: list[str], before: set[Path]) -> None:
        """What was found damaged is kept, and named; then it is deleted, so that many runs fit on the disk."""
        kept = set(self.data.glob("damaged-*")) - before
        for path in kept:
            if not (path / "REASON").exists():
                raise Violation(f"{path} does not say why it was kept")
            shutil.rmtree(path)
        unnamed = [text for text in said if not re.search(r"log|witness|identity|state|hash|\.sst|MANIFEST", text)]
        if unnamed:
            raise Violation(f"{self.victim.name} does not say which file is damaged: {unnamed[0]}")


@contextmanager
def session(directory: Path) -> Iterator[RunOne]:
    """One cluster for many runs; it is made anew after a violation."""
    settings = directory / "settings.toml"
    settings.write_text(SETTINGS)
    fleet = Fleet(directory)
    for node in fleet.nodes.values():
        node.command += ["--config", str(settings)]
    with fleet:
        yield lambda seed, workdir: Run(fleet, seed, workdir).run()


SUITE = Suite(name="flips", id="R5", title="bytes flipped, cut, lost or set back on one node", full=700, cut=4, session=session)


def main() -> None:
    """Prints what is on record, by class and way."""
    totals: dict[str, Counter[str]] = {}
    good: list[dict[str, Any]] = [line for line in results.lines(results.OUT, SUITE.name) if line["result"] == "ok"]
    for line in good:
        counts = line["counts"]
        totals.setdefault(counts["shape"], Counter()).update({k: v for k, v in counts.items() if isinstance(v, int)})
    for shape, counts in sorted(totals.items()):
        print(f"{shape:32} {counts['flips']:5} flips, {counts['said']:3} said, {counts['harmless']:3} harmless")
    whole = sum(totals.values(), Counter())
    print(f"{len(good)} runs, {whole['flips']} flips, {whole['lost']} lost, {whole['doubled']} doubled")


if __name__ == "__main__":
    main()
