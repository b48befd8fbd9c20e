"""An agent of the SDK in a process of its own, for suites that stop it: holds each task until its file appears.

    python -m trust.worker --servers URL,URL --id NAME --type TYPE

A task's data is `{"until": PATH}`. The result says which attempt of which agent it was.
"""

import argparse
import time
from pathlib import Path
from typing import Any

from taskquorum import Agent
from taskquorum.context import Context
from taskquorum.process import die_with_parent

LOOK_S = 0.02
HOLD_S = 120.0


def main() -> None:
    """Runs until SIGTERM."""
    die_with_parent()
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--servers", required=True)
    parser.add_argument("--id", required=True)
    parser.add_argument("--type", required=True)
    arguments = parser.parse_args()
    agent = Agent(arguments.servers.split(","), id=arguments.id, slots=4, drain_grace_s=1.0)

    def hold(context: Context, data: dict[str, Any]) -> dict[str, Any]:
        # Deaf to the loss of its lease on purpose: what it returns too late must be refused by the cluster.
        deadline = time.monotonic() + HOLD_S
        while not Path(data["until"]).exists() and time.monotonic() < deadline:
            time.sleep(LOOK_S)
        return {"agent": arguments.id, "epoch": context.fence}

    agent.add(arguments.type, hold)
    agent.run()


if __name__ == "__main__":
    main()
