"""A state of a given size, fast: batches of tasks whose payloads do not compress."""

import base64
import itertools
import random
import threading
import uuid

import orjson

from bench.cluster import Cluster

ITEM_BYTES = 8 << 10
BATCH_ITEMS = 250


def fill(cluster: Cluster, megabytes: float, item_bytes: int = ITEM_BYTES, threads: int = 3, seed: int = 1) -> list[str]:
    """Submits tasks of about `item_bytes` until their payloads come to `megabytes` MiB; returns their ids.

    Nobody takes tasks of this type, so they stay as they are. A batch that is pushed back is sent again.
    """
    batches = max(1, int(megabytes * (1 << 20) / item_bytes / BATCH_ITEMS + 0.5))
    numbers = itertools.count()
    ids: list[str] = []
    errors: list[BaseException] = []

    def work() -> None:
        try:
            while (number := next(numbers)) < batches and not errors:
                ids.extend(_batch(cluster, random.Random(seed * 1_000_003 + number), item_bytes))
        except BaseException as error:  # noqa: BLE001 — told by the caller's thread
            errors.append(error)

    workers = [threading.Thread(target=work) for _ in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    if errors:
        raise errors[0]
    return ids


def _batch(cluster: Cluster, choice: random.Random, item_bytes: int) -> list[str]:
    ids = [str(uuid.UUID(int=choice.getrandbits(128), version=4)) for _ in range(BATCH_ITEMS)]
    text = [base64.b64encode(choice.randbytes(item_bytes * 3 // 4)).decode() for _ in ids]
    body = orjson.dumps(
        [{"id": task, "task_type": "filling", "task_data": {"text": data}} for task, data in zip(ids, text, strict=True)]
    )
    for _ in range(200):
        node = choice.choice(cluster.alive)
        answer = node.try_call("POST", "/tasks/distributed", body, 60.0)
        if answer is not None and answer.status == 202:
            if any("error" in item for item in answer.body["items"]):
                raise RuntimeError(f"a task was refused: {answer.body['items'][0]}")
            return ids
    raise TimeoutError("no node takes a batch")
