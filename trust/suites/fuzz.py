"""R10: libFuzzer on everything that reads bytes from a disk or a peer, one minute of one target a run.

Needs cargo-fuzz (`cargo install cargo-fuzz`). The corpora stay in fuzz/corpus, so that each run starts from what earlier ones
found; a crash keeps its input in fuzz/artifacts.
"""

import os
import re
import shutil
import subprocess
from pathlib import Path

from trust.results import ROOT
from trust.suite import Counts, Skip, Suite, Violation

TARGETS = ("frames", "stream", "log_record", "commands", "snapshot_rows")
SECONDS = 60
BUILD_TIMEOUT_S = 1800


def fuzz(target: str, seed: int, seconds: int) -> int:
    """Runs a target and returns how many inputs it was given. Raises Violation with the crash."""
    if shutil.which("cargo-fuzz") is None:
        raise Skip("cargo-fuzz is not installed: cargo install cargo-fuzz")
    subprocess.run(["python3", str(ROOT / "fuzz" / "seeds.py")], check=True)
    # The sanitizers' flags are unstable; this lets the stable compiler take them.
    environment = {**os.environ, "RUSTC_BOOTSTRAP": "1", "CARGO_TARGET_DIR": str(ROOT / "fuzz" / "target")}
    command = ["cargo", "fuzz", "run", "--fuzz-dir", "fuzz", target, "--"]
    command += [f"-max_total_time={seconds}", f"-seed={seed}", "-print_final_stats=1", "-timeout=20", "-rss_limit_mb=4096"]
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, errors="replace", timeout=BUILD_TIMEOUT_S + seconds
    )
    executed = re.search(r"number_of_executed_units: (\d+)", done.stderr)
    if done.returncode != 0 and ("SUMMARY" in done.stderr or "panicked" in done.stderr):
        raise Violation(f"{target}: {done.stderr[-3000:]}")
    if done.returncode != 0 or executed is None:
        raise RuntimeError(done.stderr[-2000:])
    return int(executed.group(1))


def run_one(seed: int, workdir: Path) -> Counts:
    target = TARGETS[seed % len(TARGETS)]
    return {"shape": target, "inputs": fuzz(target, seed, SECONDS), "seconds_fuzzed": SECONDS}


SUITE = Suite(name="fuzz", id="R10", title="libFuzzer, a minute a run", full=1440, cut=0, run_one=run_one)
