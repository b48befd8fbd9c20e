"""Kills every mutant with the simulator and prints a line each: `make mutants`.

    python -m mutants [--only NAME] [--seeds-max N]   hunts by the plan (mutants/src/plan.rs) and records with --record
    python -m mutants --replay                        the hooks' tests, then kills.toml's seeds first: CI's cut
    python -m mutants --list                          what there is

A survivor, or a violation without a mutant on the same seeds, ends it with status 1. Lines go to trust/out/mutants.jsonl.
"""

import argparse
import json
import os
import subprocess
import sys
import time
import tomllib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mutants.prepare import HERE, ROOT, prepare
from trust import results

KILLS = HERE / "kills.toml"
PAGE = ROOT / "docs" / "trust-mutants.md"
BEGIN, END = "<!-- results: written by `python -m mutants --record` -->", "<!-- end of results -->"
SUITE = "mutants"


def build() -> Path:
    """The program, built in a directory of its own below cargo's target directory."""
    prepare()
    base = Path(
        os.environ.get("CARGO_TARGET_DIR") or Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "taskquorum/target"
    )
    target = base / "mutants"
    cargo("build", HERE, target)
    return target / "release" / "mutants"


def test(target: Path) -> None:
    """The hooks' own tests: each changes what it should, and nothing without being chosen."""
    cargo("test", HERE, target)
    cargo("test", ROOT, target, "--locked", "--package", "mutant", "--features", "mutants")


def cargo(verb: str, workspace: Path, target: Path, *more: str) -> None:
    command = ["cargo", verb, "--release", "--quiet", "--manifest-path", str(workspace / "Cargo.toml")]
    subprocess.run([*command, "--target-dir", str(target), *more], check=True, cwd=ROOT)


