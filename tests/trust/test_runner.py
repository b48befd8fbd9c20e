"""The runner of the suites: it counts, goes on where it stopped, and tells a broken promise from a broken suite."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from trust.runner import ERRORS_MAX, run
from trust.suite import Counts, RunOne, Suite, Violation

from trust import report, results


def suite_of(run_one: RunOne) -> Suite:
    return Suite(name="planted", id="R0", title="planted", full=10, cut=1, run_one=run_one)


def test_an_interrupted_count_goes_on_where_it_stopped(tmp_path: Path) -> None:
    ran: list[int] = []

    def run_one(seed: int, workdir: Path) -> Counts:
        if seed == 4 and 4 not in ran:
            ran.append(seed)
            raise KeyboardInterrupt
        ran.append(seed)
        return {"acknowledged": 10}

    with pytest.raises(KeyboardInterrupt):
        run(suite_of(run_one), 6, out=tmp_path)
    with (tmp_path / "planted.jsonl").open("a") as file:
        file.write('{"suite": "planted", "se')  # what a power loss leaves of a line
    totals = run(suite_of(run_one), 6, out=tmp_path)
    assert ran == [1, 2, 3, 4, 4, 5, 6]
    assert totals.runs == 3
    assert totals.counts == {"acknowledged": 30}


def test_a_violation_is_counted_and_its_files_are_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kept: list[Path] = []

    def run_one(seed: int, workdir: Path) -> Counts:
        (workdir / "log").write_text("what happened")
        if seed == 2:
            kept.append(workdir)
            raise Violation("one write is lost")
        return {}

    totals = run(suite_of(run_one), 3, out=tmp_path)
    assert (totals.runs, totals.violations, totals.errors) == (3, 1, 0)
    assert (kept[0] / "log").read_text() == "what happened"
    assert "python -m trust run planted --first 2 --count 1 --again" in capsys.readouterr().out
    assert [line["result"] for line in results.lines(tmp_path, "planted")] == ["ok", "violation", "ok"]


def test_an_error_of_the_suite_is_no_run(tmp_path: Path) -> None:
    def run_one(seed: int, workdir: Path) -> Counts:
        raise OSError("no port is free")

    totals = run(suite_of(run_one), 10, out=tmp_path)
    assert (totals.runs, totals.violations, totals.errors) == (0, 0, ERRORS_MAX)
    assert results.done(tmp_path, "planted") == set()


def test_a_shared_session_is_opened_again_after_a_violation(tmp_path: Path) -> None:
    opened = 0

    @contextmanager
    def session(directory: Path) -> Iterator[RunOne]:
        nonlocal opened
        opened += 1
        broken = opened == 1

        def run_one(seed: int, workdir: Path) -> Counts:
            if broken and seed == 2:
                raise Violation("this cluster is spoilt")
            return {"runs": 1}

        yield run_one

    totals = run(Suite("planted", "R0", "planted", 5, 1, session=session), 5, out=tmp_path)
    assert (opened, totals.runs, totals.violations) == (2, 5, 1)


def test_campaigns_add_up_and_the_table_names_their_seeds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "CAMPAIGNS", tmp_path / "campaigns.json")
    monkeypatch.setattr(report, "_title", lambda name: ("R0", "planted"))
    for first in (1, 3):
        for seed in (first, first + 1):
            line = {
                "suite": "planted",
                "seed": seed,
                "result": "ok",
                "counts": {"lost": 0, "acknowledged": 5, "shape": "ring", "seconds_max": seed},
            }
            line |= {"seconds": 1.0, "commit": "abc", "machine": "a box", "at": "2026-01-02T03:04:05Z"}
            results.append(tmp_path, "planted", line)
        results.merge(tmp_path, "planted")
    (campaign,) = json.loads((tmp_path / "campaigns.json").read_text())
    assert (campaign["runs"], campaign["ranges"], campaign["counts"]) == (
        4,
        [[1, 4]],
        {"lost": 0, "acknowledged": 20, "seconds_max": 4},
    )
    row = next(line for line in report.table([campaign]).splitlines() if "planted" in line)
    assert row == "| R0 | planted · ring | 4 | 0 | 0 lost, 20 acknowledged, 4 seconds at most | 1–4 | `abc` | 2026-01-02 |"


def test_a_record_names_the_build_that_ran(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Scenario: the checkout moved on after the build → the record names what is installed, not the checkout."""
    monkeypatch.setattr("sys.prefix", str(tmp_path))
    (tmp_path / ".built-from").write_text("0123abcde+\n")
    assert results.commit() == "0123abcde+"
