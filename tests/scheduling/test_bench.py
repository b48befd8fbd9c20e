"""The scheduling bench on generated loads: its contract, and that it measures the policy and not itself.

The sets of the public data have tests of their own where the data lies beside the project.
"""

import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from bench.scheduling import fair, lublin
from bench.scheduling.__main__ import main
from bench.scheduling.engine import waits_s
from bench.scheduling.generate_swf import trace

from taskquorum.scheduling import columns as col

SHARED = ROOT.parent / "shared" / "data"


@pytest.fixture
def swf(tmp_path: Path) -> Path:
    folder = tmp_path / "trace"
    folder.mkdir()
    (folder / "jobs.swf").write_text(trace(3, 1500, nodes=64))
    return folder


def test_the_report_is_what_the_contract_says(swf: Path, tmp_path: Path) -> None:
    out, decisions = tmp_path / "out.json", tmp_path / "decisions.ndjson"
    assert main(["lublin", "--data", str(swf), "--json", str(out), "--decisions", str(decisions), "--starts", "0,400"]) == 0
    report = json.loads(out.read_text())
    assert set(report) == {
        "set", "commit", "constants_sha256", "machine", "simulated", "seeds", "rows", "summary", "marks", "skipped",
    }  # fmt: skip
    assert report["set"] == "lublin" and report["simulated"] is True
    row = report["rows"][0]
    assert set(row) == {"instance", "variant", "seed", "policy", "feasible", "value", "bound", "metric", "decide_ms"}
    assert set(report["marks"][0]) == {"id", "group", "value", "limit", "pass"}
    lines = [json.loads(line) for line in decisions.read_text().splitlines()]
    ours = [line for line in lines if line["policy"] == "ours" and line["variant"] == "exact-0"]
    assert len(ours) == lublin.JOBS and all(line["start"] <= line["end"] for line in ours)


@pytest.mark.parametrize("damage", ["", "; MaxNodes: many\n", "; MaxNodes: 4\n1 0 x\n", "; MaxNodes: 4\n1 0 0 5 9 0 0 9 5\n"])
def test_unreadable_input_ends_with_two_and_names_the_file(damage: str, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "broken.swf").write_text(damage)
    assert main(["lublin", "--data", str(tmp_path), "--json", str(tmp_path / "out.json")]) == 2
    assert "broken.swf" in capsys.readouterr().err


def test_no_job_starts_early_and_the_machine_is_never_overfull() -> None:
    jobs, nodes = _jobs(5, 600)
    for order in (col.BY_AREA, col.BY_SUBMIT, col.BY_CHANCE):
        engine = lublin.simulate(jobs, nodes, order, told=True)
        assert waits_s(engine.tasks).min() >= 0
        changes = [(task.end_us, 0, -job.processors) for task, job in zip(engine.tasks, jobs, strict=True)]
        changes += [(task.start_us, 1, job.processors) for task, job in zip(engine.tasks, jobs, strict=True)]
        used = most = 0
        for _, _, change in sorted(changes):
            used += change
            most = max(most, used)
        assert most <= nodes


def test_without_the_products_order_the_bench_falls_to_its_baselines() -> None:
    """Swapping the order for FIFO or chance makes the slowdown and the fairness worse: it is the policy that is measured."""
    jobs, nodes = _jobs(7, 1024)
    ours, fifo, chance = (
        lublin.slowdown(lublin.simulate(jobs, nodes, order, told=True)) for order in (col.BY_AREA, col.BY_SUBMIT, col.BY_CHANCE)
    )
    assert ours < 0.8 * fifo and ours < 0.8 * chance


def test_a_flood_takes_nothing_from_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fair, "WINDOWS", 1)
    monkeypatch.setattr(fair, "SPAN_S", fair.WARM_S + fair.WINDOW_S)
    assert min(fair.jain(fair.simulate(1, True, col.BY_AREA), range(fair.TENANTS))) >= fair.JAIN_MIN
    assert max(fair.jain(fair.simulate(1, True, col.BY_SUBMIT), range(fair.TENANTS))) < 0.6


def _jobs(seed: int, count: int) -> tuple[list[lublin.Job], int]:
    lines = trace(seed, count, nodes=64).splitlines()
    cells = [list(map(int, line.split())) for line in lines[1:]]
    # A sixth of the gaps, so that jobs wait.
    return [lublin.Job(c[0], c[1] // 6, c[3], c[7], c[8]) for c in cells], 64
