"""The command line of the suites."""

import argparse
import tempfile
from pathlib import Path

from trust import report, results, suites
from trust.runner import run
from trust.suite import Skip

EXIT_VIOLATION = 1
EXIT_ERROR = 2


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m trust", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    runs = commands.add_parser("run", help="run suites; without names all of them")
    runs.add_argument("names", nargs="*", metavar="NAME", help=f"of: {', '.join(suites.names())}")
    runs.add_argument("--count", type=int, help="how many seeds (default: the suite's full count)")
    runs.add_argument("--first", type=int, default=1, help="the first seed (default 1)")
    runs.add_argument("--cut", action="store_true", help="the small count that CI runs, afresh and not recorded")
    runs.add_argument("--again", action="store_true", help="run seeds that are on record, too, and do not record them")
    runs.add_argument(
        "--budget", type=float, metavar="SECONDS", help="stop each suite after this time; the rest is run next time"
    )
    commands.add_parser("list", help="the suites with their counts")
    commands.add_parser("report", help="move what was run into docs/trust-results.json and renew the table of docs/trust.md")
    arguments = parser.parse_args()
    if arguments.command == "list":
        for suite in map(suites.load, suites.names()):
            print(f"{suite.id:4} {suite.name:14} {suite.full:7} {suite.cut:4}  {suite.title}")
        return 0
    if arguments.command == "report":
        return report.write()
    return _run(arguments)


def _run(arguments: argparse.Namespace) -> int:
    worst = 0
    for suite in map(suites.load, arguments.names or suites.names()):
        count = arguments.count or (suite.cut if arguments.cut else suite.full)
        with tempfile.TemporaryDirectory(prefix="taskquorum-trust-out-") as scratch:
            out = Path(scratch) if arguments.cut or arguments.again else results.OUT
            try:
                totals = run(suite, count, arguments.first, out, arguments.budget)
            except Skip as skip:
                print(f"{suite.name}: SKIPPED: {skip}", flush=True)
                continue
        if totals.violations:
            worst = max(worst, EXIT_VIOLATION)
        elif totals.errors:
            worst = max(worst, EXIT_ERROR)
    return worst
