"""What a task costs with 3, 5 and 7 voters: `python -m bench.voters [--tasks N] [--voters 3,5,7]`.

Clusters of that many real processes, one after the other, take the same tasks by the same clients through all nodes; agents
are left out, so that the figure is what consensus and state cost. It prints CPU seconds of all processes, and of the leader,
for 1,000 acknowledged tasks, and each figure's ratio to the first. All nodes share this machine: the sum is the cost, the
leader's share is what a machine of its own would carry.
"""

import argparse
import asyncio
import json
import os
import time

import orjson

from bench.cluster import Cluster, Node, cpu_seconds
from bench.wire import Connection

CLIENTS = 16
WARM_TASKS = 300


async def submit(nodes: list[Node], tasks: int, clients: int = CLIENTS) -> None:
    """Submits so many tasks, one a request; each client goes to its own node. Raises RuntimeError on a refusal."""
    body = orjson.dumps({"task_type": "voters", "task_data": {"text": "x" * 100}})
    left = iter(range(tasks))

    async def client(node: Node) -> None:
        connection = Connection(node.host, node.http_port)
        try:
            for _ in left:
                status, raw = await connection.call("POST", "/tasks/distributed", body)
                if status != 202:
                    raise RuntimeError(f"{node.name}: {status} {raw[:200]!r}")
        finally:
            connection.close()

    async with asyncio.TaskGroup() as group:
        for number in range(clients):
            group.create_task(client(nodes[number % len(nodes)]))


def measure(voters: int, tasks: int) -> dict[str, float]:
    """CPU seconds for 1,000 tasks: of all processes and of the leader; and tasks a second."""
    with Cluster(voters) as cluster:
        leader = cluster.leader()
        nodes = list(cluster.nodes.values())
        asyncio.run(submit(nodes, WARM_TASKS))
        pids = [node.pid for node in nodes]
        before, before_leader = cpu_seconds(pids), cpu_seconds([leader.pid])
        began = time.monotonic()
        asyncio.run(submit(nodes, tasks))
        took = time.monotonic() - began
        per = 1000 / tasks
        if cluster.leader() is not leader:
            raise RuntimeError("leadership moved while it was measured: measure again")
        return {
            "voters": voters,
            "all_cpu_s": round((cpu_seconds(pids) - before) * per, 3),
            "leader_cpu_s": round((cpu_seconds([leader.pid]) - before_leader) * per, 3),
            "tasks_per_s": round(tasks / took, 1),
        }


def main() -> None:
    """Measures and prints one line a cluster, or one JSON array with `--json`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=5_000)
    parser.add_argument("--voters", default="3,5,7")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rows = [measure(int(count), options.tasks) for count in options.voters.split(",")]
    for row in rows:
        row["all_ratio"] = round(row["all_cpu_s"] / rows[0]["all_cpu_s"], 2)
        row["leader_ratio"] = round(row["leader_cpu_s"] / rows[0]["leader_cpu_s"], 2)
    if options.json:
        print(json.dumps(rows))
        return
    print(f"CPU seconds for 1,000 tasks, {options.tasks} tasks, {CLIENTS} clients, {os.cpu_count()} cores")
    for row in rows:
        print(
            f"{row['voters']} voters: all processes {row['all_cpu_s']:.3f} s (x {row['all_ratio']:.2f}), "
            f"leader {row['leader_cpu_s']:.3f} s (x {row['leader_ratio']:.2f}), {row['tasks_per_s']:.0f} tasks/s"
        )


if __name__ == "__main__":
    main()
