"""Starts three real nodes, runs the Locust users against them without a browser, and fails on any failed request.

python -m loadtest.run [--users 24] [--seconds 30] [--out loadtest/out]
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

from bench.cluster import Cluster

HERE = Path(__file__).resolve().parent


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, default=24)
    parser.add_argument("--seconds", type=int, default=30)
    parser.add_argument("--out", type=Path, default=HERE / "out")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    with Cluster(3) as cluster:
        cluster.leader()
        servers = ",".join(node.url for node in cluster.nodes.values())
        command = [sys.executable, "-m", "locust", "-f", str(HERE / "locustfile.py"), "--headless", "--only-summary"]
        command += ["-u", str(given.users), "-r", str(given.users), "-t", f"{given.seconds}s"]
        command += ["--csv", str(given.out / "load"), "--html", str(given.out / "load.html"), "--exit-code-on-error", "1"]
        done = subprocess.run(command, env={**os.environ, "TASKQUORUM_SERVERS": servers}, check=False)
        status = cluster.leader().call("GET", "/cluster/status").body
        print(
            f"tasks by status: { {name: count for name, count in status['tasks'].items() if count} }, alerts: {status['alerts']}"
        )
    print(f"written: {given.out / 'load.html'}")
    return done.returncode or bool(status["alerts"])


if __name__ == "__main__":
    sys.exit(main())