def ask(program: Path, *words: str, stdin: str = "") -> list[dict[str, Any]]:
    """Runs the program and reads its lines."""
    done = subprocess.run([str(program), *words], input=stdin, check=True, capture_output=True, text=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def recorded() -> dict[str, dict[str, Any]]:
    return tomllib.loads(KILLS.read_text()) if KILLS.exists() else {}


def record(kills: dict[str, dict[str, Any]]) -> None:
    """Writes kills.toml: what was there for other mutants stays."""
    lines = ["# The seed that killed each mutant: written by `python -m mutants --record`, replayed by CI.", ""]
    for name, kill in kills.items():
        lines.append(f"[{name}]")
        lines += [f"{key} = {json.dumps(kill[key])}" for key in ("profile", "voters", "seed", "runs", "invariant")]
        lines.append("")
    KILLS.write_text("\n".join(lines))


def document(listed: list[dict[str, Any]], kills: dict[str, dict[str, Any]]) -> None:
    """Renews the table of docs/trust-mutants.md."""
    rows = ["| mutant | what it breaks | where | killed by | seed | seeds |", "|---|---|---|---|---|---|"]
    for mutant in listed:
        kill = kills.get(mutant["name"])
        end = (
            "survives | | "
            if kill is None
            else (f"{kill['invariant']} | {kill['seed']} ({kill['profile']}, {kill['voters']} voters) | {kill['runs']}")
        )
        rows.append(f"| `{mutant['name']}` | {mutant['breaks']} | {mutant['lives_in']} | {end} |")
    before, rest = PAGE.read_text().split(BEGIN)
    _, after = rest.split(END)
    found = f"{len(kills)} of {len(listed)} are killed; recorded at commit `{results.commit()}`, {datetime.now(UTC):%Y-%m-%d}."
    table = "\n".join(rows)
    PAGE.write_text(f"{before}{BEGIN}\n{table}\n\n{found}\n{END}{after}")


def save(line: dict[str, Any], seconds: float) -> None:
    """One line of the suite's raw results."""
    head = {"suite": SUITE, "commit": results.commit(), "machine": results.machine()}
    at = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
    results.append(results.OUT, SUITE, head | line | {"seconds": round(seconds, 1), "at": at})


def hunt(program: Path, number: int, name: str, seeds_max: int, known: dict[str, Any] | None) -> dict[str, Any]:
    """Hunts one mutant, prints its line and saves it."""
    began = time.monotonic()
    first = [str(known[key]) for key in ("profile", "voters", "seed")] if known else []
    (found,) = ask(program, "hunt", name, str(seeds_max), *first)
    seconds = time.monotonic() - began
    if found["killed"]:
        where = f"seed {found['seed']} ({found['profile']}, {found['voters']} voters) after {found['runs']} seeds"
        print(f"{name:<32} killed    by {found['invariant']:<28} {where}", flush=True)
    else:
        print(f"{name:<32} SURVIVED  {found['runs']} seeds", flush=True)
    counts = {"killed": int(found["killed"]), "seeds_tried": found["runs"]}
    line = {"seed": number, "mutant": name, "result": "ok" if found["killed"] else "violation", "counts": counts}
    save(line | {key: found[key] for key in ("profile", "voters", "invariant", "text") if key in found}, seconds)
    return found


def spans(listed: dict[str, Any], found: dict[str, Any], replayed: bool) -> list[tuple[str, int, int, int]]:
    """The runs that a hunt made: (profile, voters, first seed, last seed)."""
    made = found["runs"]
    out = []
    if replayed:
        known = recorded()[listed["name"]]
        out.append((known["profile"], known["voters"], known["seed"], known["seed"]))
        made -= 1
    for at, (profile, voters) in enumerate(listed["grounds"]):
        last = (made + len(listed["grounds"]) - 1 - at) // len(listed["grounds"])
        if last > 0:
            out.append((profile, voters, 1, last))
    return out


def control(program: Path, wanted: list[tuple[str, int, int, int]]) -> bool:
    """The same seeds without a mutant, each once. True if nothing is violated."""
    seeds: dict[tuple[str, int], set[int]] = {}
    for profile, voters, low, high in wanted:
        seeds.setdefault((profile, voters), set()).update(range(low, high + 1))
    spans = [(*ground, low, high) for ground, found in sorted(seeds.items()) for low, high in results.ranges(found)]
    began = time.monotonic()
    (found,) = ask(program, "control", stdin="\n".join(" ".join(map(str, span)) for span in spans))
    good = found["violations"] == 0
    print(f"{'no mutant':<32} {'0 violations' if good else 'VIOLATION'} in {found['runs']} seeds, the same ones", flush=True)
    if not good:
        print(f"  {found['invariant']}: seed {found['seed']} ({found['profile']}, {found['voters']} voters): {found['text']}")
    line = {"seed": 0, "mutant": "none", "result": "ok" if good else "violation", "counts": {"control_seeds": found["runs"]}}
    save(line, time.monotonic() - began)
    return good


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m mutants", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="this mutant; may be given again")
    parser.add_argument("--seeds-max", type=int, default=5_000, help="runs before a mutant counts as a survivor (5000)")
    parser.add_argument("--replay", action="store_true", help="try the recorded seeds of kills.toml first")
    parser.add_argument("--record", action="store_true", help="write what killed them to kills.toml")
    parser.add_argument("--list", action="store_true", help="print the mutants and where they are hunted")
    options = parser.parse_args()
    if options.seeds_max < 1:
        parser.error("--seeds-max: must be at least 1")
    program = build()
    if options.replay:
        test(program.parents[1])
    listed = ask(program, "list")
    if options.list:
        for mutant in listed:
            print(f"{mutant['name']:<32} {mutant['lives_in']:<24} {mutant['breaks']}")
        return 0
    unknown = set(options.only) - {mutant["name"] for mutant in listed}
    if unknown:
        parser.error(f"--only: no mutant is called {', '.join(sorted(unknown))}")
    kills = recorded()
    survivors, ran = [], []
    for number, mutant in enumerate(listed, 1):
        name = mutant["name"]
        if options.only and name not in options.only:
            continue
        replayed = options.replay and name in kills
        found = hunt(program, number, name, options.seeds_max, kills.get(name) if replayed else None)
        ran += spans(mutant, found, replayed)
        if not found["killed"]:
            survivors.append(name)
        elif options.record:
            kills[name] = found
    good = control(program, ran)
    if options.record:
        order = [mutant["name"] for mutant in listed]
        kept = {name: kills[name] for name in order if name in kills}
        record(kept)
        document(listed, kept)
    hunted = len(options.only) or len(listed)
    print(f"{hunted - len(survivors)} of {hunted} mutants killed" + (f"; survivors: {', '.join(survivors)}" if survivors else ""))
    return 1 if survivors or not good else 0


if __name__ == "__main__":
    sys.exit(main())
