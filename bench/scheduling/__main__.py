"""`python -m bench.scheduling SET --data DIR --json OUT`: one set through the policy; SCHEDULING §8 is the contract.

Ends with 0 also when marks are missed, with 2 when the input cannot be read.
"""

import argparse
import importlib
import sys
from pathlib import Path

from bench.scheduling.contract import BadInput, Decisions, Request

SETS = ("gap", "stg", "wf", "openb", "lublin", "azure", "match", "bind", "fair", "balance", "kernels")


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(","))


def main(arguments: list[str] | None = None) -> int:
    """Runs one set; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench.scheduling", description=__doc__)
    parser.add_argument("set", choices=SETS)
    parser.add_argument("--data", type=Path, help="the set's own folder")
    parser.add_argument("--json", type=Path, required=True, help="where the report goes")
    parser.add_argument("--decisions", type=Path, help="where the decisions go, a JSON line each")
    parser.add_argument("--seeds", type=_numbers, help="seeds, with commas")
    parser.add_argument("--starts", type=_numbers, help="first rows of the sequences, with commas")
    parser.add_argument("--budget-ms", type=float, help="time for one decision")
    told = parser.parse_args(arguments)
    run = importlib.import_module(f"bench.scheduling.{told.set}").run
    file = told.decisions.open("wb") if told.decisions else None
    try:
        report = run(Request(told.data, told.seeds, told.starts, told.budget_ms, Decisions(file)))
    except BadInput as error:
        print(f"{told.set}: {error}", file=sys.stderr)
        return 2
    finally:
        if file is not None:
            file.close()
    told.json.write_bytes(report.json())
    print(report.text())
    return 0


if __name__ == "__main__":
    sys.exit(main())
