"""What was run: raw lines in trust/out/, one JSON object each, and the campaigns in docs/trust-results.json made of them.

A line has `suite, seed, seeds (how many, 1 unless said), result (ok | violation | error), counts, seconds, commit, machine,
at`. A campaign sums up the lines of one suite, commit and machine. Seeds that either place names are not run again, so an
interrupted count goes on where it stopped, also in another checkout.
"""

import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "trust" / "out"
CAMPAIGNS = ROOT / "docs" / "trust-results.json"


def commit() -> str:
    """The commit that the installed build was made from, with `+` after it if files differed.

    `make build` notes it beside the environment. Where nothing is installed (the simulator's own build), it is the
    checkout's.
    """
    noted = Path(sys.prefix) / ".built-from"
    if noted.exists():
        return noted.read_text().strip()
    head = subprocess.run(["git", "describe", "--always", "--abbrev=9", "--dirty=+"], cwd=ROOT, capture_output=True, text=True)
    return head.stdout.strip() or "unknown"


def machine() -> str:
    """What this machine is, in a few words."""
    model = platform.processor() or platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []:
        if line.startswith("model name"):
            model = line.split(":", 1)[1].strip()
            break
    return f"{model}, {os.cpu_count()} cores, {platform.system()} {platform.release().split('-')[0]}"


def append(out: Path, suite: str, line: dict[str, Any]) -> None:
    """Adds one line; it is on disk when this returns."""
    out.mkdir(parents=True, exist_ok=True)
    with (out / f"{suite}.jsonl").open("a") as file:
        file.write(json.dumps(line) + "\n")
        file.flush()
        os.fsync(file.fileno())


def lines(out: Path, suite: str) -> Iterator[dict[str, Any]]:
    """The suite's lines; a last one that an interruption cut off is left out."""
    path = out / f"{suite}.jsonl"
    for text in path.read_text().splitlines() if path.exists() else []:
        try:
            yield json.loads(text)
        except json.JSONDecodeError:
            continue


def campaigns() -> list[dict[str, Any]]:
    """The campaigns written down so far."""
    loaded: list[dict[str, Any]] = json.loads(CAMPAIGNS.read_text()) if CAMPAIGNS.exists() else []
    return loaded


def done(out: Path, suite: str) -> set[int]:
    """Seeds of good and bad runs alike (errors are run again)."""
    seeds: set[int] = set()
    for line in lines(out, suite):
        if line["result"] != "error":
            seeds.update(range(line["seed"], line["seed"] + line.get("seeds", 1)))
    if out == OUT:
        for campaign in campaigns():
            if campaign["suite"] == suite:
                for first, last in campaign["ranges"]:
                    seeds.update(range(first, last + 1))
    return seeds


def ranges(seeds: Iterable[int]) -> list[list[int]]:
    """Sorted inclusive ranges of a set of seeds."""
    found: list[list[int]] = []
    for seed in sorted(set(seeds)):
        if found and seed == found[-1][1] + 1:
            found[-1][1] = seed
        else:
            found.append([seed, seed])
    return found


def add_counts(total: dict[str, Any], counts: dict[str, Any]) -> None:
    """Adds the numbers of one run to a total; keys that end in `_max` keep the largest, texts are left out."""
    for key, value in counts.items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            continue
        total[key] = max(total.get(key, value), value) if key.endswith("_max") else round(total.get(key, 0) + value, 6)


def merge(out: Path, suite: str) -> list[dict[str, Any]]:
    """Moves the suite's lines into the campaigns and returns those that changed."""
    known = campaigns()
    changed: list[dict[str, Any]] = []
    seeds: dict[int, set[int]] = {}
    for line in lines(out, suite):
        if line["result"] == "error":
            continue
        shape = str(line["counts"].get("shape", ""))
        key = (suite, shape, line["commit"], line["machine"])
        campaign = next((c for c in known if (c["suite"], c["shape"], c["commit"], c["machine"]) == key), None)
        if campaign is None:
            names = dict(zip(("suite", "shape", "commit", "machine"), key, strict=True))
            campaign = {**names, "from": line["at"], "runs": 0, "violations": 0, "seconds": 0.0, "counts": {}, "ranges": []}
            known.append(campaign)
        held = seeds.setdefault(id(campaign), {s for first, last in campaign["ranges"] for s in range(first, last + 1)})
        held.update(range(line["seed"], line["seed"] + line.get("seeds", 1)))
        campaign["runs"] += line.get("seeds", 1)
        campaign["violations"] += line.get("violations", 1 if line["result"] == "violation" else 0)
        campaign["seconds"] = round(campaign["seconds"] + line["seconds"], 1)
        campaign["to"] = line["at"]
        add_counts(campaign["counts"], line["counts"])
        if campaign not in changed:
            changed.append(campaign)
    for campaign in changed:
        campaign["ranges"] = ranges(seeds[id(campaign)])
    if changed:
        CAMPAIGNS.write_text(json.dumps(sorted(known, key=lambda c: (c["suite"], c["from"])), indent=1) + "\n")
        path = out / f"{suite}.jsonl"
        path.rename(out / f"{suite}.merged-{datetime.now(UTC):%Y%m%dT%H%M%S%f}")
    return changed
