"""Runs the simulator's seeds in chunks and records each (`trust/out/sim.jsonl`), so that a long count goes on where it stopped.

    python -m trust.simulate BINARY --seeds N --first K [--profile all] [--voters 3,5,7] [--threads 2]

The last line is `n seeds, v violations`, over all seeds asked for, those on record included. A seed fixes its profile and
its number of voters by its place in the rotation, so that a count over the default shape covers all of them evenly.
"""

import argparse
import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from trust import results

DEFAULT = ("all", "3,5,7")
CHUNK = 500


def shape_of(profile: str, voters: str) -> str:
    """Empty for the default rotation."""
    return "" if (profile, voters) == DEFAULT else f"{profile} {voters}"


def recorded(out: Path, shape: str) -> tuple[set[int], int]:
    """Seeds of this shape that were run, and the violations among them."""
    seeds: set[int] = set()
    violations = 0
    for line in results.lines(out, "sim"):
        if line["counts"].get("shape", "") == shape:
            seeds.update(range(line["seed"], line["seed"] + line["seeds"]))
            violations += line["violations"]
    for campaign in results.campaigns():
        if (campaign["suite"], campaign["shape"]) == ("sim", shape):
            seeds.update(seed for first, last in campaign["ranges"] for seed in range(first, last + 1))
            violations += campaign["violations"]
    return seeds, violations


def chunks(todo: list[int], longest: int) -> list[tuple[int, int]]:
    """(first, count) of runs of consecutive seeds, at most `longest` each."""
    found: list[tuple[int, int]] = []
    for first, last in results.ranges(todo):
        found += [(at, min(longest, last + 1 - at)) for at in range(first, last + 1, longest)]
    return found


def run_chunk(arguments: argparse.Namespace, first: int, count: int) -> dict[str, Any]:
    """Runs the binary on one chunk and returns what it counted; its other output is passed on.

    Raises `RuntimeError` if it ended without a count.
    """
    command = [arguments.binary, "--first", str(first), "--seeds", str(count), "--threads", str(arguments.threads), "--json"]
    command += ["--profile", arguments.profile, "--voters", arguments.voters]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    counted = None
    for text in ended.stdout.splitlines():
        if text.startswith("{"):
            counted = json.loads(text)
        elif "VIOLATION" in text or text.startswith("  "):
            print(text, flush=True)
    if counted is None:
        raise RuntimeError(f"{' '.join(command)} ended with {ended.returncode}: {ended.stderr.strip()}")
    return dict(counted)


def main() -> int:
    """Runs what is not on record; 1 if any seed broke a promise."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("binary")
    parser.add_argument("--seeds", type=int, default=1_000)
    parser.add_argument("--first", type=int, default=1)
    parser.add_argument("--profile", default=DEFAULT[0])
    parser.add_argument("--voters", default=DEFAULT[1])
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--chunk", type=int, default=CHUNK)
    parser.add_argument("--out", type=Path, default=results.OUT)
    arguments = parser.parse_args()
    shape = shape_of(arguments.profile, arguments.voters)
    known, violations = recorded(arguments.out, shape)
    wanted = range(arguments.first, arguments.first + arguments.seeds)
    todo = [seed for seed in wanted if seed not in known]
    commit, machine = results.commit(), results.machine()
    if len(todo) < len(wanted):
        print(f"sim: {len(wanted) - len(todo)} of {len(wanted)} seeds are on record, {len(todo)} to go", flush=True)
    for first, count in chunks(todo, arguments.chunk):
        counted = run_chunk(arguments, first, count)
        violations += counted["violations"]
        line = {
            "suite": "sim",
            "seed": first,
            "seeds": count,
            "result": "violation" if counted["violations"] else "ok",
            "violations": counted["violations"],
            "counts": {**counted["counts"], "shape": shape},
            "seconds": counted["seconds"],
            "commit": commit,
            "machine": machine,
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        results.append(arguments.out, "sim", line)
        rate = count / max(counted["seconds"], 0.001)
        print(f"sim: seeds {first}–{first + count - 1}: {counted['violations']} violations, {rate:.1f} seeds/s", flush=True)
    print(f"{len(wanted)} seeds, {violations} violations")
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main())
