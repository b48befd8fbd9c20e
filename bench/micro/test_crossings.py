"""Python ↔ Rust on one real node with its disk: proposals, reads, completions; and what apply takes inside."""

import json
import select
import uuid
from collections.abc import Iterator

import pytest
from bench.cluster import disk_directory

from taskquorum._native import Node


class Driver:
    """A cluster of one node and the wait for a token's completion."""

    def __init__(self, node: Node) -> None:
        self.node = node

    def propose(self, commands: bytes) -> tuple[object, ...]:
        token = self.node.propose(commands, 10_000)
        while True:
            select.select([self.node.notify_fd()], [], [], 10)
            for notice in self.node.drain(1024):
                if notice[:2] == (0, token):
                    assert notice[2] == 0, notice
                    return notice


@pytest.fixture(scope="module")
def driver() -> Iterator[Driver]:
    node = Node(json.dumps({"node_id": "bench", "data_dir": str(disk_directory("taskquorum-bench-"))}).encode())
    node.start()
    yield Driver(node)
    node.stop(5000)


def submits(count: int) -> tuple[list[uuid.UUID], bytes]:
    ids = [uuid.uuid4() for _ in range(count)]
    items = [
        {"submit": {"tenant": "default", "tasks": [{"id": str(task), "task_type": "t", "payload": {"text": "x" * 64}}]}}
        for task in ids
    ]
    return ids, json.dumps(items).encode()


@pytest.mark.parametrize("count", [1, 100, 1000])
def test_propose_commit_apply_complete(benchmark, driver: Driver, count: int) -> None:
    """From JSON to the completion, the fsync of one voter included."""
    benchmark.pedantic(driver.propose, setup=lambda: ((submits(count)[1],), {}), rounds=30, warmup_rounds=3)


def test_read_a_task(benchmark, driver: Driver) -> None:
    ids, commands = submits(1)
    driver.propose(commands)
    revision, body = benchmark(driver.node.task, ids[0].bytes, False, False)
    assert revision > 0 and body


def test_list_a_hundred_tasks(benchmark, driver: Driver) -> None:
    driver.propose(submits(100)[1])
    query = json.dumps({"tenant": "default", "limit": 100, "count": False}).encode()
    _, body, _, _ = benchmark(driver.node.tasks, query)
    assert len(json.loads(body)) == 100


def test_machine_apply(benchmark, driver: Driver) -> None:
    """Apply inside the node, by its own histogram; the timed part is the whole proposal of 1,000 submits."""
    benchmark.pedantic(driver.propose, setup=lambda: ((submits(1000)[1],), {}), rounds=10)
    told = json.loads(driver.node.counters())
    benchmark.extra_info.update({name: told[name] for name in ("apply_us", "apply_batch_entries", "fsync_us")})
    assert told["apply_us"]["count"] > 0


def test_drain_with_nothing_to_take(benchmark, driver: Driver) -> None:
    assert benchmark(driver.node.drain, 1024) is not None
